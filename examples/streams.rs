//! Thousands of audio-like streams on one device: each has one or a few new frames from time to time.
//!
//! `cargo run --release --example streams -- --streams 1000 --seconds 5 --device auto`
#![allow(clippy::print_stdout, reason = "an example talks")]

mod arguments;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use arguments::{Arguments, Result, finish};
use gatefold::network::{Activation, DenseSpec, LayerSpec, RecurrentSpec};
use gatefold::{Device, DeviceChoice, Input, Network, NetworkSpec, Session, State, StreamId, StreamPool};

/// Features of a frame of 10 ms.
const FEATURES: usize = 40;
/// The most new frames of a stream at once.
const MOST: usize = 3;
/// How often the dense batch is timed at least, and how long: a process's threads take a while to find their cores.
const DENSE_RUNS: usize = 20;
const DENSE_TIME: Duration = Duration::from_millis(500);
/// How often calls of single streams are timed, and of how many streams at most.
const SINGLE_ROUNDS: usize = 3;
const SINGLES: usize = 1000;

fn main() -> ExitCode {
    finish("streams", Arguments::read(&["--streams", "--seconds", "--hidden", "--device"]).and_then(run))
}

fn run((args, rest): (Arguments, Vec<String>)) -> Result<()> {
    if let Some(word) = rest.first() {
        return Err(format!("expected options alone, got {word:?}").into());
    }
    let count = args.get("--streams", 1000usize)?.max(1);
    let seconds = args.get("--seconds", 5.0f64)?;
    let hidden = args.get("--hidden", 128usize)?;
    let device = Device::open(&args.get("--device", DeviceChoice::Auto)?)?;
    let network = network(hidden)?;
    let pool = StreamPool::new(Session::new(&device, &network)?, count)?;
    let ids: Vec<StreamId> = (0..count).map(|_| pool.open()).collect::<std::result::Result<_, _>>()?;
    println!("{count} streams, H {hidden}, on {}: {} bytes of state", device.info(), pool.state_bytes());

    let mut random = fastrand::Rng::with_seed(1);
    let noise: Vec<f32> = (0..count * FEATURES * MOST).map(|_| random.f32() * 2.0 - 1.0).collect();
    let frames = |stream: usize, steps: usize| {
        Input::features(&noise[stream * FEATURES * MOST..][..FEATURES * steps], [steps, 1, FEATURES])
    };
    // All streams at once, in alternation with a dense batch of as many rows.
    let one_each: Vec<_> = ids.iter().enumerate().map(|(i, &id)| (id, frames(i, 1))).collect();
    let rows: Vec<f32> = (0..count).flat_map(|i| noise[i * FEATURES * MOST..][..FEATURES].to_vec()).collect();
    let dense = Input::features(&rows, [1, count, FEATURES]);
    let (mut of_dense, mut of_pool) = (Vec::new(), Vec::new());
    let mut answer = pool.session().run(dense, None)?;
    let start = Instant::now();
    while of_pool.len() < DENSE_RUNS || start.elapsed() < DENSE_TIME {
        of_dense.push(timed(|| pool.session().run_into(dense, None, &mut answer))?);
        of_pool.push(timed(|| pool.advance(&one_each).map(drop))?);
    }
    let [of_dense, of_pool] = [of_dense, of_pool].map(|times| percentile(times, 50));
    let ratio = of_pool.as_secs_f64() / of_dense.as_secs_f64();
    println!(
        "one frame of each: {of_pool:.2?} (median); a dense batch into the memory of its last answer: {of_dense:.2?}; ratio {ratio:.2}"
    );

    let session = pool.session();
    let mut states: Vec<Option<State>> = vec![None; count.min(SINGLES)];
    let mut of_singles = Vec::new();
    for _ in 0..SINGLE_ROUNDS {
        let all = || {
            states.iter_mut().enumerate().try_for_each(|(i, state)| {
                *state = Some(session.run(frames(i, 1), state.as_ref())?.state);
                Ok(())
            })
        };
        of_singles.push(timed(all)?.div_f64(states.len() as f64));
    }
    let of_single = percentile(of_singles, 50);
    let ratio = of_single.as_secs_f64() * count as f64 / of_pool.as_secs_f64();
    println!(
        "a call for each stream, its state in the host's memory: {of_single:.2?} (median); {count} of them take {ratio:.1} times as long"
    );

    ids.iter().try_for_each(|&id| pool.reset(id))?;
    let mut received = vec![Vec::new(); count.min(4)];
    let (start, mut latencies, mut done) = (Instant::now(), Vec::new(), 0);
    let mut shown = Instant::now();
    while start.elapsed().as_secs_f64() < seconds || latencies.is_empty() {
        // About every second stream has something new.
        let mut going = (0..count).map(|i| (i, random.usize(0..=2 * MOST))).collect::<Vec<_>>();
        going.retain(|&(_, steps)| count == 1 || (1..=MOST).contains(&steps));
        let calls: Vec<(usize, usize)> = going.into_iter().map(|(i, steps)| (i, steps.clamp(1, MOST))).collect();
        let batch: Vec<_> = calls.iter().map(|&(i, steps)| (ids[i], frames(i, steps))).collect();
        latencies.push(timed(|| pool.advance(&batch).map(drop))?);
        for &(i, steps) in calls.iter().filter(|&&(i, _)| i < 4) {
            received[i].extend_from_slice(&noise[i * FEATURES * MOST..][..FEATURES * steps]);
        }
        done += calls.iter().map(|&(_, steps)| steps).sum::<usize>();
        if shown.elapsed() > Duration::from_millis(200) {
            shown = Instant::now();
            let rate = done as f64 / start.elapsed().as_secs_f64();
            eprint!(
                "\r{:5.1} s  {} batches  {rate:.0} frames/s  {:.1} times real time for each ",
                start.elapsed().as_secs_f64(),
                latencies.len(),
                rate / 100.0 / count as f64
            );
            std::io::stderr().flush()?;
        }
    }
    let elapsed = start.elapsed();
    eprintln!();
    let batches = latencies.len();
    let [p50, p95, p99] = [50, 95, 99].map(|percent| percentile(latencies.clone(), percent));
    println!("{done} frames in {batches} batches, {:.0} frames/s", done as f64 / elapsed.as_secs_f64());
    println!("latency of a batch: p50 {p50:.2?}, p95 {p95:.2?}, p99 {p99:.2?}");
    check(&pool, &network, &ids, &received)?;
    let (session, pool) = (session.counters(), pool.counters());
    println!(
        "{} dispatches, {} MB to the device, {} MB back, {} plans, {:.0} % of the rows filled up",
        session.dispatches,
        session.bytes_to_device >> 20,
        session.bytes_from_device >> 20,
        session.plans,
        100.0 * pool.filled as f64 / (pool.filled + pool.steps) as f64
    );
    Ok(())
}

/// An LSTM with a head of two outputs, weights random.
fn network(hidden: usize) -> Result<Network> {
    let head = DenseSpec {
        name: "head".into(),
        in_features: hidden,
        out_features: 2,
        bias: true,
        activation: Activation::Sigmoid,
    };
    let layers = vec![LayerSpec::Lstm(RecurrentSpec::new("lstm", FEATURES, hidden)), LayerSpec::Dense(head)];
    Ok(Network::random(NetworkSpec { format: 1, layers, text: None, labels: Vec::new() }, 1)?)
}

/// The states of some streams must be those that the CPU computes from all their input.
fn check(pool: &StreamPool, network: &Network, ids: &[StreamId], received: &[Vec<f32>]) -> Result<()> {
    let alone = Session::new(&Device::cpu(), network)?;
    let mut worst = 0.0f32;
    for (id, received) in ids.iter().zip(received).filter(|(_, received)| !received.is_empty()) {
        let exact = alone.run(Input::features(received, [received.len() / FEATURES, 1, FEATURES]), None)?.state;
        let got = pool.snapshot(*id)?;
        let pairs = got.layers[0].h().iter().zip(exact.layers[0].h());
        worst = pairs.map(|(a, b)| (a - b).abs()).fold(worst, f32::max);
    }
    println!("largest difference of a state from the CPU alone: {worst:.1e}");
    if worst < 1e-3 { Ok(()) } else { Err(format!("expected states within 1e-3, got {worst:e}").into()) }
}

fn timed(work: impl FnOnce() -> std::result::Result<(), gatefold::Error>) -> Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

fn percentile(mut times: Vec<Duration>, percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100]
}
