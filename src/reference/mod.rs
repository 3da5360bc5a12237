//! The reference: a plain CPU version of every kernel, which is the kernel's specification.
//!
//! File stems equal those in `shaders/`; a cell's step specifies all its kernel variants. Everything is generic over `f32` and `f64`.
//! Every test compares with the `f64` version; the `f32` version shows the effect of rounding alone.

mod activations;
mod arg_max;
mod attention;
mod batch_norm;
mod candidates;
mod channelwise;
mod choose;
mod combine;
mod conv1d;
mod ctc;
mod derivatives;
mod embedding;
#[cfg(test)]
#[path = "../../tests/support/exact.rs"]
pub(crate) mod exact;
mod gru_step;
mod gru_step_backward;
mod layer_norm;
mod linear;
mod logits;
mod loss;
mod lstm_step;
mod lstm_step_backward;
mod metrics;
mod normalized;
mod normalized_backward;
mod ntm;
mod ntm_backward;
mod optimizer;
mod past;
mod pool;
mod rearrange;
mod recurrent;
mod recurrent_backward;
mod rnn_step;
mod rnn_step_backward;
mod scan_step;
mod scan_step_backward;
mod schedule;
mod slots;
mod softmax;
mod stage;
mod stage_backward;
mod step_backward;
mod time_softmax;
mod weights;
mod zoneout;

pub use crate::base::Real;
pub use crate::network::{Columns, Combine};
pub(crate) use activations::softplus;
pub use activations::{activate, sigmoid};
pub use arg_max::arg_max;
pub use attention::{
    AttentionGradients, AttentionInputs, AttentionRun, attention, attention_backward, attention_shares,
};
pub use batch_norm::BatchMoments;
pub use candidates::candidates;
pub use channelwise::{channelwise, channelwise_backward};
pub use choose::{Filter, choose, keeping, random};
pub use combine::{combine, combine_backward};
pub use conv1d::{windows, windows_backward};
pub(crate) use ctc::ctc_places;
pub use ctc::{CtcInput, CtcResult, ctc, ctc_best_path, ctc_least_steps};
pub use derivatives::derivative;
pub use embedding::{embedding, embedding_backward};
pub use gru_step::gru_step;
pub use gru_step_backward::gru_step_backward;
pub use layer_norm::{layer_norm, layer_norm_backward};
pub use linear::{LinearGradients, linear, linear_backward};
pub use logits::{best, first_bad, log_probability};
pub(crate) use loss::loss_into;
pub use loss::{Counts, Loss, LossOptions, LossResult, Reduction, Targets, loss, row_factors};
pub use lstm_step::{LstmOptions, lstm_step};
pub use lstm_step_backward::lstm_step_backward;
pub use metrics::{ClassScore, class_scores, confusion, mean_absolute_error, perplexity, top_k};
pub use normalized::*;
pub use normalized_backward::*;
pub(crate) use ntm::{run_ntm, shape_of};
pub(crate) use ntm_backward::ntm_backward;
pub use optimizer::*;
pub(crate) use optimizer::{square_blocks, square_sum, sum_of};
pub use past::{PastSizes, past_after, with_past};
pub use pool::{pool, pool_backward};
pub use rearrange::{RearrangeSizes, rearrange, rearrange_backward};
pub use recurrent::StepOptions;
use recurrent::bounded;
pub(crate) use recurrent::{LevelShape, factors, level, stands_still};
use recurrent_backward::transposed;
pub(crate) use recurrent_backward::{LevelGradients, level_backward};
pub use rnn_step::rnn_step;
pub use rnn_step_backward::rnn_step_backward;
pub use scan_step::scan_step;
pub use scan_step_backward::scan_step_backward;
pub use schedule::{Decay, Schedule};
pub use slots::{NO_SLOT, gather, scatter};
pub use softmax::{softmax, softmax_backward};
pub(crate) use stage::{StageInput, attention_run, stateless};
pub(crate) use stage_backward::{StageGradients, stateless_backward};
pub use step_backward::{StepGradients, StepInputs};
pub use time_softmax::{time_softmax, time_softmax_backward};
pub(crate) use weights::{DirectionWeights, StageWeights};
pub(crate) use zoneout::{ZONEOUT_SITE, ZoneoutMode};
