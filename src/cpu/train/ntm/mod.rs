//! A cell with a memory: its forward pass, which keeps what the gradients need if they are wanted, and its backward pass.
//!
//! Some rows go through all timesteps together, so that they share loads of the weights; their memories stay in a cache. The
//! gradients of the weights are products over all timesteps after the last step.

mod address;
mod address_backward;
mod backward;
mod forward;
mod sizes;
mod vectors;

use self::address::HeadControls;
use self::address_backward::HeadScratch;
use self::sizes::NtmSizes;
use super::cells::GateBlocks;
use super::product::{pack_columns, pack_rows};
use super::share_memory::{ShareMemory, set_shares};
use super::weight_gradient::WeightGradient;
use crate::cpu::packed::Panels;
use crate::cpu::simd::{Wide, lanes};
use crate::network::{Network, NtmStage, Role, Stage};
use crate::reference::StageInput;

/// Rows that go through all timesteps together.
const GROUP_ROWS: usize = 8;

/// The weights of a controller and its heads, packed.
#[derive(Debug, Default)]
pub(in crate::cpu) struct NtmPanels {
    of_input: Panels,
    of_state: Panels,
    heads: Panels,
    /// `[blocks, H]`
    bias: Vec<f32>,
    /// `[P]`
    heads_bias: Vec<f32>,
}

/// What some rows keep of their memories.
#[derive(Debug, Default)]
struct MemoryShare {
    /// `[T + 1, rows, K, N]`
    weights: Vec<f32>,
    /// `[T * W + 1, rows, M, N]`, after each write.
    memory: Vec<f32>,
    /// `[T, W + 1, rows, N]`
    norms: Vec<f32>,
    /// `[T, rows, K, ..]`
    records: Vec<f32>,
    /// `[rows, R*M]`, what was read last; then its gradient.
    read: Vec<f32>,
    /// Gradients `[rows, ..]` of the weights and the memory.
    d_weights: Vec<f32>,
    d_memory: Vec<f32>,
    heads: HeadControls,
    scratch: HeadScratch,
}

/// What a layer keeps between its passes and, as memory, between runs.
#[derive(Debug, Default)]
pub(in crate::cpu) struct NtmMemory {
    shares: Vec<ShareMemory>,
    memories: Vec<MemoryShare>,
    backward: [Panels; 3],
    gradients: [WeightGradient; 2],
}

impl NtmMemory {
    fn set_shares(&mut self, batch: usize) {
        set_shares(&mut self.shares, batch, batch.div_ceil(GROUP_ROWS));
        self.memories.resize_with(self.shares.len(), MemoryShare::default);
    }
}

/// A run of a layer.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct NtmRun<'a> {
    pub stage: &'a Stage,
    pub ntm: &'a NtmStage,
    pub flow: &'a StageInput<'a, f32>,
    pub threads: usize,
}

/// The rows of a matrix `[G*H, K]` by their place in blocks of H in whole vectors.
fn gate_row<'a>(
    matrix: &'a [f32],
    [hidden, padded]: [usize; 2],
    columns: usize,
    blocks: &'static [usize],
    place: usize,
) -> Option<&'a [f32]> {
    let (block, unit) = (place / padded, place % padded);
    let gate = blocks.iter().position(|&of_gate| of_gate == block).filter(|_| unit < hidden)?;
    Some(&matrix[(gate * hidden + unit) * columns..][..columns])
}

/// The tensors of a layer, as rows of packed matrices.
#[derive(Clone, Copy)]
struct NtmTensors<'a> {
    network: &'a Network,
    stage: &'a Stage,
    sizes: NtmSizes<'a>,
    blocks: GateBlocks,
}

impl<'a> NtmTensors<'a> {
    fn new<S: Wide>(network: &'a Network, stage: &'a Stage, ntm: &'a NtmStage) -> Self {
        let sizes = NtmSizes::new::<S>(ntm, stage.in_features);
        Self { network, stage, sizes, blocks: GateBlocks::of(ntm.controller.cell()) }
    }

    fn of(&self, role: Role) -> &'a [f32] {
        self.network.param(self.stage, 0, role)
    }

    fn input_row(&self, place: usize) -> Option<&'a [f32]> {
        let NtmSizes { hidden, padded_hidden, z, .. } = self.sizes;
        gate_row(self.of(Role::WeightIh), [hidden, padded_hidden], z, self.blocks.of_input, place)
    }

    fn state_row(&self, place: usize) -> Option<&'a [f32]> {
        let NtmSizes { hidden, padded_hidden, .. } = self.sizes;
        let place = self.blocks.first_of_state * padded_hidden + place;
        gate_row(self.of(Role::WeightHh), [hidden, padded_hidden], hidden, self.blocks.of_state, place)
    }

    fn heads_row(&self, place: usize) -> Option<&'a [f32]> {
        self.of(Role::HeadsWeight).chunks_exact(self.sizes.hidden).nth(place)
    }

    /// Rows of the sums that the input and the state have products with.
    fn gate_rows(&self) -> [usize; 2] {
        [self.blocks.of_input, self.blocks.of_state].map(|blocks| blocks.len() * self.sizes.padded_hidden)
    }
}

impl NtmPanels {
    /// Takes over the weights of a layer.
    pub fn pack<S: Wide>(&mut self, network: &Network, stage: &Stage, ntm: &NtmStage, threads: usize) {
        let tensors = NtmTensors::new::<S>(network, stage, ntm);
        let NtmSizes { hidden, padded_hidden, z, padded_controls, .. } = tensors.sizes;
        let [of_input, of_state] = tensors.gate_rows();
        pack_rows::<S>(&mut self.of_input, threads, [of_input, z], |place| tensors.input_row(place));
        pack_rows::<S>(&mut self.of_state, threads, [of_state, hidden], |place| tensors.state_row(place));
        pack_rows::<S>(&mut self.heads, threads, [ntm.control_size(), hidden], |place| tensors.heads_row(place));
        self.bias.clear();
        self.bias.resize(tensors.blocks.count * padded_hidden, 0.0);
        let blocks = [tensors.blocks.of_input, tensors.blocks.of_state];
        for (role, blocks) in [Role::BiasIh, Role::BiasHh].into_iter().zip(blocks) {
            for (of_gate, block) in tensors.of(role).chunks_exact(hidden).zip(blocks) {
                let to = &mut self.bias[block * padded_hidden..][..hidden];
                to.iter_mut().zip(of_gate).for_each(|(to, x)| *to += x);
            }
        }
        self.heads_bias.clear();
        self.heads_bias.extend_from_slice(tensors.of(Role::HeadsBias));
        self.heads_bias.resize(padded_controls, 0.0);
    }
}

/// Packs the transposed matrices that the backward pass multiplies with: of z, of h and of the heads.
fn pack_transposed<S: Wide>(panels: &mut [Panels; 3], tensors: &NtmTensors<'_>, threads: usize) {
    let NtmSizes { hidden, z, .. } = tensors.sizes;
    let [of_input, of_state] = tensors.gate_rows();
    let [input, state, heads] = panels;
    pack_columns::<S>(input, threads, [of_input, z], |place| tensors.input_row(place));
    pack_columns::<S>(state, threads, [of_state, hidden], |place| tensors.state_row(place));
    let controls = tensors.sizes.stage.control_size();
    pack_columns::<S>(heads, threads, [controls, hidden], |place| tensors.heads_row(place));
}

/// Whether these passes run a layer, whose controller is one that [`runs`](super::runs) accepts.
pub(in crate::cpu) fn runs_ntm(ntm: &NtmStage) -> bool {
    super::runs(&ntm.controller)
}

/// `[B, N, M]` of one row as `[M, N]`, N in whole vectors.
fn turn_in(sizes: &NtmSizes<'_>, from: &[f32], to: &mut [f32]) {
    to.fill(0.0);
    for (n, row) in from.chunks_exact(sizes.columns).enumerate() {
        row.iter().zip(to[n..].iter_mut().step_by(sizes.padded_rows)).for_each(|(&x, to)| *to = x);
    }
}

/// The inverse of [`turn_in`].
fn turn_out(sizes: &NtmSizes<'_>, from: &[f32], to: &mut [f32]) {
    for (n, row) in to.chunks_exact_mut(sizes.columns).enumerate() {
        row.iter_mut().zip(from[n..].iter().step_by(sizes.padded_rows)).for_each(|(to, &x)| *to = x);
    }
}

/// Rows of `from` to longer rows of `to`, which end in zeros.
fn widen(from: &[f32], width: usize, to: &mut [f32], padded: usize) {
    for (from, to) in from.chunks_exact(width).zip(to.chunks_exact_mut(padded)) {
        to[..width].copy_from_slice(from);
        to[width..].fill(0.0);
    }
}

/// The inverse of [`widen`].
fn narrow(from: &[f32], padded: usize, to: &mut [f32], width: usize) {
    for (from, to) in from.chunks_exact(padded).zip(to.chunks_exact_mut(width)) {
        to.copy_from_slice(&from[..width]);
    }
}

/// Numbers of a row of z in whole vectors.
fn z_stride<S: Wide>(sizes: &NtmSizes<'_>) -> usize {
    sizes.z.next_multiple_of(lanes::<S>())
}
