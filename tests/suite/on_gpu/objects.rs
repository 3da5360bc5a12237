//! Objects that streams leave on a GPU.

use std::sync::Arc;

use gatefold::network::LayerSpec;
use gatefold::{Device, Input, Network, Session, StreamId, StreamPool};

use crate::common::pool;
use crate::common::{device, lstm, own_device, spec};

/// Bytes of this process in memory, where the system tells.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(4096 * statm.split(' ').nth(1)?.parse::<u64>().ok()?)
}

/// A hundred thousand steps, ragged and not, leave as many objects and bytes on the GPU as the first round, and
/// nothing that grows on the host.
#[test]
fn objects_do_not_accumulate_over_many_runs() {
    let device = device();
    let (instance, own, queue) = own_device(device.info());
    let device = Device::from_wgpu(own.clone(), queue);
    let network = Network::random(spec(vec![LayerSpec::Lstm(lstm(2, 4))]), 1).unwrap();
    let pool = pool(&device, &network, 64);
    let objects = || {
        let hub = instance.generate_report().expect("a native wgpu").hub;
        [
            hub.buffers.num_allocated,
            hub.bind_groups.num_allocated,
            hub.compute_pipelines.num_allocated,
            hub.shader_modules.num_allocated,
        ]
    };
    let ids: Vec<StreamId> = (0..60).map(|_| pool.open().unwrap()).collect();
    let input = vec![0.25; 2 * 64];
    let mut steps = 0;
    let mut round = |turn: usize| {
        // Every kind of batch: full, one stream, ragged.
        for kind in 0..4 {
            let count = [60, 1, 33, 7][kind];
            let calls: Vec<_> = (0..count)
                .map(|i| {
                    let len = if kind < 2 { 16 } else { 1 + (i + turn) % 16 };
                    steps += len;
                    (ids[(i + turn) % 60], Input::features(&input[..2 * len], [len, 1, 2]))
                })
                .collect();
            pool.advance(&calls).unwrap();
        }
        steps
    };
    // After 16 turns every size has been there.
    let warm = (0..16).map(&mut round).last().unwrap();
    let allocated = || own.generate_allocator_report().map(|report| report.total_allocated_bytes);
    let (first, bytes, host) = (objects(), allocated(), resident());
    assert!(bytes.is_some() || device.info().backend == "gl", "only GL has no allocator to ask");
    let mut turn = 16;
    while round(turn) - warm < 100_000 {
        turn += 1;
    }
    assert_eq!(objects(), first);
    // What is on its way through the queue comes and goes.
    let grown = allocated().zip(bytes).map_or(0, |(now, then)| now.saturating_sub(then));
    let host = resident().zip(host).map_or(0, |(now, then)| now.saturating_sub(then));
    eprintln!("{grown} bytes more on the device, {host} on the host");
    assert!(grown < 1 << 20, "{grown} bytes more on the device");
    // Less than 160 bytes a step.
    assert!(host < 16 << 20, "{host} bytes more on the host");
    // The counts themselves must be able to rise.
    let long = vec![0.25; 2 << 16];
    pool.advance(&[(ids[0], Input::features(&long, [1 << 16, 1, 2]))]).unwrap();
    assert_ne!(objects(), first);
    assert!(bytes.is_none_or(|bytes| allocated().is_some_and(|now| now > bytes + (1 << 20))));
}

/// However many sizes batches come in, only so many are kept ready, also with several pools on one session.
#[test]
fn endless_sizes_take_bounded_room() {
    let device = device();
    let (instance, own, queue) = own_device(device.info());
    let network = Network::random(spec(vec![LayerSpec::Lstm(lstm(1, 2))]), 1).unwrap();
    let session = Arc::new(Session::new(&Device::from_wgpu(own, queue), &network).unwrap());
    let pools = [(); 2].map(|()| StreamPool::new(session.clone(), 10).unwrap());
    let ids: Vec<Vec<StreamId>> = pools.iter().map(|pool| (0..10).map(|_| pool.open().unwrap()).collect()).collect();
    let values = [0.5; 16];
    let cycle = || {
        // The largest first, so that the buffers never grow later.
        for steps in (1..=16).rev() {
            for count in (1..=10).rev() {
                for (pool, ids) in pools.iter().zip(&ids) {
                    let input = Input::features(&values[..steps], [steps, 1, 1]);
                    let calls: Vec<_> = ids[..count].iter().map(|&id| (id, input)).collect();
                    pool.advance(&calls).unwrap();
                }
            }
        }
        let hub = instance.generate_report().expect("a native wgpu").hub;
        [hub.buffers.num_allocated, hub.bind_groups.num_allocated]
    };
    let first = cycle();
    let plans = session.counters().plans;
    assert!(plans > 128, "{plans} sizes are more than are kept");
    let second = cycle();
    assert!(session.counters().plans > plans, "some were made again");
    assert_eq!(cycle(), second);
    assert!(second[1] <= first[1] + first[1] / 10, "{first:?}, then {second:?}");
}
