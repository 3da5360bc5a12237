//! Which networks can be cut anywhere in time: their outputs depend on what their layers keep and on the steps so far alone.

use super::stage::{Source, Stage, StageKind, Window};
use super::{PadMode, Padding, Pool, Rearrange, SelectStep};
use crate::base::error::{Error, Result};

/// What it takes to cut a network in time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cuts {
    /// Of each stage, timesteps of the network's input for one of the stage's output.
    rates: Vec<usize>,
    /// Of each stage, what it keeps of its input.
    pasts: Vec<Option<Past>>,
    /// The rates of recurrent levels that no mask of the input reaches.
    unmasked: Vec<usize>,
    /// Timesteps that a piece of the input must have, or several times as many.
    whole: usize,
}

/// The last inputs of a window over time, which stand for its padding when the next ones come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Past {
    /// Position of the layer among those that keep something.
    pub layer: usize,
    /// P, how many timesteps.
    pub steps: usize,
    /// What stands for an input before the first.
    pub start: f32,
    /// Timesteps of the network's input for one of these.
    pub rate: usize,
}

impl Cuts {
    /// `recurrent` is the number of layers that keep something beside windows.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the name of the first layer whose output depends on later steps, or on earlier ones that
    /// nothing keeps.
    pub fn new(stages: &[Stage], recurrent: usize) -> Result<Self> {
        let mut cuts = Self { rates: Vec::new(), pasts: Vec::new(), unmasked: Vec::new(), whole: 1 };
        let mut added: Vec<Added> = Vec::new();
        let mut layer = recurrent;
        for stage in stages {
            let refused = |reason: String| Error::Unsupported {
                place: format!("layer `{}`", stage.label),
                what: format!("a stream through {reason}"),
            };
            if reads_beside(stage) {
                return Err(refused("a layer that reads another input of the network".into()));
            }
            let rate = cuts.rate_in(stage);
            let several = stage.inputs.iter().any(|&source| cuts.rate_of(source) != rate);
            if matches!(stage.kind, StageKind::Join(_)) && several {
                return Err(refused("outputs of different numbers of timesteps".into()));
            }
            let of = |source: &Source| match *source {
                Source::Input(_) => Added::default(),
                Source::Stage(index) => added[index],
            };
            let before = stage.inputs.iter().map(of).find(|added| *added != Added::default()).unwrap_or_default();
            let Cut { past, stride, added: after } = cut(stage, before).map_err(refused)?;
            let keeps = stage.steps_through_time() || matches!(stage.kind, StageKind::Feedback { .. });
            if keeps && !stage.mask_reaches() && !cuts.unmasked.contains(&rate) {
                cuts.unmasked.push(rate);
            }
            let past = past.filter(|&(steps, _)| steps > 0).map(|(steps, start)| Past { layer, steps, start, rate });
            layer += usize::from(past.is_some());
            cuts.pasts.push(past);
            cuts.rates.push(rate.saturating_mul(stride));
            cuts.whole = least_common_multiple(cuts.whole, rate.saturating_mul(stride));
            added.push(after);
        }
        match (stages.last(), added.last()) {
            (Some(stage), Some(added)) if *added != Added::default() => Err(Error::Unsupported {
                place: format!("layer `{}`", stage.label),
                what: "a stream whose output has timesteps that padding added".into(),
            }),
            _ => Ok(cuts),
        }
    }

    /// What stage `index` keeps of its input.
    pub fn past(&self, index: usize) -> Option<Past> {
        self.pasts.get(index).copied().flatten()
    }

    /// Whether any stage keeps some of its input.
    pub fn keeps_inputs(&self) -> bool {
        self.pasts.iter().any(Option::is_some)
    }

    /// Whether rows of a batch that begin at different timesteps need more than a mask of the input.
    pub fn marks_rows(&self) -> bool {
        self.keeps_inputs() || !self.unmasked.is_empty()
    }

    /// The rates of recurrent levels that no mask of the input reaches.
    pub fn unmasked(&self) -> &[usize] {
        &self.unmasked
    }

    /// Timesteps of the network's input that a piece must have, or several times as many.
    pub fn whole(&self) -> usize {
        self.whole
    }

    /// An error if a piece of `steps` does not make whole outputs.
    pub fn check_steps(&self, what: &str, steps: usize) -> Result<()> {
        if steps.is_multiple_of(self.whole) {
            return Ok(());
        }
        let expected = format!("a multiple of {} timesteps, which make whole outputs", self.whole);
        Err(Error::shape(what, expected, steps.to_string()))
    }

    /// Timesteps of the network's input for one of the output.
    pub fn rate(&self) -> usize {
        self.rates.last().copied().unwrap_or(1)
    }

    /// Timesteps of the network's input for one of a stage's input.
    pub fn rate_in(&self, stage: &Stage) -> usize {
        // Attention has the timesteps of its queries.
        let at = usize::from(matches!(stage.kind, StageKind::Attention(_)));
        self.rate_of(stage.inputs[at])
    }

    fn rate_of(&self, source: Source) -> usize {
        match source {
            Source::Input(_) => 1,
            Source::Stage(index) => self.rates.get(index).copied().unwrap_or(1),
        }
    }
}

/// Whether a stage reads an input beside the first otherwise than by attention to all of it.
fn reads_beside(stage: &Stage) -> bool {
    let beside = |source: &Source| matches!(source, Source::Input(number) if *number > 0);
    match stage.kind {
        StageKind::Attention(_) => stage.inputs.get(1).is_some_and(beside),
        _ => stage.inputs.iter().any(beside),
    }
}

/// Whether a stage attends to inputs that are there as a whole.
fn attends_beside(stage: &Stage) -> bool {
    let beside = |at: usize| matches!(stage.inputs.get(at), Some(Source::Input(number)) if *number > 0);
    beside(0) && beside(2)
}

/// Timesteps of a stage's output that are no timesteps of its input: past ones in front, and those of padding behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Added {
    front: usize,
    behind: usize,
}

/// What it takes to cut one stage.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cut {
    /// Timesteps of its input that it keeps, and what stands for one before the first.
    past: Option<(usize, f32)>,
    stride: usize,
    added: Added,
}

/// What it takes to cut a stage, or why it cannot be cut.
fn cut(stage: &Stage, before: Added) -> std::result::Result<Cut, String> {
    let no_past = Cut { past: None, stride: 1, added: Added::default() };
    match &stage.kind {
        StageKind::Conv1d { window, .. } => cut_window(window, 0.0, before),
        StageKind::Pool1d { window, pool, count_include_pad } => {
            // A pooling that does not count its padding skips the lowest number.
            let skips = *pool == Pool::Max || *pool == Pool::Average && !count_include_pad;
            cut_window(window, if skips { f32::MIN } else { 0.0 }, before)
        }
        // What a window pads itself, or a layer in front of it or behind it.
        StageKind::Rearrange(Rearrange::Pad { left, right: 0, mode: PadMode::Zeros })
            if *left > 0 && before == Added::default() =>
        {
            let front = usize::try_from(*left).unwrap_or(usize::MAX);
            Ok(Cut { past: Some((front, 0.0)), added: Added { front, behind: 0 }, ..no_past })
        }
        StageKind::Rearrange(Rearrange::Slice { start: 0, end: Some(end), step: 1 }) if removes(*end, before) => {
            Ok(no_past)
        }
        StageKind::Rearrange(Rearrange::Pad { left: 0, right, .. }) if removes(*right, before) => Ok(no_past),
        _ if before != Added::default() => Err("timesteps that padding added".into()),
        kind => reason(stage, kind).map_or(Ok(no_past), |reason| Err(reason.into())),
    }
}

/// Whether an end `-n` removes what was added behind.
fn removes(end: i64, added: Added) -> bool {
    added.front == 0 && added.behind > 0 && i64::try_from(added.behind).is_ok_and(|behind| behind == -end)
}

/// Why a stage without a window cannot be cut.
fn reason(stage: &Stage, kind: &StageKind) -> Option<&'static str> {
    match kind {
        StageKind::Recurrent(level) if level.directions.iter().any(|direction| direction.reverse) => {
            Some("a direction that starts at the end")
        }
        StageKind::Recurrent(level) if level.starts.iter().any(Option::is_some) => Some("a state that layers give"),
        StageKind::Feedback { .. } if stage.inputs.len() > 1 => Some("a state that layers give"),
        StageKind::FinalState(_) => Some("the final state of a recurrent layer"),
        StageKind::Recurrent(_) | StageKind::Ntm(_) if !stage.sequence_in => {
            Some("a recurrence over the last step alone")
        }
        StageKind::GlobalPool(_) => Some("pooling over all time"),
        StageKind::Select(SelectStep::First) => Some("the first timestep of a sequence"),
        StageKind::Select(SelectStep::LastValid) => Some("the last valid timestep of a sequence"),
        StageKind::Reverse => Some("the sequence backwards"),
        StageKind::TimeSoftmax => Some("a softmax over all time"),
        StageKind::Attention(_) if !attends_beside(stage) => Some("attention to all timesteps"),
        StageKind::Rearrange(rearrange) => match rearrange {
            Rearrange::Channels { .. } | Rearrange::Widen => None,
            Rearrange::Expand => Some("a row that earlier timesteps need"),
            _ => Some("other timesteps than its input's"),
        },
        _ => None,
    }
}

/// What it takes to cut a window, for which `start` stands for an input before the first.
fn cut_window(window: &Window, start: f32, before: Added) -> std::result::Result<Cut, String> {
    let (span, stride) = (window.span(), window.stride);
    let [own, right] = match window.padding {
        Padding::Zeros { left, right } => [left, right],
        // That of whole strides.
        Padding::Same => {
            let total = span.saturating_sub(stride);
            [total / 2, total - total / 2]
        }
    };
    if before.behind > 0 || before.front > 0 && own > 0 {
        return Err("timesteps that padding added".into());
    }
    let (left, needed) = (own.max(before.front), span.saturating_sub(stride));
    let padded = left.saturating_add(right);
    if left < needed {
        return Err(match padded >= needed {
            true => format!("a window that sees {} later timesteps", needed - left),
            false => {
                format!("a window without the {needed} timesteps of padding at the start that its first outputs need")
            }
        });
    }
    let behind = if padded < span { 0 } else { (padded - span) / stride + 1 };
    Ok(Cut { past: (own > 0).then_some((own, start)), stride, added: Added { front: 0, behind } })
}

fn least_common_multiple(a: usize, b: usize) -> usize {
    let (mut divisor, mut rest) = (a, b);
    while rest > 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    (a / divisor).saturating_mul(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(kernel_size: usize, stride: usize, dilation: usize, left: usize, right: usize) -> Window {
        Window { kernel_size, stride, dilation, padding: Padding::Zeros { left, right } }
    }

    fn past_steps(window: &Window) -> std::result::Result<usize, String> {
        match cut_window(window, 0.0, Added::default())? {
            Cut { past, added: Added { behind: 0, .. }, .. } => Ok(past.map_or(0, |(steps, _)| steps)),
            Cut { added, .. } => Err(format!("adds {} timesteps", added.behind)),
        }
    }

    /// Where a window can be cut, whole strides give one output each, and no output sees a later one.
    #[test]
    fn windows_that_can_be_cut_give_an_output_a_stride() {
        let (mut cut, mut refused) = (0, 0);
        for kernel_size in 1..5 {
            for stride in 1..4 {
                for dilation in 1..3 {
                    for padding in 0..64 {
                        let window = window(kernel_size, stride, dilation, padding / 8, padding % 8);
                        let sees = window.span().saturating_sub(padding / 8) > stride;
                        let added: Vec<_> = (5..9)
                            .map(|outputs| window.outputs(outputs * stride).map(|all| all.checked_sub(outputs)))
                            .collect();
                        match cut_window(&window, 0.0, Added::default()) {
                            Ok(Cut { added: Added { behind, .. }, .. }) => {
                                assert!(!sees && added.iter().all(|added| *added == Some(Some(behind))), "{window:?}");
                                cut += 1;
                            }
                            Err(_) => {
                                assert!(sees, "{window:?}");
                                refused += 1;
                            }
                        }
                    }
                }
            }
        }
        assert!(cut > 50 && refused > 50, "{cut} {refused}");
    }

    #[test]
    fn refusals_say_why() {
        let why = |window| past_steps(&window).expect_err("refused");
        assert!(why(window(3, 1, 1, 1, 1)).contains("sees 1 later timesteps"));
        assert!(why(window(3, 1, 2, 0, 0)).contains("without the 4 timesteps of padding"));
        assert!(why(window(3, 1, 1, 2, 2)).contains("adds 2 timesteps"));
        assert_eq!(past_steps(&window(3, 2, 1, 1, 1)), Ok(1), "the padding at the end is never seen");
        assert_eq!(past_steps(&Window { kernel_size: 2, stride: 2, dilation: 1, padding: Padding::Same }), Ok(0));
        assert_eq!([(4, 6), (1, 5), (3, 3)].map(|(a, b)| least_common_multiple(a, b)), [12, 5, 3]);
    }
}
