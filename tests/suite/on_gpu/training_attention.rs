//! Gradients of attention on the device against the f64 reference.

use fastrand::Rng;
use gatefold::network::{Init, LayerSpec, Network};
use gatefold::train::Loss;

use super::training_example::{Example, TOLERANCE, errors};
use crate::common::{changed, selected, spec};

/// A recurrent layer whose outputs are keys and values, and whose outputs or last output are queries.
fn example(seed: u64) -> Example {
    let mut rng = Rng::with_seed(seed);
    let num_heads = rng.usize(1..4);
    let [embed_dim, value_dim] = [(); 2].map(|()| num_heads * rng.usize(1..7));
    let score = ["dot", "additive"][usize::from(seed % 2 == 1)];
    let of_query = [
        "",
        r#"{"type": "select", "name": "last", "step": "last_valid"},"#,
        r#"{"type": "slice", "name": "part", "start": 1},"#,
    ][(seed / 2 % 3) as usize];
    // The same layer as keys and values, and as queries too.
    let shared = rng.u8(0..3) == 0;
    let (values, width) = if shared { ("", embed_dim) } else { (r#""values": "values","#, value_dim) };
    let queries = match rng.u8(0..3) {
        0 => r#"{"type": "from", "layer": "keys"},"#.to_owned(),
        _ => format!(
            r#"{{"type": "from", "layer": "rnn"}},
            {{"type": "dense", "name": "queries", "in_features": 6, "out_features": {embed_dim}}},"#
        ),
    };
    let layers = format!(
        r#"[{{"type": "input", "input_size": 3}},
        {{"type": "rnn", "name": "rnn", "input_size": 3, "hidden_size": 6}},
        {{"type": "dense", "name": "keys", "in_features": 6, "out_features": {embed_dim}}},
        {{"type": "from", "layer": "rnn"}},
        {{"type": "dense", "name": "values", "in_features": 6, "out_features": {value_dim}}},
        {queries} {of_query}
        {{"type": "attention", "name": "attention", "embed_dim": {embed_dim}, "keys": "keys", {values}
        "score": "{score}", "num_heads": {num_heads}, "scale": 1.5}},
        {{"type": "dense", "name": "head", "in_features": {width}, "out_features": 3}}]"#
    );
    let layers: Vec<LayerSpec> = serde_json::from_str(&layers).unwrap_or_else(|error| panic!("{layers}: {error}"));
    let network = Network::initialized(spec(layers), Init::PyTorch, seed).unwrap();
    let (steps, batch) = ([rng.usize(2..9), rng.usize(65..90)][usize::from(seed % 5 == 4)], rng.usize(1..6));
    let lengths = (0..batch).map(|row| [steps, 0, 1, rng.usize(0..=steps)][row % 4]).collect();
    let mut example = Example {
        network,
        loss: Loss::Mse,
        tokens: Vec::new(),
        features: (0..steps * batch * 3).map(|_| rng.f32() * 2.0 - 1.0).collect(),
        shape: [steps, batch, 3],
        lengths: rng.bool().then_some(lengths),
        classes: Vec::new(),
        values: Vec::new(),
        weights: None,
    };
    if of_query.contains("slice") {
        // A slice has other timesteps than the mask.
        example.lengths = None;
    }
    let [_, _, rows] = example.rows();
    example.values = (0..rows * 3).map(|_| rng.f32()).collect();
    example
}

#[test]
fn gradients_of_attention_agree() {
    for seed in selected(0..24) {
        let example = example(seed);
        let (error, tensor) = example.worst();
        assert!(error <= 1.0, "case {seed}: {tensor} is {error} tolerances off: {:#?}", example.network.spec());
    }
}

/// Controls: other keys, queries, values and another weight of the score have other gradients.
#[test]
fn other_attention_is_seen() {
    let names = ["keys.weight", "queries.weight", "values.weight", "attention.weight"];
    let has_all = |example: &Example| names.iter().all(|&name| example.network.tensors().contains_key(name));
    let has_values = |example: &Example| format!("{:?}", example.network.spec()).contains("values: Some");
    let right = (1..).map(example).find(|example| has_all(example) && has_values(example)).unwrap();
    for name in names {
        let network = changed(&right.network, name, |numbers| numbers.iter_mut().for_each(|x| *x *= 1.05));
        let got = Example { network, ..right.clone() }.trainer().gradients(&right.batch()).unwrap();
        let errors = errors(&right.reference::<f64>().1, |name| got[name].data().iter().map(|&x| x.into()).collect());
        assert!(errors.values().any(|&error| error > 20.0 * TOLERANCE), "{name}: {errors:?}");
    }
}
