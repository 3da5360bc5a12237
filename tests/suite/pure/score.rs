//! Sequences of any lengths: each has the answer that it has alone.

use gatefold::network::Init;
use gatefold::{Device, Input, Network, ScoreInput, Scorer};

fn network(layers: &str) -> Network {
    let spec = serde_json::from_str(&format!("{{\"format\":1,\"layers\":[{layers}]}}")).unwrap();
    Network::initialized(spec, Init::PyTorch, 3).unwrap()
}

/// An answer is that of a run of the sequence alone, bit by bit, in both orders of axes and with a time axis.
#[test]
fn answers_are_those_of_single_runs() {
    let lstm = r#"{"type":"lstm","name":"a","input_size":3,"hidden_size":4"#;
    let cases = [
        format!("{lstm},\"output\":\"last\"}}"),
        format!("{lstm},\"batch_first\":true}}"),
        format!("{lstm}}}"),
        format!("{lstm},\"bidirectional\":true}}"),
    ];
    let lengths: [usize; 7] = [2, 5, 1, 5, 2, 9, 5];
    let values: Vec<f32> = (0u8..87).map(|i| (f32::from(i) * 0.37).sin()).collect();
    let ends: Vec<usize> = lengths
        .iter()
        .scan(0, |end, length| {
            *end += 3 * length;
            Some(*end)
        })
        .collect();
    for layers in cases {
        let device = Device::cpu();
        let network = network(&layers);
        let scorer = Scorer::new(&device, &network).unwrap();
        let mut done = 0;
        let scores = scorer.score(ScoreInput::features(&values, &ends), |rows| done += rows).unwrap();
        assert_eq!((done, scores.ends.len()), (7, 7));
        let (mut start, mut from) = (0, 0);
        for (&end, &to) in ends.iter().zip(&scores.ends) {
            let steps = (end - start) / 3;
            let shape = if network.batch_first() { [1, steps, 3] } else { [steps, 1, 3] };
            let alone = scorer.session().run(Input::features(&values[start..end], shape), None).unwrap();
            assert_eq!(scores.values[from..to], alone.values, "{layers}");
            (start, from) = (end, to);
        }
        // The comparison can fail.
        assert_ne!(scores.values[..scores.ends[0]], scores.values[scores.ends[3]..scores.ends[4]], "{layers}");
    }
}

#[test]
fn wrong_sequences_are_refused() {
    let device = Device::cpu();
    let embedding = r#"{"type":"embedding","name":"e","num_embeddings":5,"embedding_dim":2}"#;
    let lstm = r#"{"type":"lstm","name":"a","input_size":2,"hidden_size":4,"output":"last"}"#;
    let tokens = Scorer::new(&device, &network(&format!("{embedding},{lstm}"))).unwrap();
    let features = Scorer::new(&device, &network(lstm)).unwrap();
    let of = |scorer: &Scorer, sequences: ScoreInput<'_>| scorer.fault(sequences, 0).unwrap();
    assert_eq!(of(&tokens, ScoreInput::tokens(&[1, 5], &[2])), "expected token ids below 5, got 5 at step 1");
    assert_eq!(of(&tokens, ScoreInput::tokens(&[], &[0])), "expected at least one timestep, got none");
    assert_eq!(of(&tokens, ScoreInput::features(&[1.0], &[1])), "expected token ids, got vectors");
    assert_eq!(of(&features, ScoreInput::tokens(&[1], &[1])), "expected vectors of 2 numbers, got token ids");
    assert_eq!(of(&features, ScoreInput::features(&[1.0; 3], &[3])), "expected vectors of 2 numbers, got 3 numbers");
    let infinite = [0.0, 1.0, f32::INFINITY, 0.0];
    assert_eq!(of(&features, ScoreInput::features(&infinite, &[4])), "expected finite numbers, got inf at step 1");
    let error = tokens.score(ScoreInput::tokens(&[1, 7], &[1, 2]), |_| {}).unwrap_err().to_string();
    assert_eq!(error, "sequence 2: expected token ids below 5, got 7 at step 0");
    assert_eq!(tokens.fault(ScoreInput::tokens(&[1, 4], &[2]), 0), None);
}
