//! Questions on stories: a person walks to a room, takes a thing, walks on; where is the thing? An LSTM that reads story and
//! question, with and without attention to everything that it read, or with a memory that it writes (NTM).
//!
//! `cargo run --release --example question_answering -- --facts 2 --model attention`: facts that an answer needs, 1 to 3;
//! `--model lstm` answers from the last state alone, `--model ntm` from the last state and what was read from the memory.
//! `--write FILE.jsonl` writes the stories, for `peers/python/questions.py` and for `gatefold train --data`, and trains nothing.
#![allow(clippy::print_stdout, reason = "an example talks")]

mod arguments;
mod stories;

use std::process::ExitCode;
use std::time::Instant;

use arguments::{Arguments, Result, finish};
use gatefold::network::{
    Activation, AttentionScore, AttentionSpec, DenseSpec, EmbeddingSpec, FinalStateSpec, FromSpec, HiddenOrCell, Init,
    Join, JoinSpec, LayerSpec, NtmSpec, RecurrentOutput, RecurrentSpec,
};
use gatefold::train::{
    Adam, Answers, Clip, Convention, Dataset, Event, Fit, Loss, Next, Optimizer, TrainOptions, Trainer,
};
use gatefold::{Device, DeviceChoice, Input, Network, NetworkSpec, Session};
use stories::{Facts, ROOMS, Story, vocabulary};

const EMBEDDING: usize = 32;
const BATCH: usize = 32;

fn main() -> ExitCode {
    let options =
        ["--device", "--facts", "--model", "--stories", "--hidden", "--epochs", "--rate", "--seed", "--write"];
    finish("question_answering", Arguments::read(&options).and_then(run))
}

fn run((args, rest): (Arguments, Vec<String>)) -> Result<()> {
    if let Some(word) = rest.first() {
        return Err(format!("expected options alone, got {word:?}").into());
    }
    let facts = match args.get("--facts", 1u8)? {
        1 => Facts::One,
        2 => Facts::Two,
        3 => Facts::Three,
        other => return Err(format!("--facts: expected 1, 2 or 3, got {other}").into()),
    };
    let model = args.get("--model", "attention".to_owned())?;
    let (count, epochs) = (args.get("--stories", 10_000usize)?, args.get("--epochs", 20usize)?);
    let (hidden, seed) = (args.get("--hidden", 64usize)?, args.get("--seed", 1u64)?);
    if count == 0 || hidden == 0 {
        return Err("--stories, --hidden: expected at least 1, got 0".into());
    }
    let [train, valid, test] = Story::sets(facts, [count, 1000, 1000], seed);
    let file = args.get("--write", String::new())?;
    if !file.is_empty() {
        let sets = [("train", &train), ("validation", &valid), ("test", &test)];
        std::fs::write(&file, sets.map(|(split, stories)| lines(split, stories)).concat())?;
        println!("{file}: {} stories", train.len() + valid.len() + test.len());
        return Ok(());
    }
    let device = Device::open(&args.get("--device", DeviceChoice::Auto)?)?;
    println!("{}\n  {}", train[0].words.join(" "), ROOMS[train[0].answer]);
    let words: Vec<usize> = train.iter().map(|story| story.words.len()).collect();
    let (sum, most) = (words.iter().sum::<usize>(), words.iter().max().copied().unwrap_or(0));
    println!("{count} stories of {} words on average, {most} at most; on {}", sum / count, device.info());

    let spec = match model.as_str() {
        "lstm" => looking_back(0, hidden),
        // A fact leads to the next: each is a look back.
        "attention" => looking_back(facts as usize + 1, hidden),
        "ntm" => with_memory(hidden),
        other => return Err(format!("--model: expected lstm, attention or ntm, got {other}").into()),
    };
    let network = Network::initialized(spec, Init::PyTorch, seed)?;
    let mut optimizer = Optimizer::from(Adam { learning_rate: args.get("--rate", 2e-3f64)?, ..Adam::default() });
    optimizer.clip = Some(Clip::GlobalNorm { max: 1.0, convention: Convention::PyTorch });
    let options = TrainOptions::new(Loss::CrossEntropy).optimizer(optimizer).seed(seed);
    let mut trainer = Trainer::new(&device, &network, options)?;
    println!("{model}: {} weights", network.parameters());
    let start = Instant::now();
    let fit = Fit::new(BATCH).epochs(epochs).patience(5);
    trainer.fit(&dataset(&train)?, Some(&dataset(&valid)?), &fit, |event| {
        if let Event::Epoch { epoch, train, valid: Some(valid), .. } = event {
            let seconds = start.elapsed().as_secs_f64();
            let (loss, accuracy) = (train.loss, 100.0 * valid.accuracy);
            println!("epoch {epoch:2}: loss {loss:.4}; validation accuracy {accuracy:.1} %, after {seconds:.0} s");
        }
        Next::Continue
    })?;
    let tested = trainer.evaluate_all(&dataset(&test)?, BATCH)?;
    println!("test: {:.1} % of 1,000 right", 100.0 * tested.accuracy);
    let session = Session::new(&device, &*trainer.network()?)?;
    for story in &test[..3] {
        let ids = story.ids();
        let output = session.run(Input::tokens(&ids, [ids.len(), 1]), None)?;
        let best = (0..ROOMS.len()).max_by(|&a, &b| output.values[a].total_cmp(&output.values[b])).unwrap_or(0);
        println!("{}\n  {}, expected {}", story.words.join(" "), ROOMS[best], ROOMS[story.answer]);
    }
    Ok(())
}

/// Stories as JSON lines, with the split and the answer of each.
fn lines(split: &str, stories: &[Story]) -> String {
    let line = |story: &Story| {
        let (text, label) = (story.words.join(" "), ROOMS[story.answer]);
        format!("{{\"split\": \"{split}\", \"text\": \"{text}\", \"label\": \"{label}\"}}\n")
    };
    stories.iter().map(line).collect()
}

fn dataset(stories: &[Story]) -> Result<Dataset> {
    let answers = stories.iter().map(|story| u32::try_from(story.answer)).collect::<std::result::Result<_, _>>()?;
    Ok(Dataset::tokens(stories.iter().map(Story::ids).collect(), Answers::Classes(answers))?)
}

fn embedding() -> LayerSpec {
    let num_embeddings = vocabulary().len() + 1;
    LayerSpec::Embedding(EmbeddingSpec {
        name: "embedding".into(),
        num_embeddings,
        embedding_dim: EMBEDDING,
        mask_zero: true,
    })
}

fn dense(name: &str, in_features: usize, out_features: usize, activation: Activation) -> LayerSpec {
    LayerSpec::Dense(DenseSpec { name: name.into(), in_features, out_features, bias: true, activation })
}

fn network(layers: Vec<LayerSpec>) -> NetworkSpec {
    NetworkSpec { format: 1, layers, text: None, labels: Vec::new() }
}

/// A memory of 32 rows that is written while the story is read.
fn with_memory(hidden: usize) -> NetworkSpec {
    const MEMORY: [usize; 2] = [32, 20];
    let memory = NtmSpec { output: RecurrentOutput::Last, ..NtmSpec::new("ntm", EMBEDDING, hidden, MEMORY) };
    let answer = dense("answer", hidden + MEMORY[1], ROOMS.len(), Activation::Linear);
    network(vec![embedding(), LayerSpec::Ntm(memory), answer])
}

/// An LSTM over story and question. Its last h, or after each look back a layer of that and of what was seen, is the query
/// of the next look at all of its outputs.
fn looking_back(looks: usize, hidden: usize) -> NetworkSpec {
    let mut layers = vec![
        embedding(),
        LayerSpec::Lstm(RecurrentSpec { bidirectional: looks > 0, ..RecurrentSpec::new("lstm", EMBEDDING, hidden) }),
        LayerSpec::FinalState(FinalStateSpec {
            name: "end".into(),
            layer: "lstm".into(),
            part: HiddenOrCell::H,
            level: None,
            direction: 0,
        }),
    ];
    let mut end = "end".to_owned();
    let mut width = hidden;
    for look in 0..looks {
        let [query, seen, both, next] = ["query", "seen", "both", "next"].map(|name| format!("{name}{look}"));
        layers.extend([
            dense(&query, width, 2 * hidden, Activation::Linear),
            LayerSpec::Attention(AttentionSpec {
                name: seen.clone(),
                embed_dim: 2 * hidden,
                keys: "lstm".into(),
                values: None,
                score: AttentionScore::Dot,
                num_heads: 1,
                scale: 1.0,
            }),
            LayerSpec::Join(JoinSpec { name: both, inputs: vec![seen, end], join: Join::Concat }),
            dense(&next, 2 * hidden + width, hidden, Activation::Tanh),
        ]);
        (end, width) = (next, hidden);
    }
    layers.push(LayerSpec::From(FromSpec { layer: end }));
    layers.push(dense("answer", width, ROOMS.len(), Activation::Linear));
    network(layers)
}
