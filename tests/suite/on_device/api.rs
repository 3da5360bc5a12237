//! The API that applications use: a device of their own, async calls, states, plans, timings.

use gatefold::network::{LayerSpec, RecurrentSpec};
use gatefold::streams::{Chunk, QueueOptions, StreamQueue};
use gatefold::{Device, Input, Network, RandomInput, Session, StreamPool};

use crate::common::{device, lstm, random_state, spec};

fn network() -> Network {
    Network::random(spec(vec![LayerSpec::Lstm(RecurrentSpec { num_layers: 2, ..lstm(6, 24) })]), 41).unwrap()
}

#[test]
fn a_session_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Session>();
    shared::<Device>();
    shared::<gatefold::Classifier>();
    shared::<StreamPool>();
    shared::<gatefold::streams::StreamQueue>();
    shared::<gatefold::streams::Ticket>();
    shared::<gatefold::streams::PreparedRun>();
    shared::<gatefold::streams::StreamRun>();
    shared::<gatefold::State>();
    let device = device();
    let network = network();
    let session = Session::new(device, &network).unwrap();
    let inputs: Vec<RandomInput> =
        (0..4).map(|i| RandomInput::new(&network, 5 + i, 1 + i, u64::try_from(i).unwrap()).unwrap()).collect();
    let alone: Vec<_> = inputs.iter().map(|input| session.run(input.as_input(), None).unwrap().values).collect();
    std::thread::scope(|scope| {
        for (input, alone) in inputs.iter().zip(&alone) {
            let session = &session;
            scope.spawn(move || {
                for _ in 0..5 {
                    assert_eq!(session.run(input.as_input(), None).unwrap().values, *alone);
                }
            });
        }
    });
}

#[test]
fn async_gives_the_same_answer() {
    fn sendable<T: Send>(future: T) -> T {
        future
    }
    let device = device();
    let network = network();
    let session = Session::new(device, &network).unwrap();
    let input = RandomInput::new(&network, 9, 2, 1).unwrap();
    let blocking = session.run(input.as_input(), None).unwrap();
    let future = sendable(session.run_async(input.as_input(), None));
    assert_eq!(pollster::block_on(future).unwrap().values, blocking.values);

    let pool = StreamPool::new(session, 1).unwrap();
    let id = pool.open().unwrap();
    let queue = StreamQueue::new(pool, QueueOptions::default()).unwrap();
    let values = [0.5; 6];
    let calls = [(id, Input::features(&values, [1, 1, 6]))];
    let advanced = pollster::block_on(sendable(queue.pool().advance_async(&calls))).unwrap();
    queue.pool().reset(id).unwrap();
    let request = async { queue.submit_async(id, Chunk::Features(values.to_vec())).await.await };
    assert_eq!(pollster::block_on(sendable(request)).unwrap().values, advanced.values(0));
}

/// A sequence in pieces, each from the state of the one before, gives the whole sequence's answer.
#[test]
fn state_carries_over() {
    let device = device();
    for device in [device, &Device::cpu()] {
        let network = network();
        let session = Session::new(device, &network).unwrap();
        let RandomInput::Features(values, [steps, batch, width]) = RandomInput::new(&network, 11, 3, 5).unwrap() else {
            panic!("an LSTM reads vectors")
        };
        let first = random_state(&network, batch, 6);
        let whole = session.run(Input::features(&values, [steps, batch, width]), Some(&first)).unwrap();
        let mut state = first;
        let mut pieces = Vec::new();
        for cut in values.chunks(4 * batch * width) {
            let shape = [cut.len() / (batch * width), batch, width];
            let output = session.run(Input::features(cut, shape), Some(&state)).unwrap();
            state = output.state;
            pieces.extend(output.values);
        }
        for (piece, whole) in pieces.iter().zip(&whole.values) {
            assert!((piece - whole).abs() < 1e-6);
        }
        assert_eq!(pieces.len(), whole.values.len());
        for (a, b) in state.layers[0].c().iter().zip(whole.state.layers[0].c()) {
            assert!((a - b).abs() < 1e-6);
        }
    }
}

#[test]
fn the_answer_says_where_and_how_long() {
    let device = device();
    let network = network();
    let input = RandomInput::new(&network, 8, 3, 2).unwrap();
    let session = Session::new(device, &network).unwrap();
    let output = session.run_timed(input.as_input(), None).unwrap();
    assert_eq!(&output.device, device.info());
    if let Some(gpu) = output.timing.gpu {
        assert!(gpu <= output.timing.wall, "{:?}", output.timing);
    }
    assert_eq!(session.run(input.as_input(), None).unwrap().timing.gpu, None);
    let on_cpu = Session::new(&Device::cpu(), &network).unwrap().run_timed(input.as_input(), None).unwrap();
    assert_eq!((on_cpu.device.to_string().as_str(), on_cpu.timing.gpu), ("CPU", None));
}
