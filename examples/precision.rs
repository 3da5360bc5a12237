//! Errors that smaller weights and f16 arithmetic cause: the table of docs/precision.md.
//!
//! `cargo run --release --example precision [DEVICE]`: errors against the f64 reference of the
//! network before rounding. f16 arithmetic and matrix units run on the device, if it can.

use gatefold::network::{Cell, LayerSpec, RecurrentSpec};
use gatefold::unstable::reference::Reference;
use gatefold::{
    Arithmetic, Device, DeviceChoice, DeviceOptions, Network, NetworkSpec, PlanOptions, RandomInput, Session, Strategy,
    WeightFormat,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[allow(clippy::print_stdout, reason = "an example talks")]
fn main() -> Result<()> {
    let choice = match std::env::args_os().nth(1) {
        Some(word) => word.to_str().ok_or_else(|| format!("expected UTF-8, got {word:?}"))?.parse()?,
        None => DeviceChoice::Auto,
    };
    let device = Device::open_with(&choice, DeviceOptions::default().matrix_units(true))?;
    println!("f16 arithmetic and matrix units on {} {}\n", device.info(), device.info().driver);
    println!("| cell | H | T | f16 weights | int8 weights | f16 weights and arithmetic | f16 weights, matrix units |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for cell in [Cell::Lstm, Cell::Gru, Cell::Rnn] {
        for hidden in [64, 128, 512] {
            for steps in [25, 100] {
                let network = network(cell, hidden)?;
                let input = RandomInput::new(&network, steps, 2, 1)?;
                let run = |network: &Network| -> Result<Vec<f64>> {
                    let forward = Reference::<f64>::new(network).forward(input.as_input(), None)?;
                    Ok(forward.stages.into_iter().next_back().unwrap_or_default())
                };
                let exact = run(&network)?;
                let half = network.with_weights(WeightFormat::F16)?;
                let int8 = network.with_weights(WeightFormat::Int8)?;
                let on_device = |options: PlanOptions| -> Result<String> {
                    Ok(match Session::with_options(&device, &half, options) {
                        Ok(session) if session.arithmetic() == options.arithmetic => {
                            let values = session.run(input.as_input(), None)?.values;
                            error(&exact, values.iter().map(|&x| x.into()))
                        }
                        _ => "-".into(),
                    })
                };
                let arithmetic = on_device(PlanOptions::default().arithmetic(Arithmetic::F16))?;
                let matrix = PlanOptions::default().arithmetic(Arithmetic::Matrix).strategy(Strategy::Tile);
                let matrix = on_device(matrix)?;
                let [half, int8] = [run(&half)?, run(&int8)?].map(|got| error(&exact, got.into_iter()));
                println!("| {} | {hidden} | {steps} | {half} | {int8} | {arithmetic} | {matrix} |", cell.name());
            }
        }
    }
    Ok(())
}

/// Weights as PyTorch initializes them, uniform in ±1/sqrt(H).
fn network(cell: Cell, hidden: usize) -> Result<Network> {
    let layer = RecurrentSpec::new("cell", hidden, hidden);
    let layer = LayerSpec::of_cell(cell, layer);
    Ok(Network::random(NetworkSpec { format: 1, layers: vec![layer], text: None, labels: Vec::new() }, 7)?)
}

/// Largest difference.
fn error(exact: &[f64], got: impl Iterator<Item = f64>) -> String {
    format!("{:.1e}", exact.iter().zip(got).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max))
}
