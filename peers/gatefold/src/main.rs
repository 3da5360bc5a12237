//! gatefold itself; `PEER_DEVICE` chooses the device as the command's `--device` does.

use exchange::{Case, Result};
use gatefold::{Device, Input, Network, Session};

fn main() -> Result<()> {
    let case = Case::from_arguments()?;
    let choice = std::env::var("PEER_DEVICE").unwrap_or_else(|_| "auto".into()).parse()?;
    let device = Device::open(&choice)?;
    let network = Network::load(case.folder.join("weights.safetensors"))?;
    let session = Session::new(&device, &network)?;
    let [hidden, batch, steps] = case.sizes();
    let run = || Ok(session.run(Input::features(&case.input.data, [steps, batch, hidden]), None)?.values);
    case.measure(env!("CARGO_PKG_VERSION"), &device.info().to_string(), run)
}
