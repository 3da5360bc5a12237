//! A conversation with memory: each text updates the sentiment model's state, which a file keeps from one process
//! to the next.
//!
//! `cargo run --release --example chat_memory -- --memory talk.state "I hated the first half."`, then again with the
//! next text. `--fork TEXT` shows what the sentiment would be with another last text.
#![allow(clippy::print_stdout, reason = "an example talks")]

mod arguments;

use std::path::PathBuf;
use std::process::ExitCode;

use arguments::{Arguments, Result, finish};
use gatefold::{Device, DeviceChoice, Input, Network, Session, State, StreamId, StreamPool, TextVectorizer};

fn main() -> ExitCode {
    let options = ["--memory", "--model", "--device", "--fork"];
    finish("chat_memory", Arguments::read(&options).and_then(run))
}

fn run((args, turns): (Arguments, Vec<String>)) -> Result<()> {
    if turns.is_empty() {
        return Err("expected at least one text, got none".into());
    }
    let memory: PathBuf = args.get("--memory", "chat_memory.state".into())?;
    let model: PathBuf = args.get("--model", "models/sentiment/sentiment.safetensors".into())?;
    let network = Network::load(model)?;
    let text = network.spec().text.as_ref().ok_or("expected a model that reads text, got one without a vocabulary")?;
    let words = TextVectorizer::new(text)?;
    let device = Device::open(&args.get("--device", DeviceChoice::Auto)?)?;
    let pool = StreamPool::new(Session::new(&device, &network)?, 2)?;
    let talk = pool.open()?;
    if memory.exists() {
        pool.restore(talk, &State::load(&memory, &network)?)?;
        println!("continuing from {}", memory.display());
    } else {
        println!("a new conversation");
    }
    let read = |stream: StreamId, said: &str| -> Result<f32> {
        let tokens = words.encode(said);
        if tokens.is_empty() {
            return Err(format!("expected words, got {said:?}").into());
        }
        let shape = if network.batch_first() { [1, tokens.len()] } else { [tokens.len(), 1] };
        let output = pool.advance(&[(stream, Input::tokens(&tokens, shape))])?;
        Ok(output.values(0).last().copied().unwrap_or(f32::NAN))
    };
    let fork: String = args.get("--fork", String::new())?;
    for (turn, said) in turns.iter().enumerate() {
        if turn + 1 == turns.len() && !fork.is_empty() {
            let other = pool.fork(talk)?;
            println!("{:3.0} % positive with another last text: {fork}", 100.0 * read(other, &fork)?);
        }
        println!("{:3.0} % positive after: {said}", 100.0 * read(talk, said)?);
    }
    pool.snapshot(talk)?.save(&memory, &network)?;
    println!("state stored in {}", memory.display());
    Ok(())
}
