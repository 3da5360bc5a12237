//! What a pool's states cost that are shared or put away: forks, steps back, a shared introduction, and more streams than
//! the device has memory for.
//!
//! `cargo run --release --example store_of_states -- --streams 1000000 --device cpu`; `--file PATH` is where states lie that have no room
//! in the host's memory either.
#![allow(clippy::print_stdout, reason = "an example talks")]

mod arguments;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use arguments::{Arguments, Result, finish};
use fastrand::Rng;
use gatefold::network::{EmbeddingSpec, LayerSpec, RecurrentSpec};
use gatefold::{
    Device, DeviceChoice, Input, Network, NetworkSpec, PagingOptions, PoolOptions, RandomInput, Session, StreamId,
    StreamPool,
};

const HIDDEN: usize = 256;
/// Vectors of the streams.
const FEATURES: usize = 8;
const MEGABYTE: u64 = 1_000_000;
/// Streams of a batch.
const BATCH: usize = 1000;

fn main() -> ExitCode {
    let options =
        ["--device", "--streams", "--device-megabytes", "--host-megabytes", "--file", "--file-megabytes", "--returns"];
    finish("store_of_states", Arguments::read(&options).and_then(run))
}

fn run((args, rest): (Arguments, Vec<String>)) -> Result<()> {
    if let Some(word) = rest.first() {
        return Err(format!("expected options alone, got {word:?}").into());
    }
    let device = Device::open(&args.get("--device", DeviceChoice::Auto)?)?;
    println!("on {}", device.info());
    forks(&device)?;
    prefix(&device)?;
    paging(&device, &args)
}

fn network(layers: Vec<LayerSpec>) -> Result<Network> {
    Ok(Network::random(NetworkSpec { format: 1, layers, text: None, labels: Vec::new() }, 1)?)
}

/// Forks of a stream with a bank of 200 kB, and steps back.
fn forks(device: &Device) -> Result<()> {
    const COUNT: u32 = 10_000;
    let layers = serde_json::from_str(
        r#"[{"type": "embedding", "name": "written", "num_embeddings": 5, "embedding_dim": 4},
        {"type": "lstm", "name": "decoder", "input_size": 4, "hidden_size": 256},
        {"type": "dense", "name": "query", "in_features": 256, "out_features": 64},
        {"type": "input", "name": "source", "input_size": 64}, {"type": "from", "layer": "query"},
        {"type": "attention", "name": "attention", "embed_dim": 64, "keys": "source"},
        {"type": "dense", "name": "next", "in_features": 64, "out_features": 5}]"#,
    )?;
    let network = network(layers)?;
    let source = vec![0.5; 800 * 64];
    let open = |keep_last| -> Result<(StreamPool, StreamId)> {
        let options = PoolOptions { keep_last, ..PoolOptions::default() };
        let pool = StreamPool::with_options(Session::new(device, &network)?, options)?;
        let id = pool.open_reading(Input::features(&source, [800, 1, 64]))?[0];
        Ok((pool, id))
    };
    let (pool, id) = open(0)?;
    let token = [1];
    let read = |id| (id, Input::tokens(&token, [1, 1]));
    pool.advance(&[read(id)])?;
    let before = pool.states_by_place()[0];
    let start = Instant::now();
    let forks: Vec<StreamId> = (0..COUNT).map(|_| pool.fork(id)).collect::<std::result::Result<_, _>>()?;
    let each = start.elapsed() / COUNT;
    println!("{COUNT} forks: {each:.0?} each, {} states more on the device", pool.states_by_place()[0] - before);
    let calls: Vec<_> = forks[..1000].iter().map(|&fork| read(fork)).collect();
    let times = [(); 2].map(|()| timed(|| Ok(pool.advance(&calls).map(drop)?)));
    let [first, later] = times;
    println!("1,000 of them advance: {:.2?} with the copies of their states, {:.2?} later", first?, later?);
    let (pool, id) = open(4)?;
    for _ in 0..4 {
        pool.advance(&[read(id)])?;
    }
    let forks: Vec<StreamId> = (0..COUNT).map(|_| pool.fork(id)).collect::<std::result::Result<_, _>>()?;
    let start = Instant::now();
    forks.iter().try_for_each(|&fork| pool.rewind(fork, 1))?;
    println!("a step back of each of {COUNT} forks: {:.0?} each", start.elapsed() / COUNT);
    Ok(())
}

/// An introduction of 1,000 tokens that 1,001 streams share.
fn prefix(device: &Device) -> Result<()> {
    let embedding = EmbeddingSpec { name: "words".into(), num_embeddings: 1000, embedding_dim: 64, mask_zero: false };
    let network =
        network(vec![LayerSpec::Embedding(embedding), LayerSpec::Lstm(RecurrentSpec::new("lstm", 64, HIDDEN))])?;
    let options = PoolOptions { prefix_bytes: MEGABYTE, ..PoolOptions::default() };
    let pool = StreamPool::with_options(Session::new(device, &network)?, options)?;
    let RandomInput::Tokens(intro, _) = RandomInput::new(&network, 1000, 1, 1)? else { return Ok(()) };
    // Plans are made ready.
    let plain = pool.open()?;
    pool.advance(&[(plain, Input::tokens(&intro, [1000, 1]))])?;
    let first = timed(|| Ok(pool.open_with_prefix(&intro).map(drop)?))?;
    let mut streams = Vec::new();
    let all = timed(|| {
        for _ in 0..1000 {
            streams.push(pool.open_with_prefix(&intro)?);
        }
        Ok(())
    })?;
    let counters = pool.prefix_counters();
    println!(
        "1,000 tokens read: {first:.2?}; 1,000 more streams: {all:.2?}, {} hits, {} bytes",
        counters.hits, counters.bytes
    );
    let calls: Vec<_> = streams.iter().map(|&id| (id, Input::tokens(&intro[..1], [1, 1]))).collect();
    let (started, later) =
        (timed(|| Ok(pool.advance(&calls).map(drop)?))?, timed(|| Ok(pool.advance(&calls).map(drop)?))?);
    let expected = pool.advance(&[(plain, Input::tokens(&intro[..1], [1, 1]))])?;
    let one = pool.open_with_prefix(&intro)?;
    let got = pool.advance(&[(one, Input::tokens(&intro[..1], [1, 1]))])?;
    let same = if got.values(0) == expected.values(0) { "same" } else { "not the same" };
    println!(
        "their first step: {started:.2?} with the gather of their states, {later:.2?} later; {same} bits as after reading"
    );
    Ok(())
}

/// Many open streams of an LSTM, most of them idle.
fn paging(device: &Device, args: &Arguments) -> Result<()> {
    let (count, returns) = (args.get("--streams", 1_000_000usize)?.max(1), args.get("--returns", 20_000usize)?);
    let megabytes = |name: &str, default: u64| Ok::<_, Box<dyn std::error::Error>>(args.get(name, default)? * MEGABYTE);
    let (device_bytes, host_bytes) = (megabytes("--device-megabytes", 64)?, megabytes("--host-megabytes", 2000)?);
    let (file, file_bytes) = (args.get("--file", String::new())?, megabytes("--file-megabytes", 4000)?);
    let file = (!file.is_empty()).then(|| PathBuf::from(file));
    let file_bytes = if file.is_some() { file_bytes } else { 0 };
    let network = network(vec![LayerSpec::Lstm(RecurrentSpec::new("lstm", FEATURES, HIDDEN))])?;
    let paging = Some(PagingOptions { device_bytes, host_bytes, file_bytes, file });
    let pool =
        StreamPool::with_options(Session::new(device, &network)?, PoolOptions { paging, ..PoolOptions::default() })?;
    let mut ids: Vec<StreamId> = Vec::new();
    let opened = timed(|| {
        for _ in 0..count {
            ids.push(pool.open()?);
        }
        Ok(())
    })?;
    let frame = [0.25; FEATURES];
    let input = Input::features(&frame, [1, 1, FEATURES]);
    let advanced = timed(|| {
        for some in ids.chunks(BATCH) {
            pool.advance(&some.iter().map(|&id| (id, input)).collect::<Vec<_>>())?;
        }
        Ok(())
    })?;
    let [on_device, host, in_file] = pool.states_by_place();
    println!("{count} streams of H {HIDDEN}: opened in {opened:.2?}, a step of each in {advanced:.1?}");
    println!(
        "{on_device} states on the device ({} bytes), {host} in the host's memory, {in_file} in the file",
        pool.state_bytes()
    );
    let (mut rng, mut times) = (Rng::with_seed(1), [const { Vec::new() }; 3]);
    for _ in 0..returns {
        let id = ids[rng.usize(..count)];
        let before = pool.counters();
        let time = timed(|| Ok(pool.advance(&[(id, input)]).map(drop)?))?;
        let after = pool.counters();
        let moved = [after.paged_in - before.paged_in, after.read_from_file - before.read_from_file];
        times[match moved {
            [0, _] => 0,
            [_, 0] => 1,
            _ => 2,
        }]
        .push(time);
    }
    for (place, mut times) in ["on the device", "in the host's memory", "in the file"].into_iter().zip(times) {
        times.sort_unstable();
        let at = |thousandths: usize| times[(times.len() - 1) * thousandths / 1000];
        if !times.is_empty() {
            let all = [500, 990, 999, 1000].map(|share| format!("{:.3?}", at(share))).join(", ");
            println!(
                "a step of a stream that was {place}: {} times; 50 %, 99 %, 99.9 % and all under {all}",
                times.len()
            );
        }
    }
    Ok(())
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}
