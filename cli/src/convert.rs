//! `gatefold convert`: a network of any readable format as gatefold's own.

use gatefold::Network;

use crate::Result;
use crate::args::ConvertArgs;
use crate::report::Report;
use crate::units::{bytes, count};

/// Reads, writes, and reads back what was written.
pub fn run(args: &ConvertArgs) -> Result<Report> {
    let (input, output) = (args.input.display(), args.output.display());
    if args.output.extension().is_none_or(|extension| extension != "safetensors") {
        return Err(format!("{output}: expected a name that ends with .safetensors").into());
    }
    if !args.force && args.output.try_exists()? {
        return Err(format!("{output}: exists already; --force overwrites it").into());
    }
    let network = Network::load(&args.input)?;
    network.save(&args.output)?;
    if Network::load(&args.output)? != network {
        return Err(format!("{output}: reads back as another network than was written").into());
    }
    let size = std::fs::metadata(&args.output)?.len();
    let layers = count(network.spec().layers.len(), "layer");
    Ok(Report::new(format!(
        "read   {input}: {layers}, {}\nwrote  {output}: {}\n",
        count(network.parameters(), "parameter"),
        bytes(size)
    )))
}
