//! gatefold itself; `PEER_DEVICE` chooses the device as the command's `--device` does, `PEER_PRECISION` the weights'
//! format, `PEER_THREADS` the CPU device's threads.

mod training;

use exchange::{Case, Result};
use gatefold::{CpuOptions, Device, DeviceChoice, Input, Network, Output, Session};

fn main() -> Result<()> {
    let case = Case::from_arguments()?;
    let choice = std::env::var("PEER_DEVICE").unwrap_or_else(|_| "auto".into()).parse()?;
    let device = match choice {
        DeviceChoice::Cpu => Device::cpu_with(CpuOptions { threads: exchange::threads()?, ..CpuOptions::default() })?,
        _ => Device::open(&choice)?,
    };
    if let Some(labels) = &case.labels {
        return training::measure(&case, labels, &device);
    }
    let network = Network::load(case.folder.join("weights.safetensors"))?;
    let network = network.with_weights(exchange::precision().parse()?)?;
    let session = Session::new(&device, &network)?;
    let mut kept: Option<Output> = None;
    let run = |to: &mut Vec<f32>| {
        let input = Input::features(&case.input.data, case.sizes());
        match &mut kept {
            Some(output) => session.run_into(input, None, output)?,
            None => kept = Some(session.run(input, None)?),
        }
        if let Some(output) = &mut kept {
            std::mem::swap(to, &mut output.values);
        }
        Ok(())
    };
    case.measure(env!("CARGO_PKG_VERSION"), &name(&device), run)
}

fn name(device: &Device) -> String {
    let info = device.info();
    format!("{info}, {}", info.driver).trim_end_matches(", ").to_string()
}
