//! What is said is remembered: each turn moves the sentiment model's state, which a file keeps from one process
//! to the next.
//!
//! `cargo run --release --example chat_memory -- --memory talk.state "I hated the first half."`, then again with what is
//! said next. `--fork TEXT` shows what the mood would be had something else been said last.
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
        return Err("expected something to say, got nothing".into());
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
        println!("going on from {}", memory.display());
    } else {
        println!("a new talk");
    }
    let hear = |stream: StreamId, said: &str| -> Result<f32> {
        let tokens = words.encode(said);
        if tokens.is_empty() {
            return Err(format!("expected words, got {said:?}").into());
        }
        let shape = if network.batch_first() { [1, tokens.len()] } else { [tokens.len(), 1] };
        let heard = pool.advance(&[(stream, Input::tokens(&tokens, shape))])?;
        Ok(heard.values(0).last().copied().unwrap_or(f32::NAN))
    };
    let fork: String = args.get("--fork", String::new())?;
    for (turn, said) in turns.iter().enumerate() {
        if turn + 1 == turns.len() && !fork.is_empty() {
            let other = pool.fork(talk)?;
            println!("{:3.0} % positive, had it been: {fork}", 100.0 * hear(other, &fork)?);
        }
        println!("{:3.0} % positive after: {said}", 100.0 * hear(talk, said)?);
    }
    pool.snapshot(talk)?.save(&memory, &network)?;
    println!("kept in {}", memory.display());
    Ok(())
}
