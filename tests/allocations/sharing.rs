//! What forks take of the host's memory.

use std::time::Instant;

use gatefold::network::LayerSpec;
use gatefold::{Device, Input, Session, StreamId, StreamPool};

use crate::{HELD, network};

/// Ten thousand forks of a stream that attends to a bank of 200 kB: the bank and the state are there once.
#[test]
fn forks_share_bank_and_state() {
    let layers: Vec<LayerSpec> = serde_json::from_str(
        r#"[{"type": "embedding", "name": "written", "num_embeddings": 5, "embedding_dim": 4},
        {"type": "lstm", "name": "decoder", "input_size": 4, "hidden_size": 512},
        {"type": "dense", "name": "query", "in_features": 512, "out_features": 64},
        {"type": "input", "name": "source", "input_size": 64}, {"type": "from", "layer": "query"},
        {"type": "attention", "name": "attention", "embed_dim": 64, "keys": "source"},
        {"type": "dense", "name": "next", "in_features": 64, "out_features": 5}]"#,
    )
    .unwrap();
    let pool = StreamPool::new(Session::new(&Device::cpu(), &network(layers)).unwrap(), 1).unwrap();
    let id = pool.open_reading(Input::features(&[0.5; 800 * 64], [800, 1, 64])).unwrap()[0];
    let token = [1];
    pool.advance(&[(id, Input::tokens(&token, [1, 1]))]).unwrap();
    let (before, start) = (HELD.get(), Instant::now());
    let forks: Vec<StreamId> = (0..10_000).map(|_| pool.fork(id).unwrap()).collect();
    let (each, taken) = (start.elapsed().as_nanos() / 10_000, HELD.get() - before);
    eprintln!("10,000 forks: {taken} bytes, {each} ns each");
    assert!(taken < 2_000_000, "{taken} bytes");
    // Loose, for a machine that does other things too.
    assert!(each < 20_000, "{each} ns");
    // The count must be able to rise: of those that differ each has a state of 4 kB.
    let calls: Vec<_> = forks[..500].iter().map(|&fork| (fork, Input::tokens(&token, [1, 1]))).collect();
    drop(pool.advance(&calls).unwrap());
    assert!(HELD.get() - before > taken + 500 * 4096);
}
