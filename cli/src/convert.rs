//! `gatefold convert`: converts a file to gatefold's own format.

use std::io::ErrorKind;

use gatefold::{Error, Network, WeightFormat, files};

use crate::Result;
use crate::args::ConvertArgs;
use crate::report::Report;
use crate::source;
use crate::units::{bytes, count};

/// Reads the network, writes it, and checks that the file reads back as the same network.
pub fn run(args: &ConvertArgs) -> Result<Report> {
    let (input, output) = (args.input.display(), args.output.display());
    if args.output.extension().is_none_or(|extension| extension != "safetensors") {
        return Err(format!("{output}: expected a name that ends with .safetensors").into());
    }
    let taken = || format!("{output}: exists already; --force overwrites it");
    // A dangling symbolic link counts as an existing file.
    if !args.force && args.output.symlink_metadata().is_ok() {
        return Err(taken().into());
    }
    let read = source::network(Some(&args.input))?;
    let rounded = args.weights.map(|format| read.with_weights(format)).transpose()?;
    let network = rounded.as_ref().unwrap_or(&read);
    let content = network.to_bytes()?;
    if Network::from_bytes("network", &content)? != *network {
        return Err(format!("{output}: the file would read back as another network, so it was not written").into());
    }
    if args.force {
        files::write(&args.output, &content)?;
    } else {
        files::write_new(&args.output, &content).map_err(|error| match error {
            Error::Io { source, .. } if source.kind() == ErrorKind::AlreadyExists => taken().into(),
            error => Box::<dyn std::error::Error>::from(error),
        })?;
    }
    let (before, after) = (std::fs::metadata(&args.input)?.len(), content.len() as u64);
    let layers = count(network.spec().layers.len(), "layer");
    let parameters = count(network.parameters(), "parameter");
    let mut text =
        format!("read   {input}: {layers}, {parameters}, {}\nwrote  {output}: {}\n", bytes(before), bytes(after));
    if let Some(format) = args.weights {
        text += &format!("{}\n", rounding(&read, network, format));
    }
    Ok(Report::new(text))
}

/// The largest difference between the matrices in `format` and those that were read.
fn rounding(read: &Network, written: &Network, format: WeightFormat) -> String {
    let (mut numbers, mut matrices, mut largest, mut squares) = (0.0f64, 0, 0.0f64, 0.0f64);
    for (name, tensor) in written.tensors().iter().filter(|(_, tensor)| tensor.format() == format) {
        let Some(before) = read.tensors().get(name) else { continue };
        matrices += 1;
        for (&x, &y) in before.data().iter().zip(tensor.data()) {
            let error = (f64::from(x) - f64::from(y)).abs();
            (numbers, largest, squares) = (numbers + 1.0, largest.max(error), squares + error * error);
        }
    }
    let rms = (squares / numbers.max(1.0)).sqrt();
    format!("       {} as {format}; rounding error at most {largest:.1e}, {rms:.1e} RMS", count(matrices, "tensor"))
}
