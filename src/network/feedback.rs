//! Feedback: a layer that gives what a later layer was at the timestep before. The stages from there to the later layer are a
//! loop, which runs step by step.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::stage::{Source, Stage, StageKind};
use super::{Rearrange, StateSpec};
use crate::base::error::{Error, Result};

/// What a later layer was at the timestep before, `[T, B, N]`; 0 at the first, or what a state says. So the context of an
/// attention joins the next step's input (input feeding), and h asks before the cell runs (Bahdanau).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedbackSpec {
    /// Name of the layer.
    pub name: String,
    /// Name of a later layer, whose output is `[T, B, N]`. The input of this layer says only which timesteps there are.
    pub layer: String,
    /// N
    pub num_features: usize,
    /// Name of an earlier layer whose output `[B, N]` stands for it at the first timestep, whatever the caller gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<String>,
}

/// Stages that run step by step, because one of them reads what a later one was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StepLoop {
    /// From the first feedback to the last stage that is fed back.
    pub stages: Range<usize>,
    pub feedbacks: Vec<FeedbackPlace>,
}

/// A feedback in its loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FeedbackPlace {
    /// Its stage.
    pub stage: usize,
    /// The stage that is fed back.
    pub from: usize,
    /// Position of the layer among those that keep something.
    pub layer: usize,
}

impl StepLoop {
    /// The loop of a network's stages, if there is one.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the name of a layer in it that cannot run step by step.
    pub fn new(stages: &[Stage], kept: &[StateSpec]) -> Result<Option<Self>> {
        let feedbacks = stages.iter().enumerate().filter_map(|(stage, it)| {
            let StageKind::Feedback { from } = it.kind else { return None };
            let layer = kept.iter().position(|layer| layer.name == it.label)?;
            Some(FeedbackPlace { stage, from, layer })
        });
        let feedbacks: Vec<FeedbackPlace> = feedbacks.collect();
        let (Some(first), Some(last)) = (feedbacks.first(), feedbacks.iter().map(|feedback| feedback.from).max())
        else {
            return Ok(None);
        };
        let all = first.stage..last + 1;
        for stage in &stages[all.clone()] {
            if let Some(reason) = refusal(stage, &all) {
                let what = format!("{reason} in a loop of a feedback");
                return Err(Error::Unsupported { place: format!("layer `{}`", stage.label), what });
            }
        }
        Ok(Some(Self { stages: all, feedbacks }))
    }

    /// Whether a stage of the loop reads an input as a whole at every step: what has no timesteps, and what is attended to.
    pub fn reads_whole(stage: &Stage, input: usize, is_sequence: bool) -> bool {
        !is_sequence || matches!(stage.kind, StageKind::Attention(_)) && input != 1
    }
}

/// Why a stage cannot run step by step.
fn refusal(stage: &Stage, all: &Range<usize>) -> Option<&'static str> {
    if !stage.sequence_in && stage.recurrent().is_some() || !stage.sequence_out {
        return Some("an output without a time dimension");
    }
    match &stage.kind {
        StageKind::Recurrent(level) if level.directions.iter().any(|direction| direction.reverse) => {
            Some("a direction that starts at the end")
        }
        StageKind::Attention(_) => {
            let within = |at: usize| matches!(stage.inputs.get(at), Some(Source::Stage(index)) if all.contains(index));
            (within(0) || within(2)).then_some("attention to the timesteps of the loop itself")
        }
        StageKind::Conv1d { .. } | StageKind::Pool1d { .. } => Some("a window over time"),
        StageKind::Channelwise { eps: Some(_), .. } => Some("a batch normalization"),
        StageKind::TimeSoftmax | StageKind::GlobalPool(_) | StageKind::Reverse => Some("a layer over all time"),
        StageKind::Rearrange(Rearrange::Channels { .. } | Rearrange::Widen | Rearrange::Expand) => None,
        StageKind::Rearrange(_) => Some("other timesteps than its input's"),
        _ => None,
    }
}
