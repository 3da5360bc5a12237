//! How many bytes a run moves at least: an estimate from the plan, to be held against a measured bandwidth.

use super::{Access, Dispatch, Held, Kernel, Plan};
use crate::network::WeightFormat;

const F32: u64 = 4;

/// Bytes between the kernels and the device's memory in one run, were nothing kept in a cache from one timestep to the
/// next.
///
/// The weights of a recurrence count once per timestep, or once per dispatch where registers hold them; those of other
/// layers once per dispatch; of an embedding's table only the rows that are read. h counts read and written per
/// timestep, or per dispatch where it stays in a workgroup; c read and written per timestep. Inputs and outputs count
/// once for each kernel that reads or writes them. Not counted: parameters, what workgroups hand each other, and copies
/// to and from the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Weights read.
    pub weights: u64,
    /// h and c, read and written.
    pub state: u64,
    /// Inputs, outputs and what lies between two kernels.
    pub data: u64,
}

impl Traffic {
    /// Of one run of `plan`.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let mut traffic = Self::default();
        for dispatch in &plan.dispatches {
            match dispatch.kernel {
                Kernel::Recurrent(_) => traffic.recurrence(dispatch),
                Kernel::Linear(_) => traffic.product(dispatch),
                _ => traffic.layer(plan, dispatch),
            }
        }
        traffic
    }

    /// All of it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.weights + self.state + self.data
    }

    fn recurrence(&mut self, dispatch: &Dispatch) {
        let (Some(kernel), Some(run)) = (dispatch.kernel.recurrent(), dispatch.recurrence) else { return };
        let constant = |name| u64::from(dispatch.constant(name).unwrap_or(0));
        let repeat = u64::from(dispatch.repeat);
        let steps = repeat.saturating_mul(run.stride.into()).min(u64::from(run.end - run.first));
        let [width, depth, below, lanes] = ["WIDTH", "DEPTH", "BELOW", "LANES"].map(constant);
        let gates = kernel.cell.gates();
        let stored = match kernel.format {
            WeightFormat::F16 => 2,
            WeightFormat::Int8 => 1,
            _ => 4,
        };
        let k = lanes * depth.next_multiple_of(4) + (lanes - 1) * below.next_multiple_of(4);
        let k = if kernel.cell.scans() { 0 } else { k };
        self.weights += k * width * gates * stored * if kernel.held == Held::Not { steps } else { repeat };
        let row = lanes * u64::from(dispatch.batch) * F32;
        let h = if kernel.rung.is_long() { repeat } else { steps };
        self.state += 2 * h * row * constant("STATE");
        if kernel.cell == super::Cells::Lstm {
            self.state += 2 * steps * row * width;
        }
        // The projected input of each step, and its output.
        self.data += steps * row * width * gates + if constant("PARTIAL") == 0 { steps * row * width } else { 0 };
    }

    fn product(&mut self, dispatch: &Dispatch) {
        let [k, n] = ["IN_FEATURES", "OUT_FEATURES"].map(|name| u64::from(dispatch.constant(name).unwrap_or(0)));
        self.weights += dispatch.bindings[1].bytes + dispatch.bindings[2].bytes;
        self.data += u64::from(dispatch.rows) * (k + n) * F32;
    }

    fn layer(&mut self, plan: &Plan, dispatch: &Dispatch) {
        let spec = dispatch.kernel.spec();
        let storage = spec.bindings.iter().filter(|binding| binding.access != Access::Uniform);
        for (slice, _) in dispatch.bindings.iter().zip(storage) {
            let is_weight = slice.buffer < plan.weights;
            match (dispatch.kernel, is_weight, plan.outputs.get(dispatch.stage)) {
                (Kernel::Embedding, true, Some(output)) => self.weights += output.bytes,
                (_, true, _) => self.weights += slice.bytes,
                (_, false, _) => self.data += slice.bytes,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{FORMAT, LayerSpec, RecurrentSpec};
    use crate::plan::{PlanLimits, PlanOptions, RunShape, Strategy};
    use crate::{Network, NetworkSpec};

    fn lstm(steps: usize, options: &PlanOptions) -> (Plan, Traffic) {
        let layers = vec![LayerSpec::Lstm(RecurrentSpec::new("lstm", 8, 16))];
        let spec = NetworkSpec { format: FORMAT, layers, text: None, labels: Vec::new() };
        let network = Network::random(spec, 1).expect("a network");
        let plan = Plan::new(&network, RunShape::new(steps, 3), &PlanLimits::default(), options).expect("a plan");
        let traffic = Traffic::of(&plan);
        (plan, traffic)
    }

    #[test]
    fn recurrent_weights_count_once_per_step() {
        let step = PlanOptions::default().strategy(Strategy::Step);
        let (one, short) = lstm(1, &step);
        let (_, long) = lstm(11, &step);
        let recurrent = (long.weights - short.weights) / 10;
        let total: u64 = one.buffers[..one.weights].iter().map(|buffer| buffer.bytes).sum();
        assert!(recurrent >= 4 * 16 * 16 * 4, "{recurrent}: at least W_hh [4H, H]");
        assert!(recurrent < total && short.weights <= total, "{recurrent} of {total}: W_ih [4H, I] counts once");
        // h read and written, c twice, [B, H] each.
        assert_eq!(long.state, 11 * 4 * 3 * 16 * 4);
        assert_eq!(long.bytes(), long.weights + long.state + long.data);
        // In one dispatch h stays where it is, and registers hold the weights.
        let (_, sequence) = lstm(11, &PlanOptions::default().strategy(Strategy::Sequence).held(true));
        assert_eq!(sequence.state, (11 * 2 + 2) * 3 * 16 * 4);
        assert_eq!(sequence.weights, short.weights);
    }

    #[test]
    fn chunks_of_time_move_the_input_once() {
        let step = PlanOptions::default().strategy(Strategy::Step);
        let (whole, one) = lstm(12, &step);
        let (cut, many) = lstm(12, &step.projection_budget(3 * 3 * 4 * 16 * 4));
        assert!(cut.dispatches.len() > whole.dispatches.len());
        assert_eq!((one.data, one.state), (many.data, many.state));
        assert!(many.weights > one.weights, "W_ih is read once per chunk");
    }
}
