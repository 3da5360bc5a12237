//! Many sequences of any lengths in, one answer for each.

use std::sync::Arc;

use crate::base::error::{Error, Result};
use crate::base::wait::wait;
use crate::data::input::Input;
use crate::data::run::{RunRequest, Wait};
use crate::device::Device;
use crate::network::{Activation, Axis, InputKind, LayerSpec, Network, NetworkSpec};
use crate::session::Session;

/// Rows in one run; more rows need more memory and are not faster.
const MAX_BATCH: usize = 256;
/// Timesteps of all rows in one run, which bounds its memory; a longer sequence is run alone.
const MAX_BATCH_STEPS: usize = 1 << 14;

/// Sequences of any lengths, one after the other in the caller's memory.
#[derive(Clone, Copy, Debug)]
pub struct ScoreInput<'a> {
    numbers: SequenceNumbers<'a>,
    ends: &'a [usize],
}

#[derive(Clone, Copy, Debug)]
enum SequenceNumbers<'a> {
    Tokens(&'a [u32]),
    Features(&'a [f32]),
}

impl<'a> ScoreInput<'a> {
    /// Token ids. `ends` has for each sequence the index behind its last id; the next one starts there, the first at 0.
    #[must_use]
    pub fn tokens(ids: &'a [u32], ends: &'a [usize]) -> Self {
        Self { numbers: SequenceNumbers::Tokens(ids), ends }
    }

    /// Vectors `[T, I]`. `ends` has for each sequence the index behind its last number.
    #[must_use]
    pub fn features(values: &'a [f32], ends: &'a [usize]) -> Self {
        Self { numbers: SequenceNumbers::Features(values), ends }
    }

    /// Number of sequences.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Where the numbers of a sequence are; empty where the ends are not in order.
    fn range(&self, row: usize) -> std::ops::Range<usize> {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        let end = self.ends[row];
        let count = match self.numbers {
            SequenceNumbers::Tokens(ids) => ids.len(),
            SequenceNumbers::Features(values) => values.len(),
        };
        if start <= end && end <= count { start..end } else { 0..0 }
    }
}

/// The answers to [`ScoreInput`].
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ScoreOutput {
    /// The numbers of all answers in the order of the sequences: `[N]` each, or `[T, N]` of a network whose output has a
    /// time axis.
    pub values: Vec<f32>,
    /// For each answer the index behind its last number.
    pub ends: Vec<usize>,
}

/// Runs a network on sequences of any lengths. Sequences of one length share a run, so that none is padded; the bits of an answer
/// do not depend on the other sequences.
#[derive(Debug)]
pub struct Scorer {
    session: Arc<Session>,
    labels: Vec<String>,
}

impl Scorer {
    /// Loads `network`, which has one input, onto `device`. Its labels are those of the network, if its output has no time
    /// axis.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a network of several inputs, and everything [`Session::new`] refuses.
    pub fn new(device: &Device, network: &Network) -> Result<Self> {
        let labels = if network.output_is_sequence() { &[][..] } else { &network.spec().labels };
        Self::with_labels(device, network, labels)
    }

    /// As [`Scorer::new`], with the names of the classes: one for each number of the output, or two for one sigmoid, which
    /// is the probability of the second. Without names answers are numbers.
    ///
    /// # Errors
    /// As [`Scorer::new`]; [`Error::Malformed`] for another number of names, or one that is given twice.
    pub fn with_labels(device: &Device, network: &Network, labels: &[String]) -> Result<Self> {
        // What is refused is said before the network is loaded.
        check(network, labels)?;
        Self::from_session(Session::new(device, network)?, labels)
    }

    /// As [`Scorer::with_labels`], with a session that the caller may use for other runs too.
    ///
    /// # Errors
    /// As [`Scorer::with_labels`], except those of [`Session::new`].
    pub fn from_session(session: impl Into<Arc<Session>>, labels: &[String]) -> Result<Self> {
        let session = session.into();
        check(session.network(), labels)?;
        Ok(Self { session, labels: labels.to_vec() })
    }

    /// The session that runs the network.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The class names; empty if there are none.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Why [`Scorer::score`] would refuse a sequence; `None` if it would not.
    ///
    /// # Panics
    /// If there are not so many sequences.
    #[must_use]
    pub fn fault(&self, sequences: ScoreInput<'_>, row: usize) -> Option<String> {
        let network = self.session.network();
        let range = sequences.range(row);
        let width = network.input_size().max(1);
        let refused = |expected: String, got: String| Some(format!("expected {expected}, got {got}"));
        let steps = match (sequences.numbers, network.num_embeddings()) {
            (SequenceNumbers::Tokens(ids), Some(known)) => {
                let wrong = |id: &u32| usize::try_from(*id).is_ok_and(|id| id >= known);
                if let Some(step) = ids[range.clone()].iter().position(wrong) {
                    let id = ids[range.start + step];
                    return refused(format!("token ids below {known}"), format!("{id} at step {step}"));
                }
                range.len()
            }
            (SequenceNumbers::Features(values), None) => {
                if !range.len().is_multiple_of(width) {
                    return refused(format!("vectors of {width} numbers"), format!("{} numbers", range.len()));
                }
                if let Some(at) = values[range.clone()].iter().position(|number| !number.is_finite()) {
                    let place = format!("{} at step {}", values[range.start + at], at / width);
                    return refused("finite numbers".into(), place);
                }
                range.len() / width
            }
            (SequenceNumbers::Tokens(_), None) => {
                return refused(format!("vectors of {width} numbers"), "token ids".into());
            }
            (SequenceNumbers::Features(_), Some(_)) => return refused("token ids".into(), "vectors".into()),
        };
        if steps == 0 {
            return refused("at least one timestep".into(), "none".into());
        }
        if self.reads_rows() && steps != 1 {
            return refused(format!("one vector of {width} numbers"), format!("{steps}"));
        }
        network.stage_steps(steps).err().map(|error| error.to_string())
    }

    /// The answers to all sequences, in their order. `done` is called after each run with its number of sequences.
    ///
    /// # Errors
    /// [`Error::Malformed`] for the first sequence that has a [`Scorer::fault`], before anything runs, and everything
    /// [`Session::run`] can fail with.
    pub fn score(&self, sequences: ScoreInput<'_>, done: impl FnMut(usize)) -> Result<ScoreOutput> {
        wait("Scorer::score_async", self.score_with(sequences, done, Wait::Block))
    }

    /// As [`Scorer::score`], without blocking while the GPU works.
    ///
    /// # Errors
    /// As [`Scorer::score`].
    pub async fn score_async(&self, sequences: ScoreInput<'_>, done: impl FnMut(usize)) -> Result<ScoreOutput> {
        self.score_with(sequences, done, Wait::Await).await
    }

    /// As [`Scorer::score`], waiting as `wait` says.
    pub(crate) async fn score_with(
        &self,
        sequences: ScoreInput<'_>,
        mut done: impl FnMut(usize),
        wait: Wait,
    ) -> Result<ScoreOutput> {
        for row in 0..sequences.len() {
            if let Some(fault) = self.fault(sequences, row) {
                let (expected, got) = fault.split_once(", got ").unwrap_or((&fault, "another"));
                let expected = expected.strip_prefix("expected ").unwrap_or(expected).to_owned();
                return Err(Error::Malformed { what: format!("sequence {}", row + 1), expected, got: got.to_owned() });
            }
        }
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        order.sort_unstable_by_key(|&row| (sequences.range(row).len(), row));
        // Answers in the order of the runs, then in that of the sequences.
        let (mut values, mut places) = (Vec::new(), vec![0..0; sequences.len()]);
        let width = if matches!(sequences.numbers, SequenceNumbers::Tokens(_)) { 1 } else { self.width() };
        let mut rest = &order[..];
        while let Some(&first) = rest.first() {
            let length = sequences.range(first).len();
            let steps = length / width;
            let same = rest.partition_point(|&row| sequences.range(row).len() == length);
            let (rows, later) = rest.split_at(same.min(MAX_BATCH).min((MAX_BATCH_STEPS / steps.max(1)).max(1)));
            rest = later;
            let answered = |row: usize, answer: &mut dyn Iterator<Item = f32>| {
                let start = values.len();
                values.extend(answer);
                places[row] = start..values.len();
            };
            self.run(sequences, rows, steps, wait, answered).await?;
            done(rows.len());
        }
        let mut scores =
            ScoreOutput { values: Vec::with_capacity(values.len()), ends: Vec::with_capacity(places.len()) };
        for place in places {
            scores.values.extend_from_slice(&values[place]);
            scores.ends.push(scores.values.len());
        }
        Ok(scores)
    }

    /// Of an answer of a network with labels: the index of the most probable one, and the probability of each.
    #[must_use]
    pub fn classed(&self, answer: &[f32]) -> (usize, Vec<f32>) {
        let probabilities = match *answer {
            [second] if self.labels.len() == 2 => vec![1.0 - second, second],
            _ => answer.to_vec(),
        };
        // The first of equal values, as argmax does everywhere.
        let better = |best, i| if probabilities[i] > probabilities[best] { i } else { best };
        ((0..probabilities.len()).fold(0, better), probabilities)
    }

    /// I
    fn width(&self) -> usize {
        self.session.network().input_size().max(1)
    }

    /// Whether the network reads one vector without a time axis.
    fn reads_rows(&self) -> bool {
        self.session.network().inputs().first().is_some_and(|input| input.kind == InputKind::Row)
    }

    /// Runs `rows`, all of `steps` timesteps, and hands over each one's answer.
    async fn run(
        &self,
        sequences: ScoreInput<'_>,
        rows: &[usize],
        steps: usize,
        wait: Wait,
        mut answered: impl FnMut(usize, &mut dyn Iterator<Item = f32>),
    ) -> Result<()> {
        let network = self.session.network();
        let batch_first = network.batch_first() || self.reads_rows();
        let (batch, width) = (rows.len(), self.width());
        let shape = if batch_first { [batch, steps] } else { [steps, batch] };
        let output = match sequences.numbers {
            SequenceNumbers::Tokens(ids) => {
                let ids = gathered(ids, sequences, rows, (steps, 1), batch_first);
                let input = Input::tokens(&ids, shape).with_axes(network.input_axes());
                self.session.run_with(input, None, RunRequest::default(), wait).await?
            }
            SequenceNumbers::Features(values) => {
                let values = gathered(values, sequences, rows, (steps, width), batch_first);
                let input = match self.reads_rows() {
                    true => Input::rows(&values, [batch, width]),
                    false => Input::features(&values, [shape[0], shape[1], width]),
                };
                let input = input.with_axes(network.input_axes());
                self.session.run_with(input, None, RunRequest::default(), wait).await?
            }
        };
        let each = output.values.len() / batch;
        let features = network.output_size().max(1);
        let time_first = output.axes.first() == Some(&Axis::Time);
        for (place, &row) in rows.iter().enumerate() {
            if time_first {
                let steps = output.values.chunks_exact(features).skip(place).step_by(batch);
                answered(row, &mut steps.flatten().copied());
            } else {
                answered(row, &mut output.values[place * each..][..each].iter().copied());
            }
        }
        Ok(())
    }
}

/// The numbers of `rows`, all of `steps` timesteps of `width` numbers, `[B, T, I]` or `[T, B, I]`.
fn gathered<T: Copy>(
    numbers: &[T],
    sequences: ScoreInput<'_>,
    rows: &[usize],
    (steps, width): (usize, usize),
    batch_first: bool,
) -> Vec<T> {
    let mut gathered = Vec::with_capacity(rows.len() * steps * width);
    if batch_first {
        rows.iter().for_each(|&row| gathered.extend_from_slice(&numbers[sequences.range(row)]));
    } else {
        for step in 0..steps {
            for &row in rows {
                gathered.extend_from_slice(&numbers[sequences.range(row).start + step * width..][..width]);
            }
        }
    }
    gathered
}

/// An error for a network of several inputs, or for `labels` that are not those of its classes.
fn check(network: &Network, labels: &[String]) -> Result<()> {
    if network.inputs().len() > 1 {
        let what = format!("scoring sequences of {} inputs", network.inputs().len());
        return Err(Error::Unsupported { place: "network".into(), what });
    }
    if labels.is_empty() { Ok(()) } else { check_labels(network, labels) }
}

/// An error unless `labels` name the classes of the network's output.
pub(crate) fn check_labels(network: &Network, labels: &[String]) -> Result<()> {
    let one_sigmoid = network.output_size() == 1 && ends_with_sigmoid(network.spec());
    let expected = if one_sigmoid { 2 } else { network.output_size() };
    if labels.len() != expected || network.output_is_sequence() {
        let expected = match network.output_is_sequence() {
            true => "a network with one output per row".to_owned(),
            false => format!("{expected}, since the output is [B, {}]", network.output_size()),
        };
        return Err(Error::Malformed { what: "labels".into(), expected, got: labels.len().to_string() });
    }
    if let Some((_, name)) = labels.iter().enumerate().find(|(index, name)| labels[..*index].contains(name)) {
        let (expected, got) = ("every name once".into(), format!("`{name}` twice"));
        return Err(Error::Malformed { what: "labels".into(), expected, got });
    }
    Ok(())
}

fn ends_with_sigmoid(spec: &NetworkSpec) -> bool {
    let activation = match spec.layers.last() {
        Some(LayerSpec::Dense(dense)) => dense.activation,
        Some(LayerSpec::Activation(layer)) => layer.activation,
        _ => return false,
    };
    matches!(activation, Activation::Sigmoid)
}
