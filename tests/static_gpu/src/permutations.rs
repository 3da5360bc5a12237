//! The kernels that plans choose, each with its constants: networks of every cell, over formats, sizes and batches.

use std::collections::HashSet;

use gatefold::network::WeightFormat;
use gatefold::unstable::plan::{Constants, Kernel, PlanParts};
use gatefold::{Arithmetic, Network, Plan, PlanLimits, PlanOptions, RunShape, Strategy};

/// A kernel with its constants.
#[derive(Clone, Debug)]
pub struct Permutation {
    /// The network, the shape and the strategy of the first plan that has it.
    pub plan: String,
    /// The same, and the kernel's name.
    pub name: String,
    pub kernel: Kernel,
    pub constants: Constants,
    /// Workgroups of the first plan that has it.
    pub workgroups: [u32; 3],
}

const FORMATS: [WeightFormat; 3] = [WeightFormat::F32, WeightFormat::F16, WeightFormat::Int8];
/// Layers beside the LSTM and the GRU that are asked for at one size each.
const OTHERS: [(&str, &str); 12] = [
    ("rnn", ""),
    ("gru", r#","reset_after":false"#),
    ("lstm", r#","proj_size":64"#),
    ("lstm", r#","peephole":true"#),
    ("lstm", r#","num_layers":2"#),
    ("layer_norm_lstm", ""),
    ("layer_norm_gru", ""),
    ("slstm", r#","num_heads":1"#),
    ("min_gru", ""),
    ("min_lstm", ""),
    ("sru", ""),
    ("ind_rnn", ""),
];

/// The model that gatefold has with it.
const SENTIMENT: &str = "models/sentiment/sentiment.safetensors";

fn network(layer: &str, format: WeightFormat) -> Result<Network, String> {
    let spec = serde_json::from_str(&format!(r#"{{"format":1,"layers":[{layer}]}}"#))
        .map_err(|error| format!("{layer}: {error}"))?;
    let network = Network::random(spec, 1).and_then(|network| network.with_weights(format));
    network.map_err(|error| format!("{layer}: {error}"))
}

/// The strategies that are asked for, with the option's name. `None` is the plan's own choice.
fn options(batch: usize, matrix: bool) -> Vec<(&'static str, PlanOptions)> {
    let base = PlanOptions::default();
    let mut all = vec![
        ("auto", base),
        ("step", base.strategy(Strategy::Step)),
        ("sequence", base.strategy(Strategy::Sequence)),
        ("tile", base.strategy(Strategy::Tile)),
    ];
    if batch <= 8 {
        all.push(("resident", base.strategy(Strategy::Resident)));
        all.push(("streamed", base.strategy(Strategy::Sequence).held(false)));
    }
    if batch > 16 && matrix {
        all.push(("matrix", base.strategy(Strategy::Tile).arithmetic(Arithmetic::Matrix)));
    }
    all
}

/// All kernels that plans choose within `limits`, each once, in order of the plans.
pub fn permutations(limits: &PlanLimits) -> Result<Vec<Permutation>, String> {
    let mut found = Vec::new();
    let mut seen: HashSet<(Kernel, Constants)> = HashSet::new();
    let mut failed = Vec::new();
    let mut add = |name: &str, network: &Network, shape: RunShape, options: &PlanOptions| {
        // What an adapter of these limits does not run has no kernel.
        let plan = match Plan::new(network, shape, limits, options) {
            Ok(plan) => plan,
            // The plan's own choice always runs.
            Err(error) if options.strategy.is_none() => return failed.push(format!("{name}: {error}")),
            Err(_) => return,
        };
        for dispatch in PlanParts::of(&plan).dispatches {
            if seen.insert((dispatch.kernel, dispatch.constants.clone())) {
                let (plan, name) = (name.to_owned(), format!("{name} {}", dispatch.kernel.spec().name));
                let (kernel, constants) = (dispatch.kernel, dispatch.constants.clone());
                found.push(Permutation { plan, name, kernel, constants, workgroups: dispatch.workgroups });
            }
        }
    };
    let matrix = limits.matrix_units.is_some();
    for cell in ["lstm", "gru"] {
        for format in FORMATS {
            for hidden in [64, 128, 256, 512, 1024] {
                let layer = format!(r#"{{"type":"{cell}","name":"l","input_size":128,"hidden_size":{hidden}}}"#);
                let network = network(&layer, format)?;
                for batch in [1, 16, 128] {
                    for (what, options) in options(batch, matrix) {
                        let name = format!("{cell} {format} H{hidden} B{batch} {what}");
                        add(&name, &network, RunShape::new(100, batch), &options);
                    }
                }
            }
        }
    }
    for (cell, more) in OTHERS {
        let layer = format!(r#"{{"type":"{cell}","name":"l","input_size":128,"hidden_size":128{more}}}"#);
        let network = network(&layer, WeightFormat::F32)?;
        let kind = more.split('"').nth(1).map_or_else(String::new, |option| format!(" {option}"));
        for batch in [1, 16] {
            let name = format!("{cell}{kind} f32 H128 B{batch} auto");
            add(&name, &network, RunShape::new(100, batch), &PlanOptions::default());
        }
    }
    let sentiment = Network::load(SENTIMENT).map_err(|error| format!("{SENTIMENT}: {error}"))?;
    for batch in [1, 16] {
        add(&format!("sentiment B{batch} auto"), &sentiment, RunShape::new(100, batch), &PlanOptions::default());
    }
    if failed.is_empty() { Ok(found) } else { Err(failed.join("; ")) }
}
