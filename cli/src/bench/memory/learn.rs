//! Trains a network for so many seconds, tests it, and times it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatefold::train::{Adam, Clip, Convention, Optimizer, TrainOptions, Trainer};
use gatefold::verify;
use gatefold::{Device, Input, Network, Session};

use super::super::measure::Counts;
use super::task::{Examples, Source, Task};
use crate::Result;
use crate::stats::Summary;
use crate::units::count;

/// Sequences of each length, and a fourth of the stories, that a network is tested with, and those that choose the best
/// of its states while it is trained.
const TESTS: usize = 100;
const VALIDATION: usize = 20;
/// How often it is validated.
const PARTS: u32 = 10;
/// Of Adam.
const RATE: f64 = 3e-3;

/// Right answers of all that count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Score {
    pub right: u64,
    pub counted: u64,
}

impl Score {
    #[expect(clippy::cast_precision_loss, reason = "counts of answers")]
    pub fn share(self) -> f64 {
        self.right as f64 / self.counted.max(1) as f64
    }

    /// Whether a network that has learned nothing could have it: within five standard errors of chance, and as much beyond
    /// that as random weights may happen to let through of what they read.
    pub fn is_chance(self, task: Task) -> bool {
        const BY_WEIGHTS: f64 = 0.03;
        let chance = task.chance();
        #[expect(clippy::cast_precision_loss, reason = "counts of answers")]
        let error = (chance * (1.0 - chance) / self.counted.max(1) as f64).sqrt();
        (self.share() - chance).abs() <= 5.0 * error + BY_WEIGHTS
    }
}

/// How long a network is trained.
#[derive(Clone, Copy, Debug)]
pub enum Training {
    Time(Duration),
    Sequences(usize),
}

impl fmt::Display for Training {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(time) => write!(f, "{} s", time.as_secs()),
            Self::Sequences(sequences) => f.write_str(&count(*sequences, "sequence")),
        }
    }
}

impl Training {
    /// Whether so many tenths of it are over.
    fn is_over(self, part: u32, start: Instant, sequences: usize) -> bool {
        match self {
            Self::Time(time) => start.elapsed() >= time * part / PARTS,
            Self::Sequences(all) => sequences * PARTS as usize >= all * part as usize,
        }
    }
}

/// What became of a network.
pub struct Learned {
    pub network: Arc<Network>,
    pub untrained: Score,
    /// Whether the untrained network was no better than chance, as it must be.
    pub control: bool,
    pub score: Score,
    /// Sequences that it was trained on.
    pub sequences: usize,
    pub seconds: f64,
}

/// Trains a network.
pub fn learn(device: &Device, task: Task, network: &Network, training: Training, seed: u64) -> Result<Learned> {
    let mut optimizer = Optimizer::from(Adam { learning_rate: RATE, ..Adam::default() });
    optimizer.clip = Some(Clip::GlobalNorm { max: 1.0, convention: Convention::PyTorch });
    let options = TrainOptions::new(task.loss()).optimizer(optimizer).one_bias(true).seed(seed);
    let mut trainer = Trainer::new(device, network, options.clone())?;
    let (test_seed, validation_seed) = (seed ^ 0x7e57, seed ^ 0x7a11d);
    let tests = task.tests(network, TESTS, test_seed)?;
    let validation = task.tests(network, VALIDATION, validation_seed)?;
    let mut source = Source::new(task, seed ^ 0x5eed, &[(TESTS, test_seed), (VALIDATION, validation_seed)]);
    let untrained = score(&trainer, &tests)?;
    let (mut best, mut best_loss) = (trainer.network()?, loss(&trainer, &validation)?);
    let mut sequences = 0;
    let start = Instant::now();
    for part in 1..=PARTS {
        while !training.is_over(part, start, sequences) {
            let (examples, batch) = source.next(network)?;
            for batch in examples.batches() {
                trainer.step(&batch)?;
            }
            sequences += batch;
        }
        let found = loss(&trainer, &validation)?;
        if found < best_loss {
            (best, best_loss) = (trainer.network()?, found);
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let score = score(&Trainer::new(device, &best, options)?, &tests)?;
    let control = untrained.is_chance(task);
    Ok(Learned { network: best, untrained, control, score, sequences, seconds })
}

fn score(trainer: &Trainer, examples: &Examples) -> Result<Score> {
    let mut score = Score::default();
    for batch in examples.batches() {
        let counts = trainer.evaluate(&batch)?.counts;
        score.right += counts.correct;
        score.counted += counts.counted;
    }
    Ok(score)
}

/// The mean of the losses of the batches.
fn loss(trainer: &Trainer, examples: &Examples) -> Result<f64> {
    let batches = examples.batches();
    let mut sum = 0.0;
    for batch in &batches {
        sum += trainer.evaluate(batch)?.loss;
    }
    #[expect(clippy::cast_precision_loss, reason = "a few batches")]
    let mean = sum / batches.len().max(1) as f64;
    Ok(mean)
}

/// The times of a run of one sequence.
pub struct Timed {
    pub wall: Vec<Duration>,
    pub steps: usize,
}

impl Timed {
    /// Microseconds of a timestep, of the median run.
    pub fn step(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a few timesteps")]
        let steps = self.steps as f64;
        Summary::new(&self.wall).map_or(f64::NAN, |summary| summary.median / steps)
    }
}

/// Runs one sequence again and again.
pub fn timed(device: &Device, network: &Network, input: Input<'_>, counts: Counts, steps: usize) -> Result<Timed> {
    let session = Session::new(device, network)?;
    let mut wall = Vec::new();
    for round in 0..counts.warmup.saturating_add(counts.runs) {
        let time = session.run(input, None)?.timing.wall;
        if round >= counts.warmup {
            wall.push(time);
        }
    }
    Ok(Timed { wall, steps })
}

/// The largest error of a tensor of a run from the f64 reference, and whether all are right, as `gatefold verify` says it.
pub fn checked(device: &Device, network: &Network, input: Input<'_>) -> Result<(f64, bool)> {
    let found = verify(&Session::new(device, network)?, network, input, None)?;
    let errors = found.checks.iter().map(|check| check.comparison.max_error);
    Ok((errors.fold(0.0, |most, error| if error > most || error.is_nan() { error } else { most }), found.passed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_learned_is_no_chance() {
        let is_chance = |task, right, counted| Score { right, counted }.is_chance(task);
        assert!(is_chance(Task::Copy, 20_000, 40_000) && is_chance(Task::Copy, 21_000, 40_000));
        assert!(!is_chance(Task::Copy, 22_000, 40_000) && !is_chance(Task::Copy, 18_000, 40_000));
        assert!(is_chance(Task::Questions, 67, 400) && !is_chance(Task::Questions, 140, 400));
    }
}
