//! Attention against the f64 reference.

use fastrand::Rng;
use gatefold::network::{AttentionScore, LayerSpec};
use gatefold::unstable::reference::Reference;
use gatefold::{Input, NamedInput, Network, PlanOptions, Session, StreamPool, verify};

use crate::common::{assert_right, changed, device, selected, spec};

fn network(layers: &str, seed: u64) -> Network {
    let layers: Vec<LayerSpec> = serde_json::from_str(layers).unwrap_or_else(|error| panic!("{layers}: {error}"));
    Network::random(spec(layers), seed).unwrap()
}

/// The sizes of a network whose queries come from one input and whose keys and values come from another.
struct Sizes {
    embed_dim: usize,
    value_dim: usize,
    num_heads: usize,
    score: AttentionScore,
    /// Whether there is one query for each row `[B, D]`.
    row: bool,
}

/// Queries of two features, keys and values of three.
fn attending(sizes: &Sizes, seed: u64) -> Network {
    let &Sizes { embed_dim, value_dim, num_heads, score, row } = sizes;
    let score = if score == AttentionScore::Dot { "dot" } else { "additive" };
    let select = if row { r#"{"type": "select", "name": "last", "step": "last"},"# } else { "" };
    network(
        &format!(
            r#"[{{"type": "input", "name": "source", "input_size": 3}},
            {{"type": "gru", "name": "encoder", "input_size": 3, "hidden_size": 6, "bidirectional": true}},
            {{"type": "dense", "name": "keys", "in_features": 12, "out_features": {embed_dim}}},
            {{"type": "from", "layer": "encoder"}},
            {{"type": "dense", "name": "values", "in_features": 12, "out_features": {value_dim}}},
            {{"type": "input", "name": "target", "input_size": 2}},
            {{"type": "dense", "name": "queries", "in_features": 2, "out_features": {embed_dim}}}, {select}
            {{"type": "attention", "name": "attention", "embed_dim": {embed_dim}, "keys": "keys", "values": "values",
            "score": "{score}", "num_heads": {num_heads}, "scale": 1.5}},
            {{"type": "dense", "name": "head", "in_features": {value_dim}, "out_features": 4}}]"#
        ),
        seed,
    )
}

fn numbers(rng: &mut Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| rng.f32() * 2.0 - 1.0).collect()
}

#[test]
fn attention_agrees() {
    let scores = [AttentionScore::Dot, AttentionScore::Additive];
    for seed in selected(0..24u64) {
        let mut rng = Rng::with_seed(seed);
        let num_heads = rng.usize(1..4);
        let [embed_dim, value_dim] = [(); 2].map(|()| num_heads * rng.usize(1..12));
        let sizes = Sizes { embed_dim, value_dim, num_heads, score: scores[rng.usize(0..2)], row: rng.u8(0..4) == 0 };
        let network = attending(&sizes, seed);
        // Fewer keys than invocations of a workgroup, as many, and more.
        let steps = [1, rng.usize(2..20), 64, rng.usize(65..200)][rng.usize(0..4)];
        let (queries, batch) = (rng.usize(1..9), rng.usize(1..6));
        let (source, target) = (numbers(&mut rng, steps * batch * 3), numbers(&mut rng, queries * batch * 2));
        let others = [NamedInput::features("target", &target[..], [queries, batch, 2])];
        let input = Input::features(&source, [steps, batch, 3]).with_others(&others);
        let lengths: Vec<usize> = (0..batch).map(|row| [rng.usize(0..=steps), 0, steps][row % 3]).collect();
        let mask: Vec<bool> = (0..steps * batch).map(|_| rng.bool()).collect();
        let input = match seed % 3 {
            0 => input,
            1 => input.with_lengths(&lengths),
            _ => input.with_mask(&mask),
        };
        assert_right(device(), &network, PlanOptions::default(), input, None);
    }
}

/// The sums of two values with shares that are known.
#[test]
fn shares_are_a_softmax_of_the_scores() {
    let network = network(
        r#"[{"type": "input", "name": "source", "input_size": 2},
        {"type": "activation", "name": "keys", "activation": "linear"},
        {"type": "input", "name": "target", "input_size": 2},
        {"type": "attention", "name": "attention", "embed_dim": 2, "keys": "keys", "scale": 2.0}]"#,
        1,
    );
    let session = Session::new(device(), &network).unwrap();
    // Scores 2 * 1 and 2 * 0 of the first query, 0 and 2 * 3 of the second.
    let others = [NamedInput::features("target", &[1.0, 0.0, 0.0, 3.0][..], [2, 1, 2])];
    let input = Input::features(&[1.0, 0.0, 0.0, 1.0], [2, 1, 2]).with_others(&others);
    let output = session.run(input, None).unwrap();
    assert_eq!(output.shape, [2, 1, 2]);
    let share = |score: f32| score.exp() / (score.exp() + 1.0);
    let expected = [share(2.0), 1.0 - share(2.0), 1.0 - share(6.0), share(6.0)];
    for (got, expected) in output.values.iter().zip(expected) {
        assert!((got - expected).abs() < 1e-6, "{:?}", output.values);
    }
    // Of no key that counts the sum is 0.
    let output = session.run(input.with_lengths(&[0]), None).unwrap();
    assert_eq!(output.values, [0.0; 4]);
}

/// What lies behind a row's length changes no bit.
#[test]
fn keys_that_do_not_count_are_not_read() {
    let sizes = Sizes { embed_dim: 8, value_dim: 6, num_heads: 2, score: AttentionScore::Additive, row: false };
    let network = attending(&sizes, 3);
    let session = Session::new(device(), &network).unwrap();
    let (mut rng, lengths) = (Rng::with_seed(5), [3, 7]);
    let target = numbers(&mut rng, 4 * 2 * 2);
    let others = [NamedInput::features("target", &target[..], [4, 2, 2])];
    let mut source = numbers(&mut rng, 7 * 2 * 3);
    let mut run = |change: Option<usize>| {
        if let Some(step) = change {
            source[step * 2 * 3] += 1.0;
        }
        let input = Input::features(&source, [7, 2, 3]).with_others(&others).with_lengths(&lengths);
        session.run(input, None).unwrap().values
    };
    let expected = run(None);
    assert_eq!(run(Some(3)), expected);
    assert_ne!(run(Some(2)), expected, "the control: a step that counts");
}

/// Negative control: another weight of the score is seen.
#[test]
fn another_weight_is_seen() {
    let sizes = Sizes { embed_dim: 6, value_dim: 5, num_heads: 1, score: AttentionScore::Additive, row: false };
    let network = attending(&sizes, 7);
    let mut rng = Rng::with_seed(8);
    let (source, target) = (numbers(&mut rng, 9 * 2 * 3), numbers(&mut rng, 4 * 2 * 2));
    let others = [NamedInput::features("target", &target[..], [4, 2, 2])];
    let input = Input::features(&source, [9, 2, 3]).with_others(&others);
    let session = Session::new(device(), &network).unwrap();
    assert!(verify(&session, &network, input, None).unwrap().passed());
    let other = changed(&network, "attention.weight", |weight| weight[1] += 0.05);
    assert!(!verify(&session, &other, input, None).unwrap().passed());
}

#[test]
fn what_does_not_fit_is_refused() {
    let layers = |attention: &str| {
        let text = format!(
            r#"[{{"type": "input", "input_size": 6}}, {{"type": "dense", "name": "keys", "in_features": 6, "out_features": 4}},
            {{"type": "select", "name": "row", "step": "last"}}, {{"type": "from", "layer": "input"}},
            {{"type": "attention", "name": "a", {attention}}}]"#
        );
        let layers: Vec<LayerSpec> = serde_json::from_str(&text).unwrap();
        Network::random(spec(layers), 1)
    };
    let cases = [
        (r#""embed_dim": 6, "keys": "keys""#, "layer `a`: keys: expected a layer of embed_dim = 6 features, got 4"),
        (r#""embed_dim": 4, "keys": "keys""#, "layer `a`: embed_dim: expected 6, the width of its input, got 4"),
        (r#""embed_dim": 6, "keys": "row""#, "keys: expected a layer whose output is a sequence [T, B, N], got row"),
        (r#""embed_dim": 6, "keys": "none""#, "expected an earlier layer"),
        (r#""embed_dim": 6, "keys": "input", "num_heads": 4"#, "num_heads: expected a divisor of embed_dim, 6, got 4"),
        (
            r#""embed_dim": 6, "keys": "input", "values": "keys", "num_heads": 3"#,
            "num_heads: expected a divisor of the values' 4 features, got 3",
        ),
    ];
    for (attention, expected) in cases {
        let error = layers(attention).unwrap_err().to_string();
        assert!(error.contains(expected), "{attention}: {error}");
    }
    let network = layers(r#""embed_dim": 6, "keys": "input""#).unwrap();
    let error = StreamPool::new(Session::new(device(), &network).unwrap(), 1).unwrap_err().to_string();
    assert!(error.contains("layer `a`: a stream through attention to all timesteps"), "{error}");
}

/// Shares for which no machine has memory are an error of the reference, not an abort.
#[test]
fn shares_beyond_memory_are_refused() {
    let layers: Vec<LayerSpec> = serde_json::from_str(
        r#"[{"type": "input", "input_size": 1},
        {"type": "attention", "name": "a", "embed_dim": 1, "keys": "input"}]"#,
    )
    .unwrap();
    let network = Network::random(spec(layers), 1).unwrap();
    let steps = 4_000_000;
    let x = vec![0.0; steps];
    let error = Reference::<f32>::new(&network).forward(Input::features(&x, [steps, 1, 1]), None).unwrap_err();
    assert!(error.to_string().contains("a shares [T, B, heads, S]"), "{error}");
}
