//! What goes into a run, checked against the network and laid out time-major.

use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::network::{MaskRule, Network};
use crate::state::{self, State};

/// The input of a run, in the caller's memory.
///
/// Shapes are time-major; a network with `batch_first` reads `[B, T]` and `[B, T, I]`.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    numbers: Numbers<'a>,
    lengths: Option<&'a [usize]>,
    mask: Option<&'a [bool]>,
}

#[derive(Clone, Copy, Debug)]
enum Numbers<'a> {
    Tokens { ids: &'a [u32], shape: [usize; 2] },
    Features { values: &'a [f32], shape: [usize; 3] },
}

impl<'a> Input<'a> {
    /// Token ids of shape `[T, B]` (`[B, T]` with `batch_first`), for a network that begins with
    /// an embedding.
    #[must_use]
    pub fn tokens(ids: &'a [u32], shape: [usize; 2]) -> Self {
        Self { numbers: Numbers::Tokens { ids, shape }, lengths: None, mask: None }
    }

    /// Vectors of shape `[T, B, I]` (`[B, T, I]` with `batch_first`), for every other network.
    #[must_use]
    pub fn features(values: &'a [f32], shape: [usize; 3]) -> Self {
        Self { numbers: Numbers::Features { values, shape }, lengths: None, mask: None }
    }

    /// The length of every batch row, `[B]`, from 0 to T (ONNX `sequence_lens`, PyTorch's packed
    /// sequences). A row's state stands still after its length, and a reverse direction starts
    /// at its last valid step.
    #[must_use]
    pub fn with_lengths(mut self, lengths: &'a [usize]) -> Self {
        self.lengths = Some(lengths);
        self
    }

    /// Which steps count, in the order of the ids (Keras' `mask`); at the others the state of
    /// every recurrent layer stands still. Steps are masked that this, the lengths or the network
    /// itself (`mask_zero`, `Masking`) mask.
    #[must_use]
    pub fn with_mask(mut self, mask: &'a [bool]) -> Self {
        self.mask = Some(mask);
        self
    }
}

/// Bits of the mask that devices read, `[T, B]`.
pub(crate) mod bits {
    /// The step counts.
    pub const VALID: u32 = 1;
    /// An earlier step counts.
    pub const SEEN_FORWARD: u32 = 2;
    /// A later step counts.
    pub const SEEN_REVERSE: u32 = 4;
}

/// An input that fits its network, time-major.
pub(crate) struct Checked<'a> {
    /// T
    pub steps: usize,
    /// B
    pub batch: usize,
    /// The numbers.
    pub values: Values<'a>,
    /// [`bits`] of every step, `[T, B]`; none if every step counts by construction.
    pub mask: Option<Vec<u32>>,
}

/// The numbers of an input, time-major.
pub(crate) enum Values<'a> {
    /// `[T, B]`
    Tokens(Cow<'a, [u32]>),
    /// `[T, B, I]`
    Features(Cow<'a, [f32]>),
}

impl<'a> Checked<'a> {
    pub fn new(network: &Network, input: Input<'a>, state: Option<&State>) -> Result<Self> {
        let batch_first = network.batch_first();
        let width = network.input_size();
        let (steps, batch, values) = match (input.numbers, network.num_embeddings()) {
            (Numbers::Tokens { ids, shape }, Some(num_embeddings)) => {
                let (steps, batch) = check_shape("tokens", batch_first, &shape, None, ids.len())?;
                let tokens = time_major(ids, batch_first, batch, steps, 1);
                if let Some(at) = tokens.iter().position(|&id| id as usize >= num_embeddings) {
                    let (row, step) = (at % batch, at / batch);
                    return Err(Error::TokenOutOfRange { token: tokens[at], row, step, num_embeddings });
                }
                (steps, batch, Values::Tokens(tokens))
            }
            (Numbers::Features { values, shape }, None) => {
                let (steps, batch) = check_shape("input", batch_first, &shape, Some(width), values.len())?;
                (steps, batch, Values::Features(time_major(values, batch_first, batch, steps, width)))
            }
            (Numbers::Tokens { shape, .. }, None) => {
                return Err(Error::shape("input", order(batch_first, Some(width)), format!("token ids {shape:?}")));
            }
            (Numbers::Features { shape, .. }, Some(_)) => {
                let expected = format!("token ids {}", order(batch_first, None));
                return Err(Error::shape("input", expected, format!("vectors {shape:?}")));
            }
        };
        network.output_steps(steps)?;
        if let Some(state) = state {
            state::check(network, batch, state)?;
        }
        let mut checked = Self { steps, batch, values, mask: None };
        checked.mask = checked.make_mask(network, &input)?;
        Ok(checked)
    }

    fn make_mask(&mut self, network: &Network, input: &Input<'_>) -> Result<Option<Vec<u32>>> {
        let (steps, batch, rule) = (self.steps, self.batch, network.masks());
        if input.lengths.is_none() && input.mask.is_none() && rule.is_none() {
            return Ok(None);
        }
        if input.lengths.is_some() || input.mask.is_some() {
            mask_must_fit(network)?;
        }
        let mut valid = vec![true; steps * batch];
        if let Some(lengths) = input.lengths {
            check_lengths(lengths, steps, batch)?;
            for (at, valid) in valid.iter_mut().enumerate() {
                *valid &= at / batch < lengths[at % batch];
            }
        }
        if let Some(mask) = input.mask {
            if mask.len() != steps * batch {
                let expected = format!("{} elements, one per step and row", steps * batch);
                return Err(Error::shape("mask", expected, format!("{}", mask.len())));
            }
            let mask = time_major(mask, network.batch_first(), batch, steps, 1);
            valid.iter_mut().zip(mask.iter()).for_each(|(valid, &mask)| *valid &= mask);
        }
        match (rule, &mut self.values) {
            (Some(MaskRule::TokenZero), Values::Tokens(tokens)) => {
                valid.iter_mut().zip(tokens.iter()).for_each(|(valid, &token)| *valid &= token != 0);
            }
            (Some(MaskRule::Value(value)), Values::Features(features)) => {
                let width = network.input_size();
                for (valid, row) in valid.iter_mut().zip(features.to_mut().chunks_exact_mut(width)) {
                    #[expect(clippy::float_cmp, reason = "Keras compares exactly")]
                    if row.iter().all(|&x| x == value) {
                        *valid = false;
                        row.fill(0.0);
                    }
                }
            }
            _ => {}
        }
        Ok(Some(with_history(&valid, batch)))
    }
}

/// Marks the steps that count, and those before and behind which one counts.
pub(crate) fn with_history(valid: &[bool], batch: usize) -> Vec<u32> {
    let mut mask: Vec<u32> = valid.iter().map(|&valid| if valid { bits::VALID } else { 0 }).collect();
    for at in batch..mask.len() {
        if mask[at - batch] & (bits::VALID | bits::SEEN_FORWARD) != 0 {
            mask[at] |= bits::SEEN_FORWARD;
        }
    }
    for at in (batch..mask.len()).rev() {
        if mask[at] & (bits::VALID | bits::SEEN_REVERSE) != 0 {
            mask[at - batch] |= bits::SEEN_REVERSE;
        }
    }
    mask
}

/// Lengths and masks count the input's timesteps; behind a convolution there are others.
fn mask_must_fit(network: &Network) -> Result<()> {
    match network.stages().iter().find(|stage| stage.recurrent().is_some() && !stage.mask_reaches) {
        Some(stage) => Err(Error::Unsupported {
            place: format!("layer `{}`", stage.label),
            what: "a length or mask of the caller behind a layer that changes the number of timesteps".into(),
        }),
        None => Ok(()),
    }
}

fn check_lengths(lengths: &[usize], steps: usize, batch: usize) -> Result<()> {
    if lengths.len() != batch {
        return Err(Error::shape("lengths", format!("{batch}, one per batch row"), format!("{}", lengths.len())));
    }
    match lengths.iter().position(|&length| length > steps) {
        Some(row) => {
            Err(Error::shape("lengths", format!("0 to T = {steps}"), format!("{} in row {row}", lengths[row])))
        }
        None => Ok(()),
    }
}

/// `[B, T, N]` as `[T, B, N]` and back: swaps the two outer dimensions.
pub(crate) fn swap_outer<T: Copy>(values: &[T], outer: usize, inner: usize, width: usize) -> Vec<T> {
    let mut swapped = Vec::with_capacity(values.len());
    for i in 0..inner {
        for o in 0..outer {
            swapped.extend_from_slice(&values[(o * inner + i) * width..][..width]);
        }
    }
    swapped
}

fn time_major<T: Copy>(values: &[T], batch_first: bool, batch: usize, steps: usize, width: usize) -> Cow<'_, [T]> {
    if batch_first && batch > 1 && steps > 1 {
        Cow::Owned(swap_outer(values, batch, steps, width))
    } else {
        Cow::Borrowed(values)
    }
}

/// T and B of an input whose shape and length agree with each other and with the network.
fn check_shape(
    what: &str,
    batch_first: bool,
    shape: &[usize],
    width: Option<usize>,
    len: usize,
) -> Result<(usize, usize)> {
    let (steps, batch) = if batch_first { (shape[1], shape[0]) } else { (shape[0], shape[1]) };
    if steps == 0 || batch == 0 || width.is_some_and(|width| shape[2] != width) {
        let expected = format!("{} with T and B at least 1", order(batch_first, width));
        return Err(Error::shape(what, expected, format!("{shape:?}")));
    }
    let elements = shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
    if elements != Some(len) {
        return Err(Error::shape(what, format!("as many elements as shape {shape:?} says"), format!("{len} elements")));
    }
    Ok((steps, batch))
}

fn order(batch_first: bool, width: Option<usize>) -> String {
    let letters = if batch_first { "B, T" } else { "T, B" };
    width.map_or_else(|| format!("[{letters}]"), |width| format!("[{letters}, {width}]"))
}

#[cfg(test)]
mod tests {
    use super::bits::{SEEN_FORWARD, SEEN_REVERSE, VALID};
    use super::*;

    #[test]
    fn history_is_per_row_and_per_direction() {
        // Two rows over four steps: off on off on, and off off on off.
        let valid = [false, false, true, false, false, true, true, false];
        let rows = with_history(&valid, 2);
        let row = |r: usize| rows.iter().skip(r).step_by(2).copied().collect::<Vec<_>>();
        assert_eq!(row(0), [SEEN_REVERSE, VALID | SEEN_REVERSE, SEEN_FORWARD | SEEN_REVERSE, VALID | SEEN_FORWARD]);
        assert_eq!(row(1), [SEEN_REVERSE, SEEN_REVERSE, VALID, SEEN_FORWARD]);
    }
}
