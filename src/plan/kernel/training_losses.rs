//! Kernels of losses and of metrics.

use super::training::{KernelRow, PARAMS};
use super::{Binding, Constant, TrainKernel, f, read, read_write, u, uniform};

const OF_LOSS: &[Binding] = &[
    uniform("params"),
    read("x"),
    read("targets"),
    read("factors"),
    read("class_weights"),
    read_write("d"),
    read_write("found"),
];
const OF_CTC: &[Binding] =
    &[uniform("params"), read("x"), read("targets"), read("steps"), read_write("forward"), read_write("rows")];
const CTC_CONSTANTS: &[Constant] = &[u("FEATURES"), u("BLANK"), u("LABELS"), u("WORKGROUP")];
const MOST_PROBABLE: &str = include_str!("../../../shaders/common/most_probable.wgsl");
const CTC: &str = include_str!("../../../shaders/common/ctc.wgsl");

impl TrainKernel {
    /// As [`TrainKernel::row`](super::TrainKernel) of the losses.
    pub(super) fn row_of_loss(self) -> KernelRow {
        /// The file of a kernel's own under `shaders/training/`.
        macro_rules! part {
            ($name:literal) => {
                include_str!(concat!("../../../shaders/training/", $name, ".wgsl"))
            };
        }
        match self {
            Self::CrossEntropy => (
                "cross_entropy",
                vec![PARAMS, MOST_PROBABLE, part!("cross_entropy")],
                OF_LOSS.to_vec(),
                &[],
                vec![u("FEATURES"), u("VALUES"), f("SMOOTHING"), u("CLASS_WEIGHTS"), u("WORKGROUP")],
            ),
            Self::CtcRows => (
                "ctc_rows",
                vec![PARAMS, part!("ctc_rows")],
                vec![uniform("params"), read("x"), read_write("found")],
                &[],
                vec![u("FEATURES"), u("WORKGROUP")],
            ),
            Self::CtcForward => (
                "ctc_forward",
                vec![PARAMS, CTC, part!("ctc_forward")],
                [OF_CTC, &[read_write("found")]].concat(),
                &[],
                CTC_CONSTANTS.to_vec(),
            ),
            Self::CtcBackward => (
                "ctc_backward",
                vec![PARAMS, CTC, part!("ctc_backward")],
                [OF_CTC, &[read_write("behind"), read_write("d")]].concat(),
                &[],
                CTC_CONSTANTS.to_vec(),
            ),
            Self::ElementwiseLoss => (
                "elementwise_loss",
                vec![PARAMS, part!("elementwise_loss")],
                OF_LOSS.to_vec(),
                &[],
                vec![
                    u("FEATURES"),
                    u("LOSS"),
                    u("VALUES"),
                    f("SMOOTHING"),
                    f("DELTA"),
                    u("CLASS_WEIGHTS"),
                    u("WORKGROUP"),
                ],
            ),
            Self::LossSum => (
                "loss_sum",
                vec![PARAMS, part!("loss_sum")],
                vec![uniform("params"), read("found"), read("settings"), read_write("results")],
                &[],
                vec![u("WORKGROUP")],
            ),
            Self::ClassMetrics => (
                "class_metrics",
                vec![PARAMS, MOST_PROBABLE, part!("class_metrics")],
                vec![uniform("params"), read("x"), read("targets"), read("factors"), read_write("counts")],
                &[],
                vec![u("FEATURES"), u("TOP"), u("CONFUSION"), u("WORKGROUP")],
            ),
            Self::AbsoluteErrors => (
                "absolute_errors",
                vec![PARAMS, part!("absolute_errors")],
                vec![uniform("params"), read("x"), read("targets"), read("factors"), read_write("found")],
                &[],
                vec![u("FEATURES"), u("WORKGROUP")],
            ),
            _ => self.row_of_layer(),
        }
    }
}
