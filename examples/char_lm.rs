//! A language model of characters: Embedding, LSTM and Dense at every step, trained to say the next character.
//!
//! `cargo run --release --example char_lm -- --epochs 20`; the text is this repository's documentation, or that of the
//! files that are named. After each epoch: loss and perplexity of the last tenth of the text, and a text that is drawn.
#![allow(clippy::print_stdout, reason = "an example talks")]

mod arguments;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use arguments::{Arguments, Result, finish};
use gatefold::network::{Activation, DenseSpec, EmbeddingSpec, Init, LayerSpec, RecurrentSpec};
use gatefold::train::{Adam, Answers, Clip, Convention, Dataset, Fit, Loss, Next, Optimizer, TrainOptions, Trainer};
use gatefold::{Device, DeviceChoice, GenerateOptions, Network, NetworkSpec, Sampling, Session, StreamPool};

/// Characters of a chunk: gradients reach no further back, and each chunk begins with a state of zeros.
const CHUNK: usize = 64;
const BATCH: usize = 16;
const EMBEDDING: usize = 32;
const HIDDEN: usize = 128;
/// What a character is shown as that training has not seen; its id is 0.
const UNKNOWN: char = '?';

fn main() -> ExitCode {
    finish("char_lm", Arguments::read(&["--device", "--epochs", "--seed", "--prompt"]).and_then(run))
}

fn run((args, files): (Arguments, Vec<String>)) -> Result<()> {
    let (epochs, seed) = (args.get("--epochs", 20usize)?, args.get("--seed", 1u64)?);
    let prompt = args.get("--prompt", "The network ".to_owned())?;
    let device = Device::open(&args.get("--device", DeviceChoice::Auto)?)?;
    let files = if files.is_empty() { documents()? } else { files.into_iter().map(Into::into).collect() };
    let mut text: Vec<char> = Vec::new();
    for file in &files {
        text.extend(std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?.chars());
    }
    let (train, valid) = text.split_at(text.len() - text.len() / 10);
    if prompt.is_empty() {
        return Err("--prompt: expected at least one character, got none".into());
    }
    if valid.len() <= CHUNK {
        let needed = 10 * CHUNK + 10;
        return Err(format!("expected at least {needed} characters of text, got {}", text.len()).into());
    }
    let mut characters = vec![UNKNOWN];
    characters.extend(train.iter().copied().collect::<std::collections::BTreeSet<char>>());
    let ids: BTreeMap<char, u32> = characters.iter().copied().zip(0..).skip(1).collect();
    let encode = |text: &[char]| -> Vec<u32> { text.iter().map(|c| ids.get(c).copied().unwrap_or(0)).collect() };
    let (train, valid) = (encode(train), chunks(&encode(valid))?);
    let prompt: Vec<u32> = encode(&prompt.chars().collect::<Vec<_>>());

    let network = Network::initialized(spec(characters.len()), Init::PyTorch, seed)?;
    let mut optimizer = Optimizer::from(Adam { learning_rate: 4e-3, ..Adam::default() });
    optimizer.clip = Some(Clip::GlobalNorm { max: 1.0, convention: Convention::PyTorch });
    let options = TrainOptions::new(Loss::CrossEntropy).optimizer(optimizer).seed(seed);
    let mut trainer = Trainer::new(&device, &network, options)?;
    println!("{} characters, {} different, from {} files; on {}", text.len(), ids.len(), files.len(), device.info());
    let start = Instant::now();
    for epoch in 0..epochs {
        // The chunks of each epoch begin elsewhere, so that every character is predicted from many or few before it.
        let shifted = chunks(&train[(epoch * 23) % CHUNK..])?;
        trainer.fit(&shifted, None, &Fit::new(BATCH), |_| Next::Continue)?;
        let loss = trainer.evaluate_all(&valid, BATCH)?.loss;
        let (perplexity, seconds) = (loss.exp(), start.elapsed().as_secs_f64());
        println!("epoch {}: loss {loss:.3}, perplexity {perplexity:.2}, after {seconds:.1} s", epoch + 1);
        let drawn = sample(&device, &*trainer.network()?, &prompt, seed)?;
        let shown: String = prompt.iter().chain(&drawn).map(|&id| characters[id as usize]).collect();
        println!("  {}", shown.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    Ok(())
}

/// README.md and docs/*.md, in the order of their names.
fn documents() -> Result<Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root.join("docs"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "md") {
            files.push(path);
        }
    }
    files.sort();
    files.push(root.join("README.md"));
    Ok(files)
}

fn spec(characters: usize) -> NetworkSpec {
    let embedding = EmbeddingSpec {
        name: "embedding".into(),
        num_embeddings: characters,
        embedding_dim: EMBEDDING,
        mask_zero: false,
    };
    let dense = DenseSpec {
        name: "dense".into(),
        in_features: HIDDEN,
        out_features: characters,
        bias: true,
        activation: Activation::Linear, // the loss and the generation read logits
    };
    let lstm = RecurrentSpec::new("lstm", EMBEDDING, HIDDEN);
    let layers = vec![LayerSpec::Embedding(embedding), LayerSpec::Lstm(lstm), LayerSpec::Dense(dense)];
    NetworkSpec { format: 1, layers, text: None, labels: Vec::new() }
}

/// Chunks, each with the same characters one further as its answers.
fn chunks(ids: &[u32]) -> Result<Dataset> {
    let [read, next] = [&ids[..ids.len() - 1], &ids[1..]].map(|ids| ids.chunks_exact(CHUNK).map(<[u32]>::to_vec));
    Ok(Dataset::tokens(read.collect(), Answers::StepClasses(next.collect()))?)
}

/// Draws characters behind `prompt`.
fn sample(device: &Device, network: &Network, prompt: &[u32], seed: u64) -> Result<Vec<u32>> {
    let pool = StreamPool::new(Session::new(device, network)?, 1)?;
    let sampling = Some(Sampling { temperature: 0.6, seed, ..Sampling::default() });
    let options = GenerateOptions { max_new_tokens: 120, sampling, ..GenerateOptions::default() };
    let found = pool.generate(&[(pool.open()?, prompt)], &options)?;
    Ok(found.into_iter().next().map(|sequence| sequence.tokens).unwrap_or_default())
}
