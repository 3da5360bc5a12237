//! The same mistakes give the same errors on every device.

use gatefold::network::{EmbeddingSpec, LayerSpec};
use gatefold::{Device, Error, Input, Network, Session, State};

use crate::common::{device, lstm, random_state, spec};

fn both(device: &Device, network: &Network, check: impl Fn(&Session)) {
    for device in [device, &Device::cpu()] {
        check(&Session::new(device, network).unwrap());
    }
}

fn message(result: Result<gatefold::Output, Error>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let device = device();
    let network = Network::random(spec(vec![LayerSpec::Lstm(lstm(3, 4))]), 1).unwrap();
    both(device, &network, |session| {
        let run = |values: &[f32], shape| message(session.run(Input::features(values, shape), None));
        assert_eq!(run(&[], [0, 1, 3]), "input: expected [T, B, 3] with T and B at least 1, got [0, 1, 3]");
        assert_eq!(run(&[], [2, 0, 3]), "input: expected [T, B, 3] with T and B at least 1, got [2, 0, 3]");
        assert_eq!(run(&[0.0; 8], [2, 1, 4]), "input: expected [T, B, 3] with T and B at least 1, got [2, 1, 4]");
        assert_eq!(
            run(&[0.0; 5], [2, 1, 3]),
            "input: expected as many elements as shape [2, 1, 3] says, got 5 elements"
        );
        assert_eq!(
            run(&[0.0; 6], [usize::MAX, 2, 3]),
            format!("input: expected as many elements as shape {:?} says, got 6 elements", [usize::MAX, 2, 3])
        );
        let tokens = message(session.run(Input::tokens(&[1], [1, 1]), None));
        assert_eq!(tokens, "input: expected [T, B, 3], got token ids [1, 1]");
        // The session still works.
        assert_eq!(session.run(Input::features(&[0.5; 3], [1, 1, 3]), None).unwrap().values.len(), 4);
    });
}

#[test]
fn tokens_out_of_range_are_named() {
    let device = device();
    let embedding = EmbeddingSpec { name: "embedding".into(), num_embeddings: 5, embedding_dim: 3, mask_zero: false };
    let network = Network::random(spec(vec![LayerSpec::Embedding(embedding), LayerSpec::Lstm(lstm(3, 4))]), 1).unwrap();
    both(device, &network, |session| {
        let error = message(session.run(Input::tokens(&[0, 1, 2, 5, 4, 3], [3, 2]), None));
        assert_eq!(error, "token 5 at row 1, step 1: expected an id below 5");
        let error = message(session.run(Input::features(&[0.0; 3], [1, 1, 3]), None));
        assert_eq!(error, "input: expected token ids [T, B], got vectors [1, 1, 3]");
    });
}

#[test]
fn states_that_do_not_fit_are_named() {
    let device = device();
    let network = Network::random(spec(vec![LayerSpec::Lstm(lstm(3, 4))]), 1).unwrap();
    both(device, &network, |session| {
        let run = |state: &State| message(session.run(Input::features(&[0.0; 6], [1, 2, 3]), Some(state)));
        let of_one_row = random_state(&network, 1, 1);
        assert_eq!(
            run(&of_one_row),
            "state of `lstm`, h: expected [L*D, B, H] = [1, 2, 4], got h [1, 1, 4] of `lstm` with 4 elements"
        );
        let mut short = random_state(&network, 2, 1);
        short.layers[0].part_mut("c").unwrap().data.pop();
        assert!(run(&short).starts_with("state of `lstm`, c: expected"));
        short.layers[0].parts.pop();
        assert_eq!(run(&short), "state of `lstm`: expected `h`, `c`, got `h`");
        assert_eq!(run(&State { layers: Vec::new() }), "state: expected 1 layers (`lstm`), got 0 layers ()");
    });
}

/// A batch beyond the adapter's largest binding is refused before anything is allocated.
#[test]
fn sizes_beyond_the_adapter_are_named() {
    let device = device();
    let embedding =
        EmbeddingSpec { name: "embedding".into(), num_embeddings: 2, embedding_dim: 1 << 20, mask_zero: false };
    let network = Network::random(spec(vec![LayerSpec::Embedding(embedding)]), 1).unwrap();
    let session = Session::new(device, &network).unwrap();
    let tokens = vec![0; 1 << 16];
    let error = session.run(Input::tokens(&tokens, [1 << 16, 1]), None).unwrap_err();
    let Error::TooLarge { what, needed, .. } = &error else { panic!("{error}") };
    assert_eq!((what.as_str(), *needed), ("embedding output [T, B, N]", 1 << 38));
    assert_eq!(session.run(Input::tokens(&[1], [1, 1]), None).unwrap().values.len(), 1 << 20);
}
