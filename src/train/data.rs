//! Examples in memory, and batches of them.

use crate::base::error::{Error, Result};
use crate::base::hash::Fnv;
use crate::data::input::Input;
use crate::network::Network;
use crate::reference::Targets;

/// The sequences of a [`Dataset`], each of its own length.
#[derive(Clone, Debug, PartialEq)]
enum Sequences {
    Tokens(Vec<Vec<u32>>),
    /// `[T, I]` each
    Features(Vec<Vec<f32>>, usize),
}

/// What the network should answer to each sequence.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Answers {
    /// A class for each sequence.
    Classes(Vec<u32>),
    /// A class for each step of each sequence.
    StepClasses(Vec<Vec<u32>>),
    /// The numbers of the output, `[N]` for each sequence, or `[T, N]` where the output has a time dimension.
    Values(Vec<Vec<f32>>),
    /// The labels of each sequence, without their times, for [`Loss::Ctc`](super::Loss::Ctc).
    Labels(Vec<Vec<u32>>),
}

impl Answers {
    fn len(&self) -> usize {
        match self {
            Self::Classes(classes) => classes.len(),
            Self::StepClasses(classes) => classes.len(),
            Self::Values(values) => values.len(),
            Self::Labels(labels) => labels.len(),
        }
    }
}

/// Sequences with their answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    sequences: Sequences,
    answers: Answers,
}

impl Dataset {
    /// Sequences of token ids.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are none, or not as many answers.
    pub fn tokens(sequences: Vec<Vec<u32>>, answers: Answers) -> Result<Self> {
        Self::new(sequences.len(), Sequences::Tokens(sequences), answers)
    }

    /// Sequences of vectors, `[T, I]` each; `width` is I.
    ///
    /// # Errors
    /// As [`Dataset::tokens`]; also if a sequence is no whole number of vectors, or a number is not finite.
    pub fn features(sequences: Vec<Vec<f32>>, width: usize, answers: Answers) -> Result<Self> {
        if let Some(row) = sequences.iter().position(|sequence| width == 0 || !sequence.len().is_multiple_of(width)) {
            let got = format!("{} numbers in sequence {row}", sequences[row].len());
            return Err(Error::shape("data set", format!("a multiple of I = {width}"), got));
        }
        for (row, sequence) in sequences.iter().enumerate() {
            if let Some(at) = sequence.iter().position(|x| !x.is_finite()) {
                let got = format!("{} in sequence {row}, step {}", sequence[at], at / width);
                return Err(Error::shape("data set", "finite numbers", got));
            }
        }
        Self::new(sequences.len(), Sequences::Features(sequences, width), answers)
    }

    fn new(count: usize, sequences: Sequences, answers: Answers) -> Result<Self> {
        if count == 0 {
            return Err(Error::shape("data set", "at least one sequence", "none"));
        }
        if answers.len() != count {
            return Err(Error::shape("data set", format!("{count} answers"), answers.len().to_string()));
        }
        let set = Self { sequences, answers };
        if let Answers::StepClasses(classes) = &set.answers
            && let Some(row) = (0..count).find(|&row| classes[row].len() != set.steps(row))
        {
            let got = format!("{} in sequence {row}", classes[row].len());
            return Err(Error::shape("data set", format!("{} classes, one for each step", set.steps(row)), got));
        }
        Ok(set)
    }

    /// Number of sequences.
    #[must_use]
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Whether there are none, which no data set has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All sequences in batches of `batch_size` (at least 1), those of like length together, each filled up to the longest
    /// of its batch, in the order of `network`'s axes.
    pub fn batches<'a>(&'a self, network: &'a Network, batch_size: usize) -> impl Iterator<Item = Padded> + 'a {
        let mut rows: Vec<usize> = (0..self.len()).collect();
        rows.sort_by_key(|&row| self.steps(row));
        let starts = (0..rows.len()).step_by(batch_size.max(1));
        starts.map(move |start| self.batch(network, &rows[start..rows.len().min(start + batch_size.max(1))]))
    }

    /// A hash of all sequences and answers, by which a fit that goes on knows its data.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hash = Fnv::default();
        let mut row = |tag: u32, words: &mut dyn Iterator<Item = u32>| {
            hash.add(tag);
            words.for_each(|word| hash.add(word));
            hash.add(u32::MAX);
        };
        match &self.sequences {
            Sequences::Tokens(rows) => rows.iter().for_each(|ids| row(0, &mut ids.iter().copied())),
            Sequences::Features(rows, _) => rows.iter().for_each(|x| row(1, &mut x.iter().map(|x| x.to_bits()))),
        }
        match &self.answers {
            Answers::Classes(classes) => row(2, &mut classes.iter().copied()),
            Answers::StepClasses(rows) => rows.iter().for_each(|ids| row(3, &mut ids.iter().copied())),
            Answers::Values(rows) => rows.iter().for_each(|x| row(4, &mut x.iter().map(|x| x.to_bits()))),
            Answers::Labels(rows) => rows.iter().for_each(|ids| row(5, &mut ids.iter().copied())),
        }
        hash.value()
    }

    /// Timesteps of a sequence.
    pub(super) fn steps(&self, row: usize) -> usize {
        match &self.sequences {
            Sequences::Tokens(rows) => rows[row].len(),
            Sequences::Features(rows, width) => rows[row].len() / width,
        }
    }

    /// The sequences `rows` together, filled up to the longest, in the order of `network`'s axes.
    pub(super) fn batch(&self, network: &Network, rows: &[usize]) -> Padded {
        let lengths: Vec<usize> = rows.iter().map(|&row| self.steps(row)).collect();
        let steps = lengths.iter().copied().max().unwrap_or(1).max(1);
        let place = StepOrder { batch_first: network.batch_first(), steps, batch: rows.len() };
        let mut padded = Padded { place, lengths, ..Padded::default() };
        match &self.sequences {
            Sequences::Tokens(all) => {
                padded.tokens = vec![0; steps * rows.len()];
                for (at, &row) in rows.iter().enumerate() {
                    all[row].iter().enumerate().for_each(|(step, &id)| padded.tokens[place.of(step, at)] = id);
                }
            }
            Sequences::Features(all, width) => {
                padded.width = *width;
                padded.features = vec![0.0; steps * rows.len() * width];
                for (at, &row) in rows.iter().enumerate() {
                    for (step, vector) in all[row].chunks_exact(*width).enumerate() {
                        padded.features[place.of(step, at) * width..][..*width].copy_from_slice(vector);
                    }
                }
            }
        }
        self.fill_answers(network, rows, &mut padded);
        padded
    }

    fn fill_answers(&self, network: &Network, rows: &[usize], padded: &mut Padded) {
        if let Answers::Labels(labels) = &self.answers {
            padded.labels = Some(rows.iter().map(|&row| labels[row].clone()).collect());
            return;
        }
        let place = padded.place;
        let per_step = network.output_is_sequence();
        if per_step {
            padded.weights = vec![0.0; place.steps * rows.len()];
            for (at, &length) in padded.lengths.iter().enumerate() {
                (0..length).for_each(|step| padded.weights[place.of(step, at)] = 1.0);
            }
        }
        match &self.answers {
            Answers::Classes(classes) if per_step => {
                padded.classes = vec![0; place.steps * rows.len()];
                for (at, &row) in rows.iter().enumerate() {
                    (0..place.steps).for_each(|step| padded.classes[place.of(step, at)] = classes[row]);
                }
            }
            Answers::Classes(classes) => padded.classes = rows.iter().map(|&row| classes[row]).collect(),
            Answers::StepClasses(classes) => {
                padded.classes = vec![0; place.steps * rows.len()];
                for (at, &row) in rows.iter().enumerate() {
                    classes[row].iter().enumerate().for_each(|(step, &id)| padded.classes[place.of(step, at)] = id);
                }
            }
            Answers::Values(values) if per_step => {
                let width = network.output_size();
                padded.values = vec![0.0; place.steps * rows.len() * width];
                for (at, &row) in rows.iter().enumerate() {
                    for (step, vector) in values[row].chunks_exact(width).enumerate().take(place.steps) {
                        padded.values[place.of(step, at) * width..][..width].copy_from_slice(vector);
                    }
                }
            }
            Answers::Labels(_) => {}
            Answers::Values(values) => padded.values = rows.iter().flat_map(|&row| &values[row]).copied().collect(),
        }
    }
}

/// Where a step of a row lies in `[T, B]` or `[B, T]`.
#[derive(Clone, Copy, Debug, Default)]
struct StepOrder {
    batch_first: bool,
    steps: usize,
    batch: usize,
}

impl StepOrder {
    fn of(self, step: usize, row: usize) -> usize {
        if self.batch_first { row * self.steps + step } else { step * self.batch + row }
    }
}

/// Sequences filled up to one length, with their answers.
#[derive(Debug, Default)]
pub struct Padded {
    place: StepOrder,
    tokens: Vec<u32>,
    features: Vec<f32>,
    /// I
    width: usize,
    lengths: Vec<usize>,
    classes: Vec<u32>,
    values: Vec<f32>,
    labels: Option<Vec<Vec<u32>>>,
    /// 0 where a step is filled up; empty where the output has no time dimension.
    weights: Vec<f32>,
}

impl Padded {
    /// Number of sequences.
    #[must_use]
    pub fn sequences(&self) -> usize {
        self.lengths.len()
    }

    /// What a [`Trainer`](super::Trainer) takes.
    #[must_use]
    pub fn batch(&self) -> Batch<'_> {
        let StepOrder { batch_first, steps, batch } = self.place;
        let [outer, inner] = if batch_first { [batch, steps] } else { [steps, batch] };
        let input = match self.width {
            0 => Input::tokens(&self.tokens, [outer, inner]),
            width => Input::features(&self.features, [outer, inner, width]),
        };
        // Networks that cannot tell lengths read sequences of one length.
        let even = self.lengths.iter().all(|&length| length == steps);
        let input = if even { input } else { input.with_lengths(&self.lengths) };
        let targets = match &self.labels {
            Some(labels) => Targets::Labels(labels),
            None if self.values.is_empty() => Targets::Classes(&self.classes),
            None => Targets::Values(&self.values),
        };
        Batch { input, targets, weights: Some(&self.weights[..]).filter(|weights| !weights.is_empty()) }
    }
}

/// An input and what the network should answer to it.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// What the network reads.
    pub input: Input<'a>,
    /// What it should answer, for every row of its output: `[B]`, or `[T, B]` (`[B, T]` with `batch_first`) where the
    /// output has a time dimension; for CTC the labels of each sequence `[B]`.
    pub targets: Targets<'a, f32>,
    /// How much each row of the output counts, of the same shape; without them each counts 1. Rows of weight 0 are masked.
    pub weights: Option<&'a [f32]>,
}
