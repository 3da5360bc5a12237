//! The CPU twin of every kernel, plain on purpose: it is the specification.
//!
//! File stems equal those in `shaders/`; a cell's step stands for all its rungs. Everything is generic over `f32` and `f64`; the
//! `f64` instance is the oracle of every test, the `f32` instance says what rounding alone does to a result.

mod activations;
mod candidates;
mod channelwise;
mod choose;
mod combine;
mod conv1d;
mod derivatives;
mod embedding;
mod gru_step;
mod layer_norm;
mod linear;
mod logits;
mod loss;
mod lstm_step;
mod metrics;
mod normalized;
mod optimizer;
mod pool;
mod recurrent;
mod rnn_step;
mod schedule;
mod slots;
mod softmax;
mod stage;
mod stage_backward;
mod weights;

pub use crate::base::Real;
pub use crate::network::{Columns, Combine};
pub use activations::{activate, sigmoid};
pub use candidates::candidates;
pub use channelwise::{channelwise, channelwise_backward};
pub use choose::{Filter, choose, random};
pub use combine::{combine, combine_backward};
pub use conv1d::{windows, windows_backward};
pub use derivatives::derivative;
pub use embedding::{embedding, embedding_backward};
pub use gru_step::gru_step;
pub use layer_norm::{layer_norm, layer_norm_backward};
pub use linear::{LinearGradients, linear, linear_backward};
pub use logits::{best, first_bad, log_probability};
pub use loss::{Counts, Loss, LossOptions, LossResult, Reduction, Targets, loss};
pub use lstm_step::{LstmOptions, lstm_step};
pub use metrics::{ClassScore, class_scores, confusion, mean_absolute_error, perplexity, top_k};
pub use normalized::*;
pub use optimizer::*;
pub use pool::{pool, pool_backward};
pub use recurrent::StepOptions;
use recurrent::bounded;
pub(crate) use recurrent::{LevelShape, factors, level, stands_still};
pub use rnn_step::rnn_step;
pub use schedule::{Decay, Schedule};
pub use slots::{NO_SLOT, gather, scatter};
pub use softmax::{softmax, softmax_backward};
pub(crate) use stage::{StageInput, stateless};
#[allow(unused_imports, reason = "the backward walk will call it")]
pub(crate) use stage_backward::{StageGradients, stateless_backward};
pub(crate) use weights::StageWeights;
