//! The input of a run, checked against the network and converted to time-major order.

use std::borrow::Cow;
use std::fmt;

use super::banks::BankRows;
use super::named_input::NamedInput;
use super::state::{self, State};
use crate::base::bits;
use crate::base::error::{Error, Result};
use crate::network::{Axis, InputKind, MaskReach, MaskRule, Network, SelectStep, Stage, StageKind, letters};

/// The input of a run, in the caller's memory.
///
/// Shapes are time-major; a network with `batch_first` reads `[B, T]` and `[B, T, I]`.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    numbers: InputData<'a>,
    axes: Option<&'a [Axis]>,
    lengths: Option<&'a [usize]>,
    mask: Option<&'a [bool]>,
    others: &'a [NamedInput<'a>],
}

#[derive(Clone, Copy, Debug)]
enum InputData<'a> {
    Tokens { ids: &'a [u32], shape: [usize; 2] },
    Features { values: &'a [f32], shape: [usize; 3] },
    Rows { values: &'a [f32], shape: [usize; 2] },
}

impl fmt::Display for InputData<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tokens { shape, .. } => write!(f, "token ids {shape:?}"),
            Self::Features { shape, .. } => write!(f, "vectors {shape:?}"),
            Self::Rows { shape, .. } => write!(f, "rows {shape:?}"),
        }
    }
}

impl<'a> Input<'a> {
    /// Token ids of shape `[T, B]` (`[B, T]` with `batch_first`), for a network that begins with
    /// an embedding.
    #[must_use]
    pub fn tokens(ids: &'a [u32], shape: [usize; 2]) -> Self {
        Self::new(InputData::Tokens { ids, shape })
    }

    /// Vectors of shape `[T, B, I]` (`[B, T, I]` with `batch_first`), for every other network.
    #[must_use]
    pub fn features(values: &'a [f32], shape: [usize; 3]) -> Self {
        Self::new(InputData::Features { values, shape })
    }

    /// A vector for each batch row, `[B, I]`, for a network whose first input has no time dimension.
    #[must_use]
    pub fn rows(values: &'a [f32], shape: [usize; 2]) -> Self {
        Self::new(InputData::Rows { values, shape })
    }

    fn new(numbers: InputData<'a>) -> Self {
        Self { numbers, axes: None, lengths: None, mask: None, others: &[] }
    }

    /// The other inputs of a network that reads several, in any order.
    #[must_use]
    pub fn with_others(mut self, others: &'a [NamedInput<'a>]) -> Self {
        self.others = others;
        self
    }

    /// Says what the axes of the given shape are, in any order of time, batch and feature; without it they are
    /// [`Network::input_axes`]. A network whose file has its features before its timesteps ([`Network::file_axes`])
    /// refuses a shape that could be either order, until this says which it is.
    #[must_use]
    pub fn with_axes(mut self, axes: &'a [Axis]) -> Self {
        self.axes = Some(axes);
        self
    }

    /// The length of every batch row, `[B]`, from 0 to T (ONNX `sequence_lens`, PyTorch's packed
    /// sequences). A row's state does not change after its length, and a reverse direction starts
    /// at its last valid step.
    #[must_use]
    pub fn with_lengths(mut self, lengths: &'a [usize]) -> Self {
        self.lengths = Some(lengths);
        self
    }

    /// Which steps count, in the order of the ids (Keras' `mask`); at the others the state of
    /// every recurrent layer does not change. A step is masked if this mask, the lengths or the
    /// network itself (`mask_zero`, `Masking`) mask it.
    #[must_use]
    pub fn with_mask(mut self, mask: &'a [bool]) -> Self {
        self.mask = Some(mask);
        self
    }
}

/// Inputs that fit their network, time-major; T, numbers and mask are those of the first.
pub(crate) struct Checked<'a> {
    /// T
    pub steps: usize,
    /// B
    pub batch: usize,
    /// The numbers.
    pub values: Values<'a>,
    /// [`bits`] of every step, `[T, B]`; none if every step counts by construction.
    pub mask: Option<Vec<u32>>,
    /// The inputs beside the first.
    pub others: Vec<CheckedInput<'a>>,
    /// Where the rows begin, if they do so at different timesteps.
    pub begins: Option<RowBegins>,
    /// Where the other inputs lie in banks, if they do; then there are no `others`.
    pub banks: Option<BankRows>,
}

/// Where the rows of a batch begin; all end with the last timestep.
pub(crate) struct RowBegins {
    /// The first timestep of each row, `[B]`; T of a row that has none.
    pub first: Vec<u32>,
    /// [`bits`] of every step from the first on `[T', B]`, at each rate of [`Cuts::unmasked`](crate::network::Cuts::unmasked).
    pub masks: Vec<Vec<u32>>,
}

impl RowBegins {
    /// Of rows that begin at these of `steps` timesteps; `None` if the network needs no more than a mask of its input.
    pub fn new(network: &Network, first: Vec<u32>, steps: usize) -> Option<Self> {
        let cuts = network.cuts().filter(|cuts| cuts.marks_rows())?;
        let masks = cuts.unmasked().iter().map(|&rate| {
            let valid =
                (0..steps / rate).flat_map(|step| first.iter().map(move |&first| step * rate >= first as usize));
            with_history(&valid.collect::<Vec<_>>(), first.len())
        });
        Some(Self { masks: masks.collect(), first })
    }
}

/// One input of several.
pub(crate) struct CheckedInput<'a> {
    /// T
    pub steps: usize,
    /// B
    pub batch: usize,
    /// The numbers.
    pub values: Values<'a>,
    /// As [`Checked::mask`].
    pub mask: Option<Vec<u32>>,
}

/// The numbers of an input, time-major.
pub(crate) enum Values<'a> {
    /// `[T, B]`
    Tokens(Cow<'a, [u32]>),
    /// `[T, B, I]`
    Features(Cow<'a, [f32]>),
}

impl Values<'_> {
    fn is_finite(&self) -> bool {
        match self {
            Self::Tokens(_) => true,
            Self::Features(numbers) => numbers.iter().all(|number| number.is_finite()),
        }
    }
}

impl<'a> Checked<'a> {
    /// Whether no number is NaN or infinite.
    pub fn is_finite(&self) -> bool {
        self.values.is_finite() && self.others.iter().all(|other| other.values.is_finite())
    }

    pub fn new(network: &Network, input: Input<'a>, state: Option<&State>) -> Result<Self> {
        let CheckedInput { steps, batch, values, mask } = CheckedInput::new(network, 0, &input)?;
        let mut checked = Self { steps, batch, values, mask, others: Vec::new(), begins: None, banks: None };
        checked.add_others(network, input.others)?;
        if checked.others.is_empty() {
            network.output_steps(steps)?;
        } else {
            network.stage_steps_into(|number| checked.steps_of(number), &mut Vec::new())?;
        }
        if let Some(state) = state {
            state::check(network, batch, state)?;
        }
        Ok(checked)
    }

    /// The first input of a network whose others lie in banks.
    pub fn of_first(network: &Network, input: Input<'a>) -> Result<Self> {
        if network.inputs().len() == 1 {
            return Self::new(network, input, None);
        }
        if let Some(other) = input.others.first() {
            return Err(Error::shape("inputs beside the first", "none, since streams attend to banks", other.name()));
        }
        let CheckedInput { steps, batch, values, mask } = CheckedInput::new(network, 0, &input)?;
        network.stage_steps_into(|_| steps, &mut Vec::new())?;
        Ok(Self { steps, batch, values, mask, others: Vec::new(), begins: None, banks: None })
    }

    /// Timesteps of an input of the network, by its number.
    pub fn steps_of(&self, number: usize) -> usize {
        number.checked_sub(1).and_then(|other| self.others.get(other)).map_or(self.steps, |other| other.steps)
    }

    /// The numbers of an input of the network.
    pub fn values_of(&self, number: usize) -> &Values<'a> {
        number.checked_sub(1).and_then(|other| self.others.get(other)).map_or(&self.values, |other| &other.values)
    }

    /// [`bits`] of every step of an input of the network.
    pub fn mask_of(&self, number: usize) -> Option<&[u32]> {
        let other = number.checked_sub(1).and_then(|other| self.others.get(other));
        other.map_or(self.mask.as_deref(), |other| other.mask.as_deref())
    }

    /// [`bits`] of every step of a stage's input, where it is known which count.
    pub fn mask_at(&self, network: &Network, stage: &Stage) -> Option<&[u32]> {
        if let MaskReach::Fits(input) = stage.mask_reach {
            return self.mask_of(input);
        }
        let (begins, cuts) = (self.begins.as_ref()?, network.cuts()?);
        let at = cuts.unmasked().iter().position(|&rate| rate == cuts.rate_in(stage))?;
        begins.masks.get(at).map(|mask| &mask[..])
    }

    /// The inputs that the network reads beside the first, in its order.
    fn add_others(&mut self, network: &Network, given: &'a [NamedInput<'a>]) -> Result<()> {
        let wanted = network.inputs().get(1..).unwrap_or_default();
        let names = |names: &mut dyn Iterator<Item = &str>| {
            let names = names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            if names.is_empty() { "none".to_owned() } else { names }
        };
        let fits = given.len() == wanted.len() && wanted.iter().all(|w| given.iter().any(|g| g.name() == w.name));
        if !fits {
            let expected = names(&mut wanted.iter().map(|input| input.name.as_str()));
            let got = names(&mut given.iter().map(NamedInput::name));
            return Err(Error::shape("inputs beside the first", expected, got));
        }
        for (number, wanted) in (1..).zip(wanted) {
            let Some(given) = given.iter().find(|given| given.name() == wanted.name) else { continue };
            let checked = CheckedInput::new(network, number, &given.as_input())?;
            if checked.batch != self.batch {
                let expected = format!("{} batch rows, as the first input has", self.batch);
                return Err(Error::shape(format!("input `{}`", wanted.name), expected, checked.batch.to_string()));
            }
            self.others.push(checked);
        }
        Ok(())
    }
}

impl<'a> CheckedInput<'a> {
    fn new(network: &Network, number: usize, input: &Input<'a>) -> Result<Self> {
        let axes = input.axes.unwrap_or(network.axes_of_input(number));
        let wanted = &network.inputs()[number];
        // A run of a network of one input allocates nothing.
        let what: Cow<'_, str> = if number == 0 { "input".into() } else { format!("input `{}`", wanted.name).into() };
        let (width, embedded) = (wanted.width, wanted.num_embeddings.is_some());
        let expected = || match (wanted.kind, embedded) {
            (_, true) => format!("token ids {}", order(axes, None)),
            (InputKind::Row, _) => format!("a vector for each row, [B, {width}]"),
            _ => order(axes, Some(width)),
        };
        let (steps, batch, values) = match (input.numbers, wanted.kind, wanted.num_embeddings) {
            (InputData::Tokens { ids, shape }, InputKind::Tokens, Some(num_embeddings)) => {
                let of = if number == 0 { "tokens" } else { &what };
                let (steps, batch) = check_shape(of, axes, &shape, None, ids.len())?;
                let tokens = time_major(ids, axes, &shape);
                if let Some(at) = tokens.iter().position(|&id| id as usize >= num_embeddings) {
                    let (row, step) = (at % batch, at / batch);
                    return Err(Error::TokenOutOfRange { token: tokens[at], row, step, num_embeddings });
                }
                (steps, batch, Values::Tokens(tokens))
            }
            (InputData::Features { values, shape }, InputKind::Sequence, _) => {
                let (steps, batch) = check_shape(&what, axes, &shape, Some(width), values.len())
                    .map_err(|error| or_of_the_file(network, input, error))?;
                one_order(network, input, shape)?;
                (steps, batch, Values::Features(time_major(values, axes, &shape)))
            }
            (InputData::Rows { values, shape }, InputKind::Row, _) => {
                let [batch, _] = shape;
                if shape != [batch.max(1), width] || batch.checked_mul(width) != Some(values.len()) {
                    let got = format!("{shape:?} with {} elements", values.len());
                    return Err(Error::shape(what, expected(), got));
                }
                (1, batch, Values::Features(Cow::Borrowed(values)))
            }
            (given, ..) => return Err(Error::shape(what, expected(), given.to_string())),
        };
        let mut checked = Self { steps, batch, values, mask: None };
        checked.mask = checked.make_mask(network, number, input)?;
        Ok(checked)
    }

    fn make_mask(&mut self, network: &Network, number: usize, input: &Input<'_>) -> Result<Option<Vec<u32>>> {
        let (steps, batch, rule) = (self.steps, self.batch, network.inputs()[number].masks);
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
            let axes = input.axes.unwrap_or(network.axes_of_input(number));
            let batch_first = axes.iter().find(|&&axis| axis != Axis::Feature) == Some(&Axis::Batch);
            let mask = if batch_first { rows_last(mask, batch, steps, 1) } else { Cow::Borrowed(mask) };
            valid.iter_mut().zip(mask.iter()).for_each(|(valid, &mask)| *valid &= mask);
        }
        match (rule, &mut self.values) {
            (Some(MaskRule::TokenZero), Values::Tokens(tokens)) => {
                valid.iter_mut().zip(tokens.iter()).for_each(|(valid, &token)| *valid &= token != 0);
            }
            (Some(MaskRule::Value(value)), Values::Features(features)) => {
                let width = network.inputs()[number].width;
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

impl Values<'_> {
    /// As a device takes them.
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "the CPU has no buffers"))]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Tokens(tokens) => bytemuck::cast_slice(tokens),
            Self::Features(values) => bytemuck::cast_slice(values),
        }
    }
}

/// Marks the steps that count, and those before and after which one counts.
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

/// Lengths and masks count the input's timesteps; after a convolution there are others.
fn mask_must_fit(network: &Network) -> Result<()> {
    let reads = |stage: &Stage| {
        let by_mask = matches!(
            stage.kind,
            StageKind::TimeSoftmax | StageKind::Attention(_) | StageKind::Select(SelectStep::LastValid)
        );
        stage.steps_through_time() || by_mask
    };
    match network.stages().iter().find(|stage| reads(stage) && stage.mask_reach == MaskReach::Resized) {
        Some(stage) => Err(Error::Unsupported {
            place: format!("layer `{}`", stage.label),
            what: "a length or mask of the caller after a layer that changes the number of timesteps".into(),
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

/// `[B, T, N]` as `[T, B, N]`, copied only where that changes the order.
fn rows_last<T: Copy>(values: &[T], batch: usize, steps: usize, width: usize) -> Cow<'_, [T]> {
    if batch > 1 && steps > 1 { Cow::Owned(swap_outer(values, batch, steps, width)) } else { Cow::Borrowed(values) }
}

/// Values of a checked shape as `[T, B]` or `[T, B, N]`.
fn time_major<'a, T: Copy>(values: &'a [T], axes: &[Axis], shape: &[usize]) -> Cow<'a, [T]> {
    match *axes {
        [Axis::Time, Axis::Batch] | [Axis::Time, Axis::Batch, Axis::Feature] => Cow::Borrowed(values),
        [Axis::Batch, Axis::Time] | [Axis::Batch, Axis::Time, Axis::Feature] => {
            rows_last(values, shape[0], shape[1], shape.get(2).copied().unwrap_or(1))
        }
        _ => {
            let [(steps, step), (batch, row), (width, feature)] =
                [Axis::Time, Axis::Batch, Axis::Feature].map(|axis| match axes.iter().position(|&a| a == axis) {
                    Some(at) => (shape[at], shape[at + 1..].iter().product()),
                    None => (1, 1),
                });
            let at = |t: usize, b: usize, n: usize| values[t * step + b * row + n * feature];
            let rows = (0..steps).flat_map(|t| (0..batch).map(move |b| (t, b)));
            Cow::Owned(rows.flat_map(|(t, b)| (0..width).map(move |n| at(t, b, n))).collect())
        }
    }
}

/// T and B of an input whose shape and length agree with each other, with its axes and with the network.
fn check_shape(what: &str, axes: &[Axis], shape: &[usize], width: Option<usize>, len: usize) -> Result<(usize, usize)> {
    let place = |wanted: Axis| {
        let mut found = (0..axes.len()).filter(|&at| axes[at] == wanted);
        found.next().filter(|_| found.next().is_none())
    };
    let feature = place(Axis::Feature).map_or(0, |_| 1);
    let (Some(time), Some(row), true) =
        (place(Axis::Time), place(Axis::Batch), axes.len() == shape.len() && shape.len() == 2 + feature)
    else {
        let expected = if width.is_some() { "time, batch and feature, each once" } else { "time and batch, each once" };
        return Err(Error::shape(format!("axes of the {what}"), expected, letters(axes)));
    };
    let (steps, batch) = (shape[time], shape[row]);
    let fits = width.is_none_or(|width| place(Axis::Feature).is_some_and(|at| shape[at] == width));
    if steps == 0 || batch == 0 || !fits {
        let expected = format!("{} with T and B at least 1", order(axes, width));
        return Err(Error::shape(what, expected, format!("{shape:?}")));
    }
    let elements = shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
    if elements != Some(len) {
        return Err(Error::shape(what, format!("as many elements as shape {shape:?} says"), format!("{len} elements")));
    }
    Ok((steps, batch))
}

/// The order of the file's input, where it has time, batch and feature in another order than a run reads.
fn order_of_the_file<'n>(network: &'n Network, input: &Input<'_>) -> Option<&'n [Axis]> {
    let axes = &network.file_axes()?.input.axes;
    let differs = axes.len() == 3 && axes != network.input_axes() && axes.contains(&Axis::Feature);
    (input.axes.is_none() && differs).then_some(axes)
}

/// An error if a shape that fits the order of a run fits that of the file too, and the two hold different numbers.
fn one_order(network: &Network, input: &Input<'_>, shape: [usize; 3]) -> Result<()> {
    let Some(axes) = order_of_the_file(network, input) else { return Ok(()) };
    let fits = axes.iter().zip(shape).any(|(&axis, n)| axis == Axis::Feature && n == network.input_size());
    // Two orders of axes of which at most one is longer than 1 are the same order.
    if !fits || shape.iter().filter(|&&n| n > 1).count() < 2 {
        return Ok(());
    }
    let (run, file) = (letters(network.input_axes()), letters(axes));
    Err(Error::shape(
        "input",
        format!("a shape that is {run} alone, or Input::with_axes, since the file's own order is {file}"),
        format!("{shape:?}, which fits both"),
    ))
}

/// A shape error that also says the file's order, if that is another.
fn or_of_the_file(network: &Network, input: &Input<'_>, error: Error) -> Error {
    match (error, order_of_the_file(network, input)) {
        (Error::Shape { what, expected, got }, Some(axes)) => {
            let expected = format!("{expected} (the file's own order, {}, needs Input::with_axes)", letters(axes));
            Error::Shape { what, expected, got }
        }
        (error, _) => error,
    }
}

/// The shape expected: letters, and the width in place of N.
fn order(axes: &[Axis], width: Option<usize>) -> String {
    let letters = letters(axes);
    width.map_or_else(|| letters.clone(), |width| letters.replace('N', &width.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::bits::{SEEN_FORWARD, SEEN_REVERSE, VALID};

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
