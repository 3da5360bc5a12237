//! The queue in front of a pool: batches, order, fairness, back-pressure, mistakes.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use gatefold::network::LayerSpec;
use gatefold::streams::{Chunk, QueueOptions, StreamQueue};
use gatefold::{Device, Error, Input, Network, Session, StreamId, StreamPool};

use crate::common::{device, lstm, spec};

const LONG: Duration = Duration::from_secs(60);

fn network() -> Network {
    Network::random(spec(vec![LayerSpec::Lstm(lstm(2, 5))]), 1).unwrap()
}

fn queue(device: &Device, streams: usize, options: QueueOptions) -> (StreamQueue, Vec<StreamId>) {
    let pool = StreamPool::new(Session::new(device, &network()).unwrap(), streams).unwrap();
    let ids = (0..streams).map(|_| pool.open().unwrap()).collect();
    (StreamQueue::new(pool, options).unwrap(), ids)
}

fn chunk(steps: usize, seed: usize) -> Vec<f32> {
    (0..2 * steps).map(|i| ((i + 3 * seed) as f32).sin()).collect()
}

fn both(device: &Device, check: impl Fn(&Device)) {
    [device, &Device::cpu()].into_iter().for_each(check);
}

/// A full batch starts at once; a stream's second request is in the next.
#[test]
fn batches_are_full_and_fair() {
    let device = device();
    both(device, |device| {
        let options = QueueOptions { deadline: LONG, max_batch: 3, capacity: 100 };
        let (queue, ids) = queue(device, 4, options);
        // Stream 0 has four requests; those of 1, 2 and 3 come after them.
        let greedy: Vec<_> = (0..4).map(|turn| queue.submit(ids[0], Chunk::Features(chunk(1, turn)))).collect();
        assert_eq!(queue.waiting(), 4, "one stream alone never fills a batch");
        let others: Vec<_> = (1..4).map(|i| queue.submit(ids[i], Chunk::Features(chunk(i, i)))).collect();
        let others: Vec<_> = others.into_iter().take(2).map(|ticket| ticket.wait().unwrap()).collect();
        assert_eq!(others.iter().map(|answer| (answer.steps, answer.batch)).collect::<Vec<_>>(), [(1, 3), (2, 3)]);
        let pool = queue.pool().clone();
        drop(queue);
        let answers: Vec<_> = greedy.into_iter().map(|ticket| ticket.wait().unwrap()).collect();
        assert_eq!(answers.iter().map(|answer| answer.batch).collect::<Vec<_>>(), [3, 2, 1, 1]);
        // Its steps came in order: the same as alone.
        let alone = pool.open().unwrap();
        let whole: Vec<f32> = (0..4).flat_map(|turn| chunk(1, turn)).collect();
        let whole = pool.advance(&[(alone, Input::features(&whole, [4, 1, 2]))]).unwrap();
        let got: Vec<f32> = answers.into_iter().flat_map(|answer| answer.values).collect();
        assert!(got.iter().zip(whole.values(0)).all(|(a, b)| (a - b).abs() < 1e-5), "{got:?} {whole:?}");
    });
}

/// A single request is run when its deadline has passed, and not before.
#[test]
fn the_deadline_is_kept() {
    let device = device();
    both(device, |device| {
        let deadline = Duration::from_millis(50);
        let (queue, ids) = queue(device, 1, QueueOptions { deadline, ..QueueOptions::default() });
        let start = Instant::now();
        let answer = pollster::block_on(queue.submit(ids[0], Chunk::Features(chunk(2, 1)))).unwrap();
        assert_eq!((answer.steps, answer.values.len(), answer.batch), (2, 10, 1));
        assert!(start.elapsed() >= deadline);
    });
}

#[test]
fn a_full_queue_holds_back() {
    let device = device();
    both(device, |device| {
        let options = QueueOptions { deadline: Duration::from_millis(300), max_batch: 100, capacity: 2 };
        let (queue, ids) = queue(device, 3, options);
        let one = |i: usize| Chunk::Features(chunk(1, i));
        let (first, second) = (queue.try_submit(ids[0], one(0)).unwrap(), queue.try_submit(ids[1], one(1)).unwrap());
        let error = queue.try_submit(ids[2], one(2)).unwrap_err();
        assert!(matches!(error, Error::QueueFull { capacity: 2 }), "{error}");
        // This request waits until the deadline starts a batch and the queue is no longer full.
        let third = queue.submit(ids[2], one(2));
        assert_eq!((first.wait().unwrap().batch, second.wait().unwrap().batch), (2, 2));
        assert_eq!(third.wait().unwrap().batch, 1);
    });
    let pool = StreamPool::new(Session::new(&Device::cpu(), &network()).unwrap(), 1).unwrap();
    let none = QueueOptions { max_batch: 0, ..QueueOptions::default() };
    assert!(matches!(StreamQueue::new(pool, none), Err(Error::Shape { .. })));
}

/// Callers that may not block await free capacity, also many of them in one thread.
#[test]
fn a_full_queue_is_awaited() {
    let device = device();
    both(device, |device| {
        let options = QueueOptions { deadline: Duration::from_millis(50), max_batch: 100, capacity: 2 };
        let (queue, ids) = queue(device, 3, options);
        let one = |i: usize| Chunk::Features(chunk(1, i));
        let first = [0, 1].map(|i| queue.try_submit(ids[i], one(i)).unwrap());
        let mut idle = Context::from_waker(Waker::noop());
        let mut third = pin!(queue.submit_async(ids[2], one(2)));
        let mut given_up = Box::pin(queue.submit_async(ids[2], one(2)));
        assert!(third.as_mut().poll(&mut idle).is_pending(), "the queue is full");
        assert!(given_up.as_mut().poll(&mut idle).is_pending());
        assert_eq!(queue.waiting(), 2, "nothing was handed in");
        drop(given_up);
        assert_eq!(pollster::block_on(pollster::block_on(third)).unwrap().batch, 1, "who gave up is not there");
        first.into_iter().for_each(|ticket| assert_eq!(ticket.wait().unwrap().batch, 2));

        // The futures of one thread, driven by its one waker.
        let mut callers: Vec<_> = (0..9)
            .map(|i| {
                let (queue, id, chunk) = (&queue, ids[i % 3], one(i));
                Box::pin(async move { queue.submit_async(id, chunk).await.await })
            })
            .collect();
        let mut answered = 0;
        pollster::block_on(poll_fn(|context| {
            callers.retain_mut(|caller| match caller.as_mut().poll(context) {
                Poll::Ready(answer) => {
                    answered += answer.unwrap().steps;
                    false
                }
                Poll::Pending => true,
            });
            if callers.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        }));
        assert_eq!(answered, 9);
    });
}

/// A request that cannot be done is answered with its error, and the rest of its batch as if it had not been there.
#[test]
fn mistakes_stay_with_their_request() {
    let device = device();
    both(device, |device| {
        let options = QueueOptions { deadline: LONG, max_batch: 5, capacity: 100 };
        let (queue, ids) = queue(device, 5, options);
        queue.pool().close(ids[1]).unwrap();
        let chunks = [
            Chunk::Features(chunk(2, 0)),
            Chunk::Features(chunk(1, 1)),
            Chunk::Features(vec![0.5; 3]),
            Chunk::Tokens(vec![1]),
            Chunk::Features(chunk(1, 4)),
        ];
        let tickets: Vec<_> = ids.iter().zip(chunks).map(|(&id, chunk)| queue.submit(id, chunk)).collect();
        let answers: Vec<_> = tickets.into_iter().map(|ticket| ticket.wait()).collect();
        assert_eq!(answers[0].as_ref().unwrap().values.len(), 10);
        assert!(matches!(answers[1], Err(Error::Stream { .. })));
        assert!(matches!(answers[2], Err(Error::Shape { .. })));
        assert!(matches!(answers[3], Err(Error::Shape { .. })));
        assert_eq!(answers[4].as_ref().unwrap().steps, 1);
    });
}

/// Many threads, each with its stream; says who got its own answers, in order. `order` is that of a caller's chunks.
fn callers(device: &Device, order: [usize; 4], streams: [usize; 8]) -> [bool; 8] {
    let deadline = Duration::from_millis(2);
    let (queue, ids) = queue(device, 8, QueueOptions { deadline, max_batch: 8, capacity: 5 });
    let queue = Arc::new(queue);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let (queue, id) = (queue.clone(), ids[streams[thread]]);
                scope.spawn(move || {
                    let whole = chunk(12, thread);
                    let parts: Vec<&[f32]> = whole.chunks(2 * 3).collect();
                    let submit = |at: usize| queue.submit(id, Chunk::Features(parts[at].to_vec()));
                    let tickets: Vec<_> = order.into_iter().map(submit).collect();
                    let got: Vec<f32> = tickets.into_iter().flat_map(|ticket| ticket.wait().unwrap().values).collect();
                    let alone = Session::new(&Device::cpu(), &network()).unwrap();
                    let exact = alone.run(Input::features(&whole, [12, 1, 2]), None).unwrap().values;
                    got.iter().zip(&exact).all(|(a, b)| (a - b).abs() < 1e-5)
                })
            })
            .collect();
        let answers: Vec<bool> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        answers.try_into().unwrap()
    })
}

#[test]
fn many_callers_share_batches() {
    let device = device();
    both(device, |device| assert_eq!(callers(device, [0, 1, 2, 3], [0, 1, 2, 3, 4, 5, 6, 7]), [true; 8]));
}

/// Negative control: chunks out of order, and two callers that use the same stream, are noticed, and other streams are not affected.
#[test]
fn mixed_up_callers_are_noticed() {
    let device = device();
    both(device, |device| {
        assert_eq!(callers(device, [0, 2, 1, 3], [0, 1, 2, 3, 4, 5, 6, 7]), [false; 8]);
        let met = callers(device, [0, 1, 2, 3], [0, 1, 2, 3, 4, 5, 6, 0]);
        assert!(!(met[0] && met[7]) && met[1..7].iter().all(|&right| right), "{met:?}");
    });
}

/// A request that is taken back before its batch is not run; one that runs already is.
#[test]
fn a_request_is_taken_back() {
    let device = device();
    both(device, |device| {
        let options = QueueOptions { deadline: Duration::from_millis(200), max_batch: 100, capacity: 3 };
        let (queue, ids) = queue(device, 2, options);
        let first = queue.submit(ids[0], Chunk::Features(chunk(1, 0)));
        assert!(queue.submit(ids[0], Chunk::Features(chunk(1, 1))).cancel(), "it waits behind the first");
        assert!(queue.submit(ids[1], Chunk::Features(chunk(1, 2))).cancel());
        assert_eq!(first.wait().unwrap().batch, 1);
        let last = queue.submit(ids[0], Chunk::Features(chunk(1, 3))).wait().unwrap();
        let alone = queue.pool().open().unwrap();
        let read = [chunk(1, 0), chunk(1, 3)].concat();
        let expected = queue.pool().advance(&[(alone, Input::features(&read, [2, 1, 2]))]).unwrap();
        assert!(last.values.iter().zip(&expected.values(0)[5..]).all(|(a, b)| (a - b).abs() < 1e-5));
        let answered = queue.submit(ids[1], Chunk::Features(chunk(1, 4)));
        while queue.counters().answered < 3 {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!answered.cancel(), "it has been run");
        let counters = queue.counters();
        assert_eq!((counters.answered, counters.cancelled, counters.failed, counters.refused), (3, 2, 0, 0));
        assert_eq!((counters.waited.count(), counters.ran.count(), counters.batches.counts()[0]), (3, 3, 3));
        assert!(counters.waited.sum() >= 0.6, "each waited for the deadline: {}", counters.waited.sum());
    });
}

/// Requests that are submitted together are all taken or none.
#[test]
fn all_or_none_are_submitted() {
    let device = device();
    both(device, |device| {
        let options = QueueOptions { deadline: Duration::from_millis(100), max_batch: 100, capacity: 3 };
        let (queue, ids) = queue(device, 4, options);
        let of = |count: usize| ids[..count].iter().map(|&id| (id, Chunk::Features(chunk(1, 0)))).collect::<Vec<_>>();
        assert!(matches!(queue.try_submit_all(of(4)), Err(Error::QueueFull { capacity: 3 })));
        assert_eq!(queue.waiting(), 0);
        let tickets = queue.try_submit_all(of(3)).unwrap();
        assert!(matches!(queue.try_submit_all(of(1)), Err(Error::QueueFull { .. })));
        assert!(tickets.into_iter().all(|ticket| ticket.wait().unwrap().batch == 3));
        assert_eq!(queue.counters().refused, 2);
    });
    let network = network();
    assert!(Chunk::Features(chunk(2, 0)).check(&network).is_ok());
    for wrong in [Chunk::Features(vec![]), Chunk::Features(vec![0.0; 3]), Chunk::Tokens(vec![1])] {
        assert!(matches!(wrong.check(&network), Err(Error::Shape { .. })), "{wrong:?}");
    }
}
