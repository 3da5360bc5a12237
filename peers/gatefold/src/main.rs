//! gatefold itself; `PEER_DEVICE` chooses the device as the command's `--device` does, `PEER_PRECISION` the weights'
//! format, `f32` or `f16`.

use exchange::{Case, Result};
use gatefold::{Device, Input, Network, Session, WeightFormat};

fn main() -> Result<()> {
    let case = Case::from_arguments()?;
    let choice = std::env::var("PEER_DEVICE").unwrap_or_else(|_| "auto".into()).parse()?;
    let device = Device::open(&choice)?;
    let network = Network::load(case.folder.join("weights.safetensors"))?;
    let network = match std::env::var("PEER_PRECISION").as_deref() {
        Ok("f16") => network.with_weights(WeightFormat::F16)?,
        Ok("f32") | Err(_) => network,
        Ok(other) => return Err(format!("PEER_PRECISION: expected f32 or f16, got {other}").into()),
    };
    let session = Session::new(&device, &network)?;
    let [hidden, batch, steps] = case.sizes();
    let run = || Ok(session.run(Input::features(&case.input.data, [steps, batch, hidden]), None)?.values);
    let info = device.info();
    let name = format!("{info}, {}", info.driver);
    case.measure(env!("CARGO_PKG_VERSION"), name.trim_end_matches(", "), run)
}
