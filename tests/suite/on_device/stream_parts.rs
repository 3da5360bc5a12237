//! Single parts of a stream's state, seen and changed.

use gatefold::{Error, Input, State, StreamId, StreamPool};

use crate::common::{device, pool};

use super::streams::networks;

fn states(pool: &StreamPool, streams: &[StreamId]) -> Vec<State> {
    streams.iter().map(|&id| pool.snapshot(id).unwrap()).collect()
}

/// Every part of every kind of network, in the middle stream of three.
#[test]
fn one_part_of_one_stream_changes() {
    for (name, network) in networks() {
        let pool = pool(device(), &network, 3);
        let streams = [0; 3].map(|_| pool.open().unwrap());
        let mut expected = states(&pool, &streams);
        for (at, layer) in network.kept().iter().enumerate() {
            for (number, part) in layer.parts.iter().enumerate() {
                let data = &mut expected[1].layers[at].parts[number].data;
                let first = data.len() / 2;
                let values: Vec<f32> =
                    (0u8..).map(f32::from).map(|x| 0.01 * (x + 1.0)).take((data.len() - first).min(3)).collect();
                data[first..][..values.len()].copy_from_slice(&values);
                pool.poke(streams[1], &layer.name, part.name, first, &values).unwrap();
                let seen = pool.look(streams[1], &layer.name, part.name).unwrap();
                assert_eq!(seen, expected[1].layers[at].parts[number], "{name}: {}.{}", layer.name, part.name);
                assert_eq!(states(&pool, &streams), expected, "{name}: {}.{}", layer.name, part.name);
            }
        }
    }
}

/// A stream goes on from what was put there, as from a restored state.
#[test]
fn a_changed_stream_goes_on_from_the_change() {
    let (_, network) = networks().into_iter().find(|(_, network)| network.num_embeddings().is_none()).unwrap();
    let pool = pool(device(), &network, 2);
    let [changed, restored] = [0; 2].map(|_| pool.open().unwrap());
    let layer = network.kept()[0].clone();
    let values = [0.5, -0.25];
    pool.poke(changed, &layer.name, layer.parts[0].name, 1, &values).unwrap();
    let mut state = State::initial(&network, 1).unwrap();
    state.layers[0].parts[0].data[1..3].copy_from_slice(&values);
    pool.restore(restored, &state).unwrap();
    let input = vec![0.1; network.input_size()];
    let shape = [1, 1, network.input_size()];
    let advanced =
        [changed, restored].map(|id| pool.advance(&[(id, Input::features(&input, shape))]).unwrap().values(0).to_vec());
    assert_eq!(advanced[0], advanced[1]);
    // The control.
    let untouched = pool.open().unwrap();
    assert_ne!(pool.advance(&[(untouched, Input::features(&input, shape))]).unwrap().values(0), advanced[0]);
}

#[test]
fn what_is_not_there_is_refused() {
    let (_, network) = networks().remove(0);
    let pool = pool(device(), &network, 2);
    let [id, other] = [0; 2].map(|_| pool.open().unwrap());
    let before = states(&pool, &[id, other]);
    let layer = network.kept()[0].clone();
    let (name, part) = (layer.name.as_str(), layer.parts[0].name);
    let count = pool.look(id, name, part).unwrap().data.len();
    let poke =
        |layer: &str, part: &str, first: usize, values: &[f32]| pool.poke(id, layer, part, first, values).unwrap_err();
    assert!(matches!(poke(name, part, 0, &[1.0, f32::NAN]), Error::NonFinite { index: 1, .. }));
    for (first, values) in [(count, &[1.0][..]), (count - 1, &[1.0, 2.0]), (usize::MAX, &[1.0])] {
        let error = poke(name, part, first, values).to_string();
        assert!(error.contains(&format!("numbers 0 to {}", count - 1)), "{error}");
    }
    for error in
        [poke("absent", part, 0, &[1.0]), poke(name, "absent", 0, &[1.0]), pool.look(id, name, "absent").unwrap_err()]
    {
        assert!(error.to_string().contains(&format!("one of `{name}.{part}`")), "{error}");
    }
    assert_eq!(states(&pool, &[id, other]), before, "unchanged");
    pool.close(other).unwrap();
    assert!(matches!(pool.poke(other, name, part, 0, &[1.0]), Err(Error::Stream { .. })));
    assert!(matches!(pool.look(other, name, part), Err(Error::Stream { .. })));
}
