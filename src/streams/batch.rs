//! Makes one batch of streams with different numbers of steps, and splits its output by stream.

use super::table::{StreamId, Table};
use crate::base::bits;
use crate::base::error::{Error, Result};
use crate::base::rounded::rounded;
use crate::data::input::{Checked, Input, RowBegins, Values, with_history};
use crate::network::{Cuts, Network};
use crate::session::Timing;

/// The answers to one call, in its order.
#[derive(Clone, Debug)]
pub struct Advanced {
    values: Vec<f32>,
    /// Where the values of each stream end.
    ends: Vec<usize>,
    steps: Vec<usize>,
    width: usize,
    /// How long the call took.
    pub timing: Timing,
}

impl Advanced {
    /// Number of streams.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether the call had no streams.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Output of stream `index` of the call: `[T, N]` with its own T (`[T/S, N]` behind strides of S), or `[N]` of its last
    /// step where the network's output has no time dimension. Empty if there is no such stream.
    #[must_use]
    pub fn values(&self, index: usize) -> &[f32] {
        let start = if index == 0 { 0 } else { self.ends.get(index - 1).copied().unwrap_or(0) };
        self.ends.get(index).map_or(&[], |&end| &self.values[start..end])
    }

    /// By how many timesteps the call advanced stream `index`.
    #[must_use]
    pub fn steps(&self, index: usize) -> usize {
        self.steps.get(index).copied().unwrap_or(0)
    }

    /// N, width of the output.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// The outputs in the call's order, as [`Advanced::values`].
    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        (0..self.len()).map(|index| self.values(index))
    }
}

/// A batch ready to run.
pub(super) struct StreamBatch {
    pub input: Checked<'static>,
    /// The number of each row's stream.
    pub streams: Vec<u32>,
    /// Timesteps of each stream.
    pub lengths: Vec<usize>,
    /// For each stream, whether a step has counted once this batch has run.
    pub seen: Vec<bool>,
}

impl StreamBatch {
    /// Checks the streams and their inputs; `fill` says whether sizes are rounded up. `memory` is that of an earlier
    /// batch's features, if there was one.
    pub fn new(
        network: &Network,
        table: &mut Table,
        calls: &[(StreamId, Input<'_>)],
        fill: bool,
        memory: &mut Vec<f32>,
    ) -> Result<Self> {
        let streams = table.batch(calls.iter().map(|call| call.0))?;
        calls.iter().try_for_each(|call| table.check_bank(call.0))?;
        let whole = network.cuts().map_or(1, Cuts::whole);
        let rows = calls.iter().enumerate().map(|(at, (id, input))| one(network, at, *id, *input));
        let rows: Vec<Checked<'_>> = rows.collect::<Result<_>>()?;
        let lengths: Vec<usize> = rows.iter().map(|row| row.steps).collect();
        let mut steps = lengths.iter().copied().max().unwrap_or(whole);
        let mut batch = rows.len();
        if fill {
            (steps, batch) = (rounded(steps / whole, 4) * whole, rounded(batch, 3));
        }
        let started: Vec<bool> = streams.iter().map(|&stream| table.seen(stream)).collect();
        let even = batch == rows.len() && lengths.iter().all(|&length| length == steps);
        let masked = !even || rows.iter().any(|row| row.mask.is_some());
        let mask = masked.then(|| mask(&rows, &started, steps, batch));
        let counts =
            |row: &Checked<'_>| row.mask.as_ref().is_none_or(|mask| mask.iter().any(|mask| mask & bits::VALID != 0));
        let seen = rows.iter().zip(&started).map(|(row, &started)| started || counts(row)).collect();
        let begins = if even { None } else { RowBegins::new(network, first_steps(&lengths, [steps, batch]), steps) };
        let values = values(network, &rows, [steps, batch], memory);
        let banks = table.banks_of(&streams).map(|banks| banks.filled_up(batch));
        let input = Checked { steps, batch, values, mask, others: Vec::new(), begins, banks };
        Ok(Self { input, streams, lengths, seen })
    }

    /// The memory of the features, when they have been read.
    pub fn take_memory(&mut self) -> Vec<f32> {
        match &mut self.input.values {
            Values::Features(features) => std::mem::take(features.to_mut()),
            Values::Tokens(_) => Vec::new(),
        }
    }

    /// Splits the output `[T, B, N]` or `[B, N]` by stream.
    pub fn split(&self, network: &Network, output: Vec<f32>, timing: Timing) -> Advanced {
        let width = network.output_size();
        let Checked { steps, batch, .. } = self.input;
        let steps_of = self.lengths.clone();
        let sequence = network.output_is_sequence();
        let rate = network.cuts().map_or(1, Cuts::rate);
        let (steps, outputs) = (steps / rate, |length: usize| length / rate);
        let rows: Vec<usize> = self.lengths.iter().map(|&length| if sequence { outputs(length) } else { 1 }).collect();
        let mut end = 0;
        let ends = rows.iter().map(|rows| {
            end += rows * width;
            end
        });
        let ends: Vec<usize> = ends.collect();
        let mut values = output;
        if sequence && steps > 1 {
            let mut sorted = Vec::with_capacity(end);
            for (row, &length) in self.lengths.iter().enumerate() {
                for step in steps - outputs(length)..steps {
                    sorted.extend_from_slice(&values[(step * batch + row) * width..][..width]);
                }
            }
            values = sorted;
        }
        Advanced { values, ends, steps: steps_of, width, timing }
    }
}

/// The input of one stream.
fn one<'a>(network: &Network, at: usize, id: StreamId, input: Input<'a>) -> Result<Checked<'a>> {
    let checked = Checked::of_first(network, input).map_err(|error| match error {
        Error::Shape { what, expected, got } => Error::Shape { what: format!("{what} of {id}"), expected, got },
        Error::TokenOutOfRange { token, step, num_embeddings, .. } => {
            Error::TokenOutOfRange { token, row: at, step, num_embeddings }
        }
        other => other,
    })?;
    if checked.batch != 1 {
        return Err(Error::shape(format!("input of {id}"), "B = 1", format!("B = {}", checked.batch)));
    }
    network.cuts().map_or(Ok(()), |cuts| cuts.check_steps(&format!("input of {id}"), checked.steps))?;
    Ok(checked)
}

/// The first step of each row, also of padding rows, which have none.
fn first_steps(lengths: &[usize], [steps, batch]: [usize; 2]) -> Vec<u32> {
    let first = lengths.iter().map(|length| steps - length).chain(std::iter::repeat(steps));
    first.take(batch).map(|first| u32::try_from(first).unwrap_or(u32::MAX)).collect()
}

/// Bits `[T, B]`: the state of a row does not change before its first step, that of a padding row never.
fn mask(rows: &[Checked<'_>], started: &[bool], steps: usize, batch: usize) -> Vec<u32> {
    let mut valid = vec![false; steps * batch];
    for (index, row) in rows.iter().enumerate() {
        let first = steps - row.steps;
        for step in 0..row.steps {
            let counts = row.mask.as_ref().is_none_or(|mask| mask[step] & bits::VALID != 0);
            valid[(first + step) * batch + index] = counts;
        }
    }
    let mut mask = with_history(&valid, batch);
    for step in mask.chunks_exact_mut(batch) {
        for (bits, &started) in step.iter_mut().zip(started) {
            if started {
                *bits |= bits::SEEN_FORWARD;
            }
        }
    }
    mask
}

/// The numbers of all streams, `[T, B]` or `[T, B, I]`, each row's at the end of time.
fn values(network: &Network, rows: &[Checked<'_>], sizes: [usize; 2], memory: &mut Vec<f32>) -> Values<'static> {
    if network.num_embeddings().is_some() {
        let all = rows.iter().map(|row| match &row.values {
            Values::Tokens(tokens) => &tokens[..],
            Values::Features(_) => &[],
        });
        Values::Tokens(interleaved(all, 1, sizes, Vec::new()).into())
    } else {
        let all = rows.iter().map(|row| match &row.values {
            Values::Features(values) => &values[..],
            Values::Tokens(_) => &[],
        });
        Values::Features(interleaved(all, network.input_size(), sizes, std::mem::take(memory)).into())
    }
}

fn interleaved<'a, T: Copy + Default + 'a>(
    rows: impl Iterator<Item = &'a [T]>,
    width: usize,
    [steps, batch]: [usize; 2],
    mut all: Vec<T>,
) -> Vec<T> {
    all.clear();
    all.resize(steps * batch * width, T::default());
    for (index, row) in rows.enumerate() {
        let first = steps - row.len() / width;
        for (step, numbers) in row.chunks_exact(width).enumerate() {
            all[((first + step) * batch + index) * width..][..width].copy_from_slice(numbers);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::states::StatePlace;
    use super::*;
    use crate::network::{LayerSpec, NetworkSpec, RecurrentSpec};

    /// Steps are masked only where the sizes do not come out even.
    #[test]
    fn even_batches_have_no_mask() {
        let layers = vec![LayerSpec::Lstm(RecurrentSpec::new("lstm", 1, 1))];
        let spec = NetworkSpec { format: 1, layers, text: None, labels: Vec::new() };
        let network = Network::random(spec, 1).expect("a network");
        let mut table = Table::new(0, 0);
        let state = table.states.add(StatePlace::Zero, false);
        let ids: Vec<StreamId> = (0..16).map(|_| table.open(state).expect("a stream")).collect();
        let mut batch = |lengths: &[usize], fill: bool| {
            let values = [0.5; 20];
            let calls = ids.iter().zip(lengths).map(|(&id, &len)| (id, Input::features(&values[..len], [len, 1, 1])));
            StreamBatch::new(&network, &mut table, &calls.collect::<Vec<_>>(), fill, &mut Vec::new()).expect("a batch")
        };
        let sizes = |batch: &StreamBatch| (batch.input.steps, batch.input.batch, batch.input.mask.is_some());
        assert_eq!(sizes(&batch(&[2; 8], true)), (2, 8, false));
        assert_eq!(sizes(&batch(&[16], true)), (16, 1, false));
        assert_eq!(sizes(&batch(&[17], true)), (18, 1, true));
        assert_eq!(sizes(&batch(&[17], false)), (17, 1, false));
        let filled = batch(&[2; 9], true);
        assert_eq!((sizes(&filled), filled.streams.len()), ((2, 10, true), 9));
        let ragged = batch(&[1, 3], true);
        assert_eq!(sizes(&ragged), (3, 2, true));
        let valid: Vec<u32> = ragged.input.mask.iter().flatten().map(|mask| mask & bits::VALID).collect();
        assert_eq!(valid, [0, 1, 0, 1, 1, 1], "the padding of the shorter stream comes first");
    }

    #[test]
    fn sizes_are_few_and_near() {
        let sizes: Vec<usize> = (1..=20).map(|n| rounded(n, 3)).collect();
        assert_eq!(sizes, [1, 2, 3, 4, 5, 6, 7, 8, 10, 10, 12, 12, 14, 14, 16, 16, 20, 20, 20, 20]);
        assert_eq!([rounded(1000, 3), rounded(100, 4), rounded(17, 4), rounded(1 << 20, 4)], [1024, 104, 18, 1 << 20]);
        for n in 1..5000 {
            assert!(rounded(n, 3) >= n && 4 * rounded(n, 3) <= 5 * n.max(4) + 3, "{n}");
        }
    }
}
