//! The costs of streams: objects of the GPU, bytes, time.

use gatefold::network::LayerSpec;
use gatefold::{Input, Network, StreamId};

use crate::common::{device, lstm, spec};
use crate::common::{devices, pool};

/// The counters are right, and the state of a stream is not among the transferred bytes.
#[test]
fn counters_count() {
    let device = device();
    for device in devices(device) {
        let network = Network::random(spec(vec![LayerSpec::Lstm(lstm(2, 64))]), 1).unwrap();
        let pool = pool(&device, &network, 1);
        let ids: Vec<StreamId> = (0..9).map(|_| pool.open().unwrap()).collect();
        let input = Input::features(&[0.5; 6], [3, 1, 2]);
        let calls: Vec<_> = ids.iter().map(|&id| (id, input)).collect();
        pool.advance(&calls).unwrap();
        let before = pool.session().counters();
        pool.advance(&calls).unwrap();
        let (after, of_pool) = (pool.session().counters(), pool.counters());
        assert_eq!((of_pool.batches, of_pool.streams, of_pool.steps), (2, 18, 54));
        assert_eq!((of_pool.opened, of_pool.growth), (9, 4));
        assert_eq!((after.runs, after.plans - before.plans, after.fall_backs), (2, 0, 0));
        let moved =
            [after.bytes_to_device - before.bytes_to_device, after.bytes_from_device - before.bytes_from_device];
        if device.info().backend == "cpu" {
            assert_eq!((of_pool.filled, after.steps, after.dispatches, moved), (0, 54, 0, [0, 0]));
        } else {
            // Nine rows are filled up to ten: input and mask of three steps, slots before and after; the output.
            assert_eq!((of_pool.filled, after.steps), (6, 60));
            assert_eq!(moved, [4 * 10 * (3 * 2 + 3 + 2), 4 * 10 * 3 * 64]);
            assert!(after.dispatches > before.dispatches);
        }
        assert!(!after.device_lost);
    }
}

/// A thousand streams cost about what a dense batch of a thousand costs. Loose, since times of a shared machine
/// are; the example `streams` prints the ratio.
#[test]
fn a_thousand_streams_cost_little_more_than_a_dense_batch() {
    let device = device();
    let network = Network::random(spec(vec![LayerSpec::Lstm(lstm(32, 64))]), 1).unwrap();
    let pool = pool(device, &network, 1000);
    let ids: Vec<StreamId> = (0..1000).map(|_| pool.open().unwrap()).collect();
    let values = vec![0.25; 1000 * 32];
    let calls: Vec<_> = ids.iter().map(|&id| (id, Input::features(&values[..32], [1, 1, 32]))).collect();
    let [mut dense, mut pooled] = [f64::INFINITY; 2];
    for _ in 0..8 {
        let start = std::time::Instant::now();
        pool.session().run(Input::features(&values, [1, 1000, 32]), None).unwrap();
        dense = dense.min(start.elapsed().as_secs_f64());
        let start = std::time::Instant::now();
        pool.advance(&calls).unwrap();
        pooled = pooled.min(start.elapsed().as_secs_f64());
    }
    eprintln!("a dense batch {:.2} ms, the pool {:.2} ms", 1e3 * dense, 1e3 * pooled);
    assert!(pooled < 3.0 * dense, "{pooled} s against {dense} s");
}
