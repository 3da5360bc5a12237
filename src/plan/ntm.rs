//! The weights of a cell with a memory as its kernel reads them, and where its state lies.

use super::Slice;
use crate::network::fold::{self, Biases};
use crate::network::{Cell, Network, NtmStage, Role, Stage};

/// Where a part of the state of a layer with a memory lies, `[B, ..]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryPlace {
    /// Position of the layer among those that keep something.
    pub layer: usize,
    /// Position of the part in its layer.
    pub part: usize,
    /// Before the first step and after the last.
    pub place: Slice,
}

/// Sums of a controller in a timestep: the gates', and apart those that a GRU's reset gate multiplies; `None` of a cell that the
/// kernel does not run.
pub(super) fn ntm_sums(ntm: &NtmStage) -> Option<usize> {
    let hidden = ntm.hidden_size();
    match ntm.controller.cell() {
        Cell::Lstm | Cell::Gru => Some(4 * hidden),
        Cell::Rnn => Some(hidden),
        _ => None,
    }
}

/// Numbers of [`ntm_weights`].
pub(super) fn ntm_words(stage: &Stage, ntm: &NtmStage) -> usize {
    let Some(sums) = ntm_sums(ntm) else { return 1 };
    let (hidden, controls) = (ntm.hidden_size(), ntm.control_size());
    (stage.in_features + ntm.read_size() + hidden) * ntm.controller.gate_rows() + sums + (hidden + 1) * controls
}

/// W `[K, G*H]`, U `[H, G*H]`, bias, a GRU's recurrent bias of the candidate, heads `[H, P]` and their bias.
pub(super) fn ntm_weights(network: &Network, stage: &Stage, ntm: &NtmStage) -> Vec<f32> {
    if ntm_sums(ntm).is_none() {
        return vec![0.0];
    }
    let hidden = ntm.hidden_size();
    let mut all = Vec::with_capacity(ntm_words(stage, ntm));
    let mut turned = |role: Role, columns: usize| {
        let matrix = network.param(stage, 0, role);
        all.extend((0..columns).flat_map(|k| matrix.iter().skip(k).step_by(columns)));
    };
    turned(Role::WeightIh, stage.in_features + ntm.read_size());
    turned(Role::WeightHh, hidden);
    let Biases { bias, extra } = fold::biases::<f32>(network, stage, &ntm.controller, 0);
    all.extend(bias);
    all.extend(extra);
    let heads = network.param(stage, 0, Role::HeadsWeight);
    all.extend((0..hidden).flat_map(|k| heads.iter().skip(k).step_by(hidden)));
    all.extend(network.param(stage, 0, Role::HeadsBias));
    all
}
