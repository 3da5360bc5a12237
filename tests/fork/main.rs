//! A forked child has its parent's memory and none of its threads: runs on the CPU device work and give the same bits,
//! and what belongs to the parent alone returns an error and does not hang.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails panics")]

#[cfg(feature = "gpu")]
#[path = "../support/device.rs"]
mod device;
#[path = "../support/forked.rs"]
mod forked;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use forked::{Ended, forked};
use gatefold::network::{Activation, DenseSpec, LayerSpec, RecurrentSpec};
use gatefold::streams::{Chunk, QueueOptions, StreamQueue};
use gatefold::{CpuOptions, Device, Error, Network, NetworkSpec, RandomInput, Session, StreamPool};

/// Longer than any of this takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A network, and an input large enough for several threads.
struct Case {
    session: Session,
    steps: usize,
    batch: usize,
}

impl Case {
    fn run(&self) -> Vec<u32> {
        let input = RandomInput::new(self.session.network(), self.steps, self.batch, 1).unwrap();
        self.session.run(input.as_input(), None).unwrap().values.iter().map(|value| value.to_bits()).collect()
    }
}

fn network(layers: Vec<LayerSpec>) -> Network {
    Network::random(NetworkSpec { format: 1, layers, text: None, labels: Vec::new() }, 1).unwrap()
}

fn lstm(size: usize) -> LayerSpec {
    LayerSpec::Lstm(RecurrentSpec::new("lstm", size, size))
}

/// Rows are shared among threads, units are, projections run ahead, and a plain product.
fn cases() -> Vec<Case> {
    let device = Device::cpu_with(CpuOptions { threads: NonZeroUsize::new(3), ..CpuOptions::default() }).unwrap();
    let (name, in_features, activation) = ("dense".into(), 512, Activation::Relu);
    let dense = LayerSpec::Dense(DenseSpec { name, in_features, out_features: 64, bias: true, activation });
    let networks = [(lstm(64), 50, 48), (lstm(512), 8, 1), (lstm(128), 100, 1), (dense, 40, 100)];
    let case =
        |(layer, steps, batch)| Case { session: Session::new(&device, &network(vec![layer])).unwrap(), steps, batch };
    networks.map(case).into()
}

/// Runs all again and compares every bit.
fn same(cases: &[Case], expected: &[Vec<u32>]) -> bool {
    cases.iter().zip(expected).all(|(case, expected)| case.run() == *expected)
}

/// Threads of this process that the CPU device keeps; two are expected after a run of three.
fn kept_threads() -> usize {
    if !cfg!(target_os = "linux") {
        return 2;
    }
    let names = std::fs::read_dir("/proc/self/task").unwrap();
    let names = names.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap());
    names.filter(|name| name.trim() == "gatefold").count()
}

/// As Python's multiprocessing does it: the parent has run, then its children do, and theirs.
#[test]
fn a_child_of_a_warm_parent_runs() {
    let cases = cases();
    let expected: Vec<Vec<u32>> = cases.iter().map(Case::run).collect();
    assert!(kept_threads() >= 2, "three threads were asked for");
    let grandchild = || forked(LIMIT / 2, || same(&cases, &expected)) == Ended::Right;
    let child = || grandchild() && same(&cases, &expected) && kept_threads() >= 2 && grandchild();
    assert_eq!(forked(LIMIT, child), Ended::Right);
    assert!(same(&cases, &expected), "the parent goes on");
}

/// Before the first run there is nothing to inherit.
#[test]
fn a_child_of_a_cold_parent_runs() {
    let cases = cases();
    assert_eq!(forked(LIMIT, || cases.iter().all(|case| !case.run().is_empty())), Ended::Right);
}

/// Other threads run the same sessions at the fork, so that locks are held.
#[test]
fn a_child_of_a_busy_parent_runs() {
    let cases = cases();
    let expected: Vec<Vec<u32>> = cases.iter().map(Case::run).collect();
    let (stop, runs) = (AtomicBool::new(false), AtomicUsize::new(0));
    let ended: Vec<Ended> = thread::scope(|scope| {
        for first in 0..2 {
            let (cases, stop, runs) = (&cases, &stop, &runs);
            scope.spawn(move || {
                for case in cases.iter().cycle().skip(first) {
                    case.run();
                    runs.fetch_add(1, Ordering::Relaxed);
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        let ended =
            (0..40).map(|_| forked(LIMIT, || same(&cases, &expected))).take_while(|&ended| ended == Ended::Right);
        let ended = ended.collect();
        stop.store(true, Ordering::Relaxed);
        ended
    });
    assert_eq!(ended.len(), 40, "children that ran right before one did not");
    assert!(runs.load(Ordering::Relaxed) > 40, "the parent was idle");
}

/// The thread of a queue is the parent's: a child's requests are answered, and the queue can be dropped.
#[test]
fn a_queue_of_the_parent_process_is_refused() {
    let pool = StreamPool::new(Session::new(&Device::cpu(), &network(vec![lstm(4)])).unwrap(), 2).unwrap();
    let stream = pool.open().unwrap();
    let options = QueueOptions { deadline: Duration::from_millis(200), ..QueueOptions::default() };
    let queue = StreamQueue::new(pool, options).unwrap();
    let chunk = || Chunk::Features(vec![0.5; 4]);
    queue.submit(stream, chunk()).wait().unwrap();
    // Handed in before the fork, not answered yet.
    let early = queue.submit(stream, chunk());
    let is_closed = |answer: Result<_, Error>| matches!(answer, Err(Error::QueueClosed));
    let mut kept = Some((queue, early));
    let child = || {
        let (queue, early) = kept.take().unwrap();
        let tickets = [early, queue.submit(stream, chunk()), queue.try_submit(stream, chunk()).unwrap()];
        let closed = tickets.into_iter().all(|ticket| is_closed(ticket.wait()));
        drop(queue);
        closed
    };
    assert_eq!(forked(LIMIT, child), Ended::Right);
    let (queue, early) = kept.take().unwrap();
    early.wait().unwrap();
    queue.submit(stream, chunk()).wait().unwrap();
}

/// A GPU device can only be used by the process that opened it.
#[cfg(feature = "gpu")]
#[test]
fn a_gpu_of_the_parent_process_is_refused() {
    let software = Device::open(&"software".parse().unwrap());
    let device = software.unwrap_or_else(|_| device::opened(Device::open(&device::choice())));
    let network = network(vec![lstm(8)]);
    let session = Session::new(&device, &network).unwrap();
    let input = RandomInput::new(&network, 3, 1, 1).unwrap();
    session.run(input.as_input(), None).unwrap();
    let lost = |error: Error| matches!(&error, Error::DeviceLost { reason, .. } if reason.contains("forked"));
    let child = || {
        session.run(input.as_input(), None).is_err_and(lost)
            && pollster::block_on(session.run_async(input.as_input(), None)).is_err_and(lost)
            && Session::new(&device, &network).is_err_and(lost)
            && Session::new(&Device::cpu(), &network).unwrap().run(input.as_input(), None).is_ok()
    };
    assert_eq!(forked(LIMIT, child), Ended::Right);
    session.run(input.as_input(), None).unwrap();
}

/// Negative control: the time limit can end a child, and a wrong answer is distinguished from a right one.
#[test]
fn what_hangs_or_is_wrong_is_seen() {
    let forever = || {
        thread::park_timeout(LIMIT);
        true
    };
    assert_eq!(forked(Duration::from_millis(200), forever), Ended::Hung);
    assert_eq!(forked(LIMIT, || false), Ended::Wrong);
    assert_eq!(forked(LIMIT, || panic!("meant")), Ended::Wrong);
    let cases = cases();
    let mut expected: Vec<Vec<u32>> = cases.iter().map(Case::run).collect();
    expected[2][5] ^= 1;
    assert_eq!(forked(LIMIT, || same(&cases, &expected)), Ended::Wrong);
}
