//! Which networks can be cut anywhere in time.

use crate::base::error::{Error, Result};
use crate::network::{Network, Padding, Rearrange, SelectStep, Stage, StageKind, Window};

/// An error that names the first layer whose output depends on more than its state and the steps so far.
pub(super) fn check(network: &Network) -> Result<()> {
    let reason = network.stages().iter().find_map(|stage| reason(stage).map(|reason| (stage, reason)));
    match reason {
        Some((stage, reason)) => Err(Error::Unsupported {
            place: format!("layer `{}`", stage.label),
            what: format!("a stream through {reason}"),
        }),
        None if network.inputs().len() > 1 => Err(Error::Unsupported {
            place: "network".into(),
            what: format!("a stream of {} inputs", network.inputs().len()),
        }),
        None if network.recurrent_layers().next().is_none() => Err(Error::Unsupported {
            place: "network".into(),
            what: "a stream through a network without a recurrent layer, which has no state,".into(),
        }),
        None => Ok(()),
    }
}

fn reason(stage: &Stage) -> Option<&'static str> {
    match &stage.kind {
        StageKind::Recurrent(level) if level.directions.iter().any(|direction| direction.reverse) => {
            Some("a direction that starts at the end")
        }
        StageKind::Recurrent(level) if level.starts.iter().any(Option::is_some) => Some("a state that layers give"),
        StageKind::FinalState(_) => Some("the final state of a recurrent layer"),
        StageKind::Recurrent(_) if !stage.sequence_in => Some("a recurrence over the last step alone"),
        StageKind::Recurrent(_) if !stage.mask_reaches() => Some("a recurrence after a layer that changes T"),
        StageKind::Conv1d { window, .. } | StageKind::Pool1d { window, .. } if sees_neighbours(window) => {
            Some("a window over neighbouring timesteps")
        }
        StageKind::GlobalPool(_) => Some("pooling over all time"),
        StageKind::Select(SelectStep::First) => Some("the first timestep of a sequence"),
        StageKind::Select(SelectStep::LastValid) => Some("the last valid timestep of a sequence"),
        StageKind::Reverse => Some("the sequence backwards"),
        StageKind::TimeSoftmax => Some("a softmax over all time"),
        StageKind::Attention(_) => Some("attention to all timesteps"),
        StageKind::Rearrange(rearrange) => match rearrange {
            Rearrange::Channels { .. } | Rearrange::Widen | Rearrange::Expand => None,
            _ => Some("other timesteps than its input's"),
        },
        _ => None,
    }
}

fn sees_neighbours(window: &Window) -> bool {
    let padded = match window.padding {
        Padding::Zeros { left, right } => left + right > 0,
        Padding::Same => false,
    };
    window.kernel_size != 1 || window.stride != 1 || padded
}
