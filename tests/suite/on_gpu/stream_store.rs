//! The store of states on a device of an application's own: one that is lost, and runs in its submissions.

use gatefold::network::LayerSpec;
use gatefold::{Device, Error, Input, Network, PagingOptions, PoolOptions, Session, State, StreamId, StreamPool};

use crate::common::{device, lstm, own_device, spec};

fn network() -> Network {
    Network::random(spec(vec![LayerSpec::Lstm(lstm(2, 8))]), 1).unwrap()
}

fn advance(pool: &StreamPool, id: StreamId) -> Result<Vec<f32>, Error> {
    Ok(pool.advance(&[(id, Input::features(&[0.5, -0.5], [1, 1, 2]))])?.values(0).to_vec())
}

/// With the device only the states on it are lost: those in the host's memory go on elsewhere.
#[test]
fn idle_states_outlive_the_device() {
    let network = network();
    let (_instance, own, queue) = own_device(device().info());
    let session = Session::new(&Device::from_wgpu(own.clone(), queue), &network).unwrap();
    let paging = PagingOptions { device_bytes: 2 * 64, host_bytes: 1 << 20, ..Default::default() };
    let pool = StreamPool::with_options(session, PoolOptions { paging: Some(paging), ..Default::default() }).unwrap();
    let ids: Vec<StreamId> = (0..6).map(|_| pool.open().unwrap()).collect();
    ids.iter().for_each(|&id| drop(advance(&pool, id).unwrap()));
    assert_eq!(pool.states_by_place(), [2, 4, 0]);
    let states: Vec<State> = ids.iter().map(|&id| pool.snapshot(id).unwrap()).collect();
    own.destroy();
    for _ in 0..2 {
        for &id in &ids {
            let error = advance(&pool, id).unwrap_err();
            assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
        }
    }
    assert!(matches!(pool.snapshot(ids[5]), Err(Error::DeviceLost { .. })));
    let elsewhere = StreamPool::new(Session::new(device(), &network).unwrap(), 1).unwrap();
    for (&id, state) in ids.iter().zip(&states).take(4) {
        let kept = pool.snapshot(id).unwrap();
        assert_eq!(kept, *state);
        let on = elsewhere.open().unwrap();
        elsewhere.restore(on, &kept).unwrap();
        advance(&elsewhere, on).unwrap();
    }
}

/// What an application's submission did to a stream can be taken back, and forks of it stand still.
#[test]
fn recorded_runs_are_taken_back() {
    let network = network();
    let (_instance, own, queue) = own_device(device().info());
    let session = Session::new(&Device::from_wgpu(own.clone(), queue.clone()), &network).unwrap();
    let pool = StreamPool::with_options(session, PoolOptions { keep_last: 2, ..PoolOptions::default() }).unwrap();
    let id = pool.open().unwrap();
    let mut run = pool.prepare(&[id], 1).unwrap();
    let [input, output] = run.bytes();
    let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let buffer =
        |size| own.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
    let (from, to) = (buffer(input), buffer(output));
    queue.write_buffer(&from, 0, bytemuck::cast_slice(&[0.5f32, -0.5]));
    let mut record = || {
        let mut encoder = own.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        pool.encode(&mut run, &mut encoder, &from, &to).unwrap();
        queue.submit([encoder.finish()]);
        pool.snapshot(id).unwrap()
    };
    let mut states = vec![State::initial(&network, 1).unwrap()];
    states.extend((0..3).map(|_| record()));
    let fork = pool.fork(id).unwrap();
    states.push(record());
    assert_eq!(pool.snapshot(fork).unwrap(), states[3]);
    pool.rewind(id, 1).unwrap();
    assert_eq!(pool.snapshot(id).unwrap(), states[3]);
    assert_eq!(record(), states[4]);
    assert_eq!(pool.kept(id).unwrap(), 2);
    pool.rewind(id, 2).unwrap();
    assert_eq!(pool.snapshot(id).unwrap(), states[2]);
    pool.rewind(fork, 2).unwrap();
    assert_eq!(pool.snapshot(fork).unwrap(), states[1]);
    // The same as the pool's own calls, and no two states alike.
    let plain = pool.open().unwrap();
    for state in &states[1..] {
        advance(&pool, plain).unwrap();
        assert_eq!(pool.snapshot(plain).unwrap(), *state);
    }
    assert!((1..5).all(|at| states[at] != states[at - 1]));
}
