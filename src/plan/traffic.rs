//! How many bytes a run moves at least: an estimate from the plan, to be held against a measured bandwidth.

use std::collections::HashSet;

use super::{Access, Kernel, Plan};

/// Bytes between the kernels and the device's memory in one run, were nothing kept in a cache between two dispatches
/// and everything within one.
///
/// Weights count once per dispatch, so that those of a recurrence count once per timestep; of an embedding's table
/// only the rows that are read. A state counts once per dispatch that reads or writes it, c twice: read and written.
/// Inputs, outputs and masks count once per layer and direction that reads or writes them, whatever the chunks; other
/// buffers once per entry of the plan. Not counted: parameters, and copies to and from the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
        let mut seen = HashSet::new();
        for dispatch in &plan.dispatches {
            let repeat = u64::from(dispatch.repeat);
            // Chunks of time of one direction share their weights.
            let owner = dispatch.bindings.iter().copied().find(|&id| id < plan.weights);
            let storage = dispatch.kernel.spec().bindings.iter().filter(|binding| binding.access != Access::Uniform);
            for (&id, binding) in dispatch.bindings.iter().zip(storage) {
                let bytes = plan.buffers[id].bytes;
                if id < plan.weights {
                    let rows = plan.outputs.get(dispatch.stage).map_or(bytes, |&output| plan.buffers[output].bytes);
                    let read = if dispatch.kernel == Kernel::Embedding { rows } else { bytes };
                    traffic.weights += repeat * read;
                } else if plan.states.iter().any(|state| state.c == Some(id)) {
                    traffic.state += repeat * 2 * bytes;
                } else if plan.states.iter().any(|state| state.h.contains(&id)) {
                    traffic.state += repeat * bytes;
                } else if id == plan.input || plan.mask == Some(id) || plan.outputs.contains(&id) {
                    if seen.insert((dispatch.stage, dispatch.kernel, owner, id, binding.name)) {
                        traffic.data += bytes;
                    }
                } else {
                    traffic.data += bytes;
                }
            }
        }
        traffic
    }

    /// All of it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.weights + self.state + self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{FORMAT, LayerSpec, RecurrentSpec};
    use crate::plan::{PlanLimits, PlanOptions, RunShape, plan};
    use crate::{Network, NetworkSpec};

    fn lstm(steps: usize, options: &PlanOptions) -> (Plan, Traffic) {
        let layers = vec![LayerSpec::Lstm(RecurrentSpec::new("lstm", 8, 16))];
        let spec = NetworkSpec { format: FORMAT, layers, text: None, labels: Vec::new() };
        let network = Network::random(spec, 1).expect("a network");
        let plan = plan(&network, RunShape::new(steps, 3), &PlanLimits::default(), options).expect("a plan");
        let traffic = Traffic::of(&plan);
        (plan, traffic)
    }

    #[test]
    fn recurrent_weights_count_once_per_step() {
        let (one, short) = lstm(1, &PlanOptions::default());
        let (_, long) = lstm(11, &PlanOptions::default());
        let recurrent = (long.weights - short.weights) / 10;
        let total: u64 = one.buffers[..one.weights].iter().map(|buffer| buffer.bytes).sum();
        assert!(recurrent >= 4 * 16 * 16 * 4, "{recurrent}: at least W_hh [4H, H]");
        assert!(recurrent < total && short.weights <= total, "{recurrent} of {total}: W_ih [4H, I] counts once");
        // h read and written, c twice, [B, H] each.
        assert_eq!(long.state, 11 * 4 * 3 * 16 * 4);
        assert_eq!(long.bytes(), long.weights + long.state + long.data);
    }

    #[test]
    fn chunks_of_time_move_the_input_once() {
        let (whole, one) = lstm(12, &PlanOptions::default());
        let (cut, many) = lstm(12, &PlanOptions::default().projection_budget(3 * 3 * 4 * 16 * 4));
        assert!(cut.dispatches.len() > whole.dispatches.len());
        assert_eq!((one.data, one.state), (many.data, many.state));
        assert!(many.weights > one.weights, "W_ih is read once per chunk");
    }
}
