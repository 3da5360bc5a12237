//! A customer service with memory: a thousand talks go on at once, each a stream. Every answer is the best of three candidates,
//! which are forks of the talk; the introduction that all talks share is read once. The service stops in the middle, and another
//! process goes on with the same words.
//!
//! `cargo run --release --example chat_memory -- --memory talks --turns 2`, then again without `--turns`. The first run trains
//! the network, which takes a minute or two; it stays in the folder.
#![allow(clippy::print_stdout, reason = "an example talks")]

mod arguments;
mod talks;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use arguments::{Arguments, Result, finish};
use fastrand::Rng;
use gatefold::network::{Activation, DenseSpec, EmbeddingSpec, Init, LayerSpec, RecurrentSpec};
use gatefold::train::{
    Adam, Answers, Clip, Convention, Dataset, Decay, Fit, Loss, Next, Optimizer, Schedule, TrainOptions, Trainer,
};
use gatefold::{
    Device, DeviceChoice, GenerateOptions, Network, NetworkSpec, PoolOptions, Sampling, Sequence, Session, State,
    StreamId, StreamPool,
};
use talks::{COUNT, END, Talk, introduction, vocabulary};

const EMBEDDING: usize = 32;
const HIDDEN: usize = 128;
const BATCH: usize = 32;
/// Talks of an epoch of training.
const TALKS: usize = 4000;
/// Candidates of an answer: the most probable words, and drawn ones.
const CANDIDATES: usize = 3;
/// Most words of an answer.
const WORDS: usize = 16;

fn main() -> ExitCode {
    let options = ["--memory", "--talks", "--turns", "--device", "--seed", "--epochs"];
    finish("chat_memory", Arguments::read(&options).and_then(run))
}

fn run((args, rest): (Arguments, Vec<String>)) -> Result<()> {
    if let Some(word) = rest.first() {
        return Err(format!("expected options alone, got {word:?}").into());
    }
    let folder: PathBuf = args.get("--memory", "talks".into())?;
    let (count, turns) = (args.get("--talks", 1000usize)?.max(1), args.get("--turns", COUNT)?);
    let (seed, epochs) = (args.get("--seed", 1u64)?, args.get("--epochs", 16usize)?);
    let device = Device::open(&args.get("--device", DeviceChoice::Auto)?)?;
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let (model, words) = (folder.join("service.safetensors"), vocabulary());
    if !model.exists() {
        // So small a network trains as fast on the CPU.
        train(&Device::cpu(), words.len(), epochs, seed)?.save(&model)?;
    }
    let network = Network::load(&model)?;
    if network.num_embeddings() != Some(words.len()) {
        return Err(format!("{}: expected a model of {} words, got another", model.display(), words.len()).into());
    }
    let options = PoolOptions { capacity: count, prefix_bytes: 1 << 16, ..PoolOptions::default() };
    let pool = StreamPool::with_options(Session::new(&device, &network)?, options)?;
    let mut service = Service::begin(pool, &folder, count, seed)?;
    let last = service.turn.saturating_add(turns).min(COUNT);
    while service.turn < last {
        let start = Instant::now();
        let right = service.answer(&words)?;
        let seconds = start.elapsed().as_secs_f64();
        println!("turn {}: {right} of {count} answers are right, {seconds:.2} s", service.turn);
    }
    service.store(&folder)?;
    println!("{count} talks stored after turn {}; all words so far: {:016x}", service.turn, service.digest);
    Ok(())
}

/// The talks and what has been said.
struct Service {
    pool: StreamPool,
    customers: Vec<Talk>,
    talks: Vec<StreamId>,
    /// The last word of each talk, which its stream has not read yet.
    unread: Vec<Option<u32>>,
    /// Turns that are done.
    turn: usize,
    /// A hash of all answers.
    digest: u64,
    seed: u64,
}

/// What is in the folder beside the states: turns done, talks, seed and hash, then the last word of each talk.
fn progress(folder: &Path) -> PathBuf {
    folder.join("progress.txt")
}

impl Service {
    /// Goes on with what is in the folder, or begins.
    fn begin(pool: StreamPool, folder: &Path, count: usize, seed: u64) -> Result<Self> {
        let mut rng = Rng::with_seed(seed);
        let customers = (0..count).map(|_| Talk::new(&mut rng)).collect();
        let path = progress(folder);
        let mut service =
            Self { pool, customers, talks: Vec::new(), unread: vec![None; count], turn: 0, digest: 0, seed };
        let ids = service.ids(&introduction())?;
        let start = Instant::now();
        if !path.exists() {
            for _ in 0..count {
                service.talks.push(service.pool.open_with_prefix(&ids)?);
            }
            let counters = service.pool.prefix_counters();
            let (read, hits) = (ids.len(), counters.hits);
            println!(
                "{count} talks begin: {read} words of introduction read once, found {hits} times, {:.2?}",
                start.elapsed()
            );
            return Ok(service);
        }
        let text = std::fs::read_to_string(&path)?;
        let numbers: Vec<u64> = text.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>()?;
        let [turn, talks, old_seed, digest, unread @ ..] = &numbers[..] else {
            return Err(format!("{}: expected at least four numbers, got {}", path.display(), numbers.len()).into());
        };
        let [turn, talks, old_seed, digest] = [turn, talks, old_seed, digest].map(|number| *number);
        if (talks, old_seed) != (count as u64, seed) {
            return Err(format!("expected --talks {talks} --seed {old_seed}, got --talks {count} --seed {seed}").into());
        }
        if unread.len() != count {
            return Err(format!("{}: expected {count} last words, got {}", path.display(), unread.len()).into());
        }
        (service.turn, service.digest) = (usize::try_from(turn)?, digest);
        let state = State::load(folder.join("talks.state"), service.pool.session().network())?;
        for _ in 0..count {
            service.talks.push(service.pool.open()?);
        }
        service.pool.set_states(&service.talks, &state)?;
        service.unread = unread.iter().map(|&id| u32::try_from(id).ok().filter(|_| turn > 0)).collect();
        println!("{count} talks go on after turn {turn}, {:.2?}", start.elapsed());
        Ok(service)
    }

    fn ids(&self, words: &[&str]) -> Result<Vec<u32>> {
        let ids: BTreeMap<&str, u32> = vocabulary().into_iter().zip(0..).collect();
        words.iter().map(|word| ids.get(word).copied().ok_or_else(|| format!("no such word: {word}").into())).collect()
    }

    /// One turn of every talk: what the customer says, three candidates on forks of the talk, and the best of them, whose
    /// fork goes on in place of the talk. Says how many answers are right.
    fn answer(&mut self, words: &[&str]) -> Result<usize> {
        let mut prompts = Vec::new();
        for (customer, unread) in self.customers.iter().zip(&self.unread) {
            prompts.push(unread.iter().copied().chain(self.ids(&customer.said(self.turn))?).collect::<Vec<u32>>());
        }
        let mut candidates: Vec<(Vec<StreamId>, Vec<Sequence>)> = Vec::new();
        for number in 0..CANDIDATES {
            let forks: Vec<StreamId> =
                self.talks.iter().map(|&talk| self.pool.fork(talk)).collect::<std::result::Result<_, _>>()?;
            let calls: Vec<_> = forks.iter().copied().zip(prompts.iter().map(Vec::as_slice)).collect();
            let drawn_seed = self.seed + (self.turn * CANDIDATES + number) as u64;
            let sampling = (number > 0).then(|| Sampling { seed: drawn_seed, ..Sampling::default() });
            let options =
                GenerateOptions { max_new_tokens: WORDS, eos: vec![0], sampling, ..GenerateOptions::default() };
            let sequences = self.pool.generate(&calls, &options)?;
            candidates.push((forks, sequences));
        }
        let (mut right, mut hasher) = (0, DefaultHasher::new());
        self.digest.hash(&mut hasher);
        for talk in 0..self.talks.len() {
            // The most probable word for word; of equal ones the first.
            let score = |number: usize| {
                let sequence: &Sequence = &candidates[number].1[talk];
                sequence.log_probability / sequence.tokens.len() as f32
            };
            let best = (1..CANDIDATES).fold(0, |best, number| if score(number) > score(best) { number } else { best });
            let tokens = &candidates[best].1[talk].tokens;
            tokens.hash(&mut hasher);
            let show = |tokens: &[u32]| {
                tokens.iter().map(|&id| words[id as usize]).filter(|&word| word != END).collect::<Vec<_>>()
            };
            right += usize::from(self.customers[talk].is_right(self.turn, &show(tokens)));
            if talk == 0 {
                println!("  {}", self.customers[0].said(self.turn).join(" "));
                for (number, (_, sequences)) in candidates.iter().enumerate() {
                    let chosen = if number == best { "->" } else { "  " };
                    println!("    {chosen} {:6.2}  {}", score(number), show(&sequences[0].tokens).join(" "));
                }
            }
            self.unread[talk] = tokens.last().copied();
            for (number, (forks, _)) in candidates.iter().enumerate() {
                let old =
                    if number == best { std::mem::replace(&mut self.talks[talk], forks[talk]) } else { forks[talk] };
                self.pool.close(old)?;
            }
        }
        (self.turn, self.digest) = (self.turn + 1, hasher.finish());
        Ok(right)
    }

    /// Stores all talks, so that another process can go on.
    fn store(&mut self, folder: &Path) -> Result<()> {
        let network = self.pool.session().network().clone();
        self.pool.states(&self.talks)?.save(folder.join("talks.state"), &network)?;
        let unread: Vec<String> = self.unread.iter().map(|id| id.unwrap_or(0).to_string()).collect();
        let (turn, talks, seed, digest) = (self.turn, self.talks.len(), self.seed, self.digest);
        let text = format!("{turn} {talks} {seed} {digest}\n{}\n", unread.join(" "));
        Ok(gatefold::files::write(&progress(folder), text.as_bytes())?)
    }
}

fn spec(words: usize) -> NetworkSpec {
    let embedding =
        EmbeddingSpec { name: "embedding".into(), num_embeddings: words, embedding_dim: EMBEDDING, mask_zero: false };
    let next = DenseSpec {
        name: "next".into(),
        in_features: HIDDEN,
        out_features: words,
        bias: true,
        activation: Activation::Linear,
    };
    let lstm = RecurrentSpec::new("lstm", EMBEDDING, HIDDEN);
    let layers = vec![LayerSpec::Embedding(embedding), LayerSpec::Lstm(lstm), LayerSpec::Dense(next)];
    NetworkSpec { format: 1, layers, text: None, labels: Vec::new() }
}

/// Trains a network to go on with talks word by word.
fn train(device: &Device, words: usize, epochs: usize, seed: u64) -> Result<Network> {
    let ids: BTreeMap<&str, u32> = vocabulary().into_iter().zip(0..).collect();
    let mut rng = Rng::with_seed(seed ^ 0x5eed);
    let mut dataset = || -> Result<Dataset> {
        let talks: Vec<Vec<u32>> =
            (0..TALKS).map(|_| Talk::new(&mut rng).whole().iter().map(|word| ids[word]).collect()).collect();
        let [read, next] =
            [0, 1].map(|from| talks.iter().map(|talk| talk[from..talk.len() - 1 + from].to_vec()).collect());
        Ok(Dataset::tokens(read, Answers::StepClasses(next))?)
    };
    let network = Network::initialized(spec(words), Init::PyTorch, seed)?;
    let mut optimizer = Optimizer::from(Adam { learning_rate: 5e-3, ..Adam::default() });
    optimizer.clip = Some(Clip::GlobalNorm { max: 1.0, convention: Convention::PyTorch });
    let then = Decay::Cosine { steps: (epochs * TALKS / BATCH) as u64, lowest: 0.02 };
    let options =
        TrainOptions::new(Loss::CrossEntropy).optimizer(optimizer).schedule(Schedule { warm_up: 0, then }).seed(seed);
    let mut trainer = Trainer::new(device, &network, options)?;
    println!("training on {TALKS} new talks in every epoch, {words} words, on {}", device.info());
    let start = Instant::now();
    for epoch in 1..=epochs {
        trainer.fit(&dataset()?, None, &Fit::new(BATCH), |_| Next::Continue)?;
        println!("epoch {epoch}, after {:.0} s", start.elapsed().as_secs_f64());
    }
    Ok(trainer.network()?.as_ref().clone())
}
