//! Layers with a memory: their options, what they refuse, and the gradients of the f64 reference.

use fastrand::Rng;
use gatefold::network::{
    Activation, Cell, HeadOrder, Init, LayerSpec, MemorySpec, MemoryStart, NtmSpec, StartWeights, expected_tensors,
};
use gatefold::unstable::reference::Reference;
use gatefold::{Network, Plan, PlanLimits, PlanOptions, RandomInput, RunShape, State};

use super::gradients::{Case, faults_of_a_run};
use crate::common::spec;
use crate::on_device::ntm::{memory_network, random_memory};

#[test]
fn gradients_are_differences() {
    for seed in 0..60 {
        let mut rng = Rng::with_seed(seed);
        let layer = random_memory(&mut rng);
        // A kink is where the difference is not the gradient.
        if layer.cell == Cell::IndRnn || layer.clip.is_some() {
            continue;
        }
        let (faults, run) = faults_of_a_run(&memory_network(&layer, seed), 5, &mut rng, seed);
        assert!(faults.is_empty(), "{run}: {faults:?}\n{layer:#?}");
    }
}

/// Negative control: the gradient of the heads of one head is not that of another.
#[test]
fn exchanged_heads_are_seen() {
    let layer = NtmSpec { read_heads: 2, ..NtmSpec::new("memory", 3, 5, [7, 4]) };
    let network = memory_network(&layer, 1);
    let input = RandomInput::new(&network, 5, 2, 4).unwrap();
    let case = Case::new(&network, input.as_input(), None, 6);
    let mut gradients = case.gradients();
    assert!(case.faults(&gradients, 7).is_empty());
    gradients.params.get_mut("memory.heads.bias").unwrap().swap_with_slice(&mut vec![0.1; 3 * 10 + 8]);
    let faults = case.faults(&gradients, 7);
    assert!(faults.len() == 1 && faults[0].starts_with("memory.heads.bias"), "{faults:?}");
}

#[test]
fn wrong_options_are_refused() {
    let plain = NtmSpec::new("m", 3, 4, [8, 5]);
    let memory = |rows, columns| MemorySpec { rows, columns, start: MemoryStart::Random };
    let cases = [
        (NtmSpec { shifts: 4, ..plain.clone() }, "layer `m`: shifts: expected 2 * shifts + 1 up to the 8 rows"),
        (NtmSpec { read_heads: 0, ..plain.clone() }, "read_heads: expected 1 to"),
        (NtmSpec { write_heads: 0, ..plain.clone() }, "write_heads: expected 1 to"),
        (NtmSpec { read_heads: 65, ..plain.clone() }, "read_heads: expected at most 64, got 65"),
        (NtmSpec { memory: memory(0, 5), ..plain.clone() }, "memory rows: expected 1 to"),
        (NtmSpec { memory: memory(8, 0), ..plain.clone() }, "memory columns: expected 1 to"),
        (NtmSpec { memory: memory(1 << 20, 1 << 20), ..plain.clone() }, "rows * columns of a memory"),
        (NtmSpec { clip: Some(0.0), ..plain.clone() }, "clip: expected a number above 0, got 0"),
        (NtmSpec { clip: Some(f32::NAN), ..plain.clone() }, "clip: expected a number above 0"),
        (NtmSpec { key_activation: Activation::Relu, ..plain.clone() }, "key_activation: expected linear or tanh"),
        (NtmSpec { add_activation: Activation::Relu, ..plain }, "add_activation: expected linear or tanh"),
    ];
    for (layer, expected) in cases {
        let error = Network::random(spec(vec![LayerSpec::Ntm(layer)]), 1).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let row = r#"[{"type": "input", "input_size": 3}, {"type": "select", "name": "row", "step": "last"},
        {"type": "ntm", "name": "m", "input_size": 3, "hidden_size": 4, "memory": {"rows": 8, "columns": 5}}]"#;
    let layers: Vec<LayerSpec> = serde_json::from_str(row).unwrap();
    assert!(Network::random(spec(layers), 1).unwrap_err().to_string().contains("expected a sequence [T, B, I]"));
    for (option, wrong) in [("order", "\"both\""), ("start_weights", "1"), ("cell", "\"ntm\""), ("heads", "3")] {
        let text = format!(
            r#"{{"type": "ntm", "name": "m", "input_size": 3, "hidden_size": 4, "{option}": {wrong}, "memory": {{"rows": 8, "columns": 5}}}}"#
        );
        assert!(serde_json::from_str::<LayerSpec>(&text).is_err(), "{text}");
    }
}

/// The counts of the design at the paper's sizes: 62,660 parameters with the output layer.
#[test]
fn parameters_are_counted() {
    let layer = NtmSpec::new("m", 9, 100, [128, 20]);
    let tensors = expected_tensors(&spec(vec![LayerSpec::Ntm(layer)]));
    let memory = 128 * 20;
    let numbers: usize = tensors.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    assert_eq!(numbers - memory + 8 * 120 + 8, 62_660);
    let names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    let expected = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "heads.weight", "heads.bias", "memory"];
    assert_eq!(names, expected.map(|name| format!("m.{name}")));
    assert_eq!(tensors[4].1, [92, 100]);
}

#[test]
fn starts_are_what_the_options_say() {
    let of = |start, start_weights| {
        let memory = MemorySpec { rows: 4, columns: 3, start };
        let layer = NtmSpec { memory, start_weights, initial_state: true, ..NtmSpec::new("m", 2, 5, [4, 3]) };
        let network = Network::initialized(spec(vec![LayerSpec::Ntm(layer)]), Init::PyTorch, 3).unwrap();
        let state = State::<f32>::initial(&network, 2).unwrap();
        (network, state)
    };
    let (network, state) = of(MemoryStart::Random, StartWeights::Learned);
    let names: Vec<&str> = state.layers[0].parts.iter().map(|part| &part.name[..]).collect();
    assert_eq!(names, ["h", "c", "read", "weights", "memory"]);
    let part = |name: &str| &state.layers[0].part(name).unwrap().data[..];
    assert_eq!(part("memory")[..12], *network.tensors()["m.memory"].data());
    assert_eq!(part("memory")[..12], part("memory")[12..]);
    assert_eq!(part("read")[3..], *network.tensors()["m.initial_read"].data());
    let logits = network.tensors()["m.initial_weights"].data();
    let sum: f32 = logits[4..].iter().map(|x: &f32| x.exp()).sum();
    assert!((part("weights")[5] - logits[5].exp() / sum).abs() < 1e-6);
    assert_eq!(part("weights")[..8], part("weights")[8..]);
    let (_, state) = of(MemoryStart::Constant, StartWeights::Uniform);
    assert!(state.layers[0].part("memory").unwrap().data.iter().all(|&x| x == 1e-6));
    assert!(state.layers[0].part("weights").unwrap().data.iter().all(|&x| x == 0.25));
    // A controller that cannot do without its memory.
    let weights = network.tensors()["m.weight_ih_l0"].data();
    let bound = 5.0 / 10f32.sqrt();
    assert!(weights.iter().all(|x| x.abs() <= bound) && weights.iter().any(|x| x.abs() > 0.9 * bound));
    assert!(network.tensors()["m.bias_ih_l0"].data().iter().all(|&x| x == 0.0));
}

/// Rows that are equal and weights that are equal cannot be told apart.
#[test]
fn equal_rows_stay_equal() {
    let memory = MemorySpec { rows: 6, columns: 3, start: MemoryStart::Constant };
    let layer = NtmSpec { memory, order: HeadOrder::Sequential, ..NtmSpec::new("m", 2, 5, [6, 3]) };
    let network = Network::initialized(spec(vec![LayerSpec::Ntm(layer)]), Init::PyTorch, 3).unwrap();
    let input = RandomInput::new(&network, 7, 1, 4).unwrap();
    let state = Reference::<f64>::new(&network).forward(input.as_input(), None).unwrap().state;
    let weights = &state.layers[0].part("weights").unwrap().data;
    assert!(weights.iter().all(|x| (x - 1.0 / 6.0).abs() < 1e-12), "{weights:?}");
}

/// A memory goes to storage where workgroup memory does not hold it, and the plan says so.
#[test]
fn a_plan_says_where_the_memory_is() {
    let plan = |rows, columns, limits: &PlanLimits| {
        let layer = NtmSpec::new("m", 9, 100, [rows, columns]);
        let network = Network::random(spec(vec![LayerSpec::Ntm(layer)]), 1).unwrap();
        Plan::new(&network, RunShape::new(41, 3), limits, &PlanOptions::default())
    };
    let least = PlanLimits::default();
    // The paper's sizes fit what WebGPU guarantees.
    let text = plan(128, 20, &least).unwrap().to_string();
    assert!(text.contains("m: the memory of 128 x 20 in workgroup memory, 15684 of 16384 bytes"), "{text}");
    let text = plan(256, 20, &least).unwrap().to_string();
    assert!(text.contains("m: the memory of 256 x 20 in storage, since it takes 27460 bytes"), "{text}");
    let more = PlanLimits { max_workgroup_memory: 32 << 10, ..least };
    assert!(plan(256, 20, &more).unwrap().to_string().contains("in workgroup memory"));
    let small = PlanLimits { max_workgroup_memory: 2 << 10, ..least };
    let error = plan(8, 4, &small).unwrap_err().to_string();
    assert!(error.contains("m: the controller's sums") && error.contains("workgroup memory"), "{error}");
}
