//! Trains the model of `models/dates`: an encoder that reads letters in both directions, and a decoder that attends to what it
//! left (Luong's `general` score), one network of two inputs.
//!
//! `python models/dates/dates.py 640000 > dates.tsv`, then
//! `cargo run --release --example train_dates -- dates.tsv` (a text and its date in every line)
#![allow(clippy::print_stdout, reason = "an example talks")]

mod arguments;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use arguments::{Arguments, Result, finish};
use gatefold::network::{Init, LayerSpec};
use gatefold::train::{
    Adam, Batch, Clip, Convention, Decay, Loss, Optimizer, Schedule, Targets, TrainOptions, Trainer,
};
use gatefold::{Device, DeviceChoice, Input, NamedInput, Network, NetworkSpec, Session};

/// By token; a letter that is not among them is read as a blank.
const SOURCE: &str = " ,./-0123456789abcdefghijklmnopqrstuvwxyz";
/// Token 0 begins and ends a date.
const TARGET: &str = "$-0123456789";
/// Letters of a date and the token that ends it.
const STEPS: usize = 11;
const BATCH: usize = 128;

const LAYERS: &str = r#"[
    {"type": "input", "name": "source", "kind": "tokens"},
    {"type": "embedding", "name": "letters", "num_embeddings": 41, "embedding_dim": 16},
    {"type": "lstm", "name": "encoder", "input_size": 16, "hidden_size": 22, "bidirectional": true},
    {"type": "final_state", "name": "read", "layer": "encoder", "part": "h"},
    {"type": "dense", "name": "start", "in_features": 22, "out_features": 36, "activation": "tanh"},
    {"type": "input", "name": "target", "kind": "tokens"},
    {"type": "embedding", "name": "written", "num_embeddings": 12, "embedding_dim": 16},
    {"type": "lstm", "name": "decoder", "input_size": 16, "hidden_size": 36, "initial_h": "start"},
    {"type": "dense", "name": "query", "in_features": 36, "out_features": 44, "bias": false},
    {"type": "attention", "name": "attention", "embed_dim": 44, "keys": "encoder"},
    {"type": "join", "name": "both", "inputs": ["decoder", "attention"], "join": "concat"},
    {"type": "dense", "name": "next", "in_features": 80, "out_features": 12}
]"#;

/// Texts and dates.
type Pairs = Vec<(String, String)>;

fn main() -> ExitCode {
    finish("train_dates", Arguments::read(&["--device", "--to", "--steps", "--seed", "--rate"]).and_then(run))
}

fn run((args, files): (Arguments, Vec<String>)) -> Result<()> {
    let [file] = &files[..] else { return Err(format!("expected one file of pairs, got {}", files.len()).into()) };
    let (steps, seed) = (args.get("--steps", 5000u64)?, args.get("--seed", 1u64)?);
    let folder: PathBuf = args.get("--to", "models/dates".into())?;
    let (pairs, held_out) = (read(Path::new(file))?, read(&folder.join("held_out.tsv"))?);
    let device = Device::open(&args.get("--device", DeviceChoice::Cpu)?)?;
    let layers: Vec<LayerSpec> = serde_json::from_str(LAYERS)?;
    let spec = NetworkSpec { format: 1, layers, text: None, labels: Vec::new() };
    let network = Network::initialized(spec, Init::PyTorch, seed)?;
    println!("{} weights, {} pairs", network.parameters(), pairs.len());
    let adam = Adam { learning_rate: args.get("--rate", 5e-3)?, ..Adam::default() };
    let clip = Some(Clip::GlobalNorm { max: 1.0, convention: Convention::PyTorch });
    let then = Decay::OneCycle { steps, rise: 0.3, start: 0.04, end: 4e-6 };
    let options = TrainOptions::new(Loss::CrossEntropy)
        .optimizer(Optimizer { clip, ..adam.into() })
        .schedule(Schedule { warm_up: 0, then });
    let mut trainer = Trainer::new(&device, &network, options)?;
    let (start, mut sum) = (Instant::now(), 0.0);
    let mut batches = pairs.chunks_exact(BATCH).cycle();
    for step in 1..=steps {
        let Some(pairs) = batches.next() else { return Err(format!("expected {BATCH} pairs or more").into()) };
        sum += with_batch(pairs, |batch| Ok(trainer.step(&batch)?.loss))?;
        if step % 500 == 0 || step == steps {
            let right = exact(&Session::new(&device, &*trainer.network()?)?, &held_out)?;
            let seconds = start.elapsed().as_secs();
            println!("step {step}, loss {:.5}, {right} of {} held out right, {seconds} s", sum / 500.0, held_out.len());
            sum = 0.0;
            trainer.network()?.save(folder.join("translator.safetensors"))?;
        }
    }
    Ok(())
}

/// Pairs of a file; what follows a second tab is left out.
fn read(path: &Path) -> Result<Pairs> {
    let file = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let pair = |line: &str| {
        let mut columns = line.split('\t').map(str::to_owned);
        let pair = columns.next().zip(columns.next().filter(|date| date.len() + 1 == STEPS));
        pair.ok_or_else(|| format!("{}: expected text and date in every line, got {line:?}", path.display()))
    };
    Ok(file.lines().map(pair).collect::<std::result::Result<_, _>>()?)
}

/// The tokens `[S, B]` of texts and `[11, B]` of dates, each behind the token that begins it.
fn with_batch<T>(pairs: &[(String, String)], take: impl FnOnce(Batch<'_>) -> Result<T>) -> Result<T> {
    let batch = pairs.len();
    let id = |letters: &str, letter: char| u32::try_from(letters.find(letter).unwrap_or(0)).unwrap_or(0);
    let lengths: Vec<usize> = pairs.iter().map(|(text, _)| text.len()).collect();
    let longest = lengths.iter().copied().max().unwrap_or(1);
    let mut source = vec![0; longest * batch];
    let (mut given, mut wanted) = (vec![0; STEPS * batch], vec![0; STEPS * batch]);
    for (row, (text, date)) in pairs.iter().enumerate() {
        text.chars().enumerate().for_each(|(step, letter)| source[step * batch + row] = id(SOURCE, letter));
        for (step, letter) in date.chars().enumerate() {
            wanted[step * batch + row] = id(TARGET, letter);
            given[(step + 1) * batch + row] = id(TARGET, letter);
        }
    }
    let others = [NamedInput::tokens("target", &given[..], [STEPS, batch])];
    let input = Input::tokens(&source, [longest, batch]).with_lengths(&lengths).with_others(&others);
    take(Batch { input, targets: Targets::Classes(&wanted), weights: None })
}

/// How many dates are right: a greedy answer is, where the most probable letter behind every part of the date is right.
fn exact(session: &Session, pairs: &Pairs) -> Result<usize> {
    with_batch(pairs, |Batch { input, targets, .. }| {
        let Targets::Classes(wanted) = targets else { return Ok(0) };
        let output = session.run(input, None)?;
        let most = |logits: &[f32]| {
            (0u32..).zip(logits).fold((0, f32::MIN), |a, b| if *b.1 > a.1 { (b.0, *b.1) } else { a }).0
        };
        let right: Vec<bool> = output
            .values
            .chunks_exact(TARGET.len())
            .zip(wanted)
            .map(|(logits, &wanted)| most(logits) == wanted)
            .collect();
        Ok((0..pairs.len()).filter(|&row| right.iter().skip(row).step_by(pairs.len()).all(|&right| right)).count())
    })
}
