//! Reference implementation of `shaders/ntm.wgsl`: a cell with a memory.
//!
//! One timestep of one row, with z the input beside what was read before, Mem the memory `[N, M]` and K heads, of which R read:
//!
//! ```text
//! (h, c) = cell(z, h, c)            p = clip(Wp h + bp)
//! per head: key = act(p)   β = softplus(p)   g = σ(p)   s = softmax(p)   γ = 1 + softplus(p)
//!   cos_n = <Mem_n, key> / (|Mem_n| |key| + 1e-8)
//!   content = softmax_n(β cos_n)    gated = g content + (1 - g) weights before
//!   shifted_n = Σ_j s_j gated_{(n - j) mod N},  j = -shifts, .., shifts
//!   weights = softmax_n(γ ln(shifted_n + 1e-16))
//! a read head reads Σ_n weights_n Mem_n
//! a write head makes Mem_n (1 - weights_n e) + weights_n a  with e = σ(p), a = act(p)
//! ```
//!
//! The last softmax is `shifted^γ / Σ shifted^γ` without its underflow.

use super::recurrent::{LevelShape, bounded, step_of};
use super::weights::NtmWeights;
use super::{Real, StageInput, ZoneoutMode, activate, linear, sigmoid, softplus};
use crate::base::bits;
use crate::base::error::Result;
use crate::network::{Activation, NtmStage, Stage, StageRounding};

/// Added to the product of two norms.
const COSINE_EPS: f64 = 1e-8;
/// Added under the logarithm.
const LOG_EPS: f64 = 1e-16;

/// What a layer with a memory keeps, of all batch rows.
pub(crate) struct NtmState<'a, F> {
    /// `[B, H]`
    pub h: &'a mut [F],
    /// `[B, H]`, or empty
    pub c: &'a mut [F],
    /// `[B, R*M]`
    pub read: &'a mut [F],
    /// `[B, K, N]`
    pub weights: &'a mut [F],
    /// `[B, N, M]`
    pub memory: &'a mut [F],
}

impl<'a, F> From<[&'a mut [F]; 5]> for NtmState<'a, F> {
    fn from([h, c, read, weights, memory]: [&'a mut [F]; 5]) -> Self {
        Self { h, c, read, weights, memory }
    }
}

impl<F> NtmState<'_, F> {
    /// That of one row.
    pub fn row(&mut self, row: usize, stage: &NtmStage) -> NtmState<'_, F> {
        let hidden = stage.hidden_size();
        let c = if self.c.is_empty() { 0 } else { hidden };
        NtmState {
            h: &mut self.h[row * hidden..][..hidden],
            c: &mut self.c[row * c..][..c],
            read: &mut self.read[row * stage.read_size()..][..stage.read_size()],
            weights: &mut self.weights[row * stage.heads() * stage.rows..][..stage.heads() * stage.rows],
            memory: &mut self.memory[row * stage.rows * stage.columns..][..stage.rows * stage.columns],
        }
    }
}

/// How a head came to its weights.
pub(super) struct Addressing<F> {
    pub key: Vec<F>,
    pub key_norm: F,
    pub beta: F,
    pub gate: F,
    pub shift: Vec<F>,
    pub gamma: F,
    pub cosines: Vec<F>,
    pub content: Vec<F>,
    pub gated: Vec<F>,
    /// `ln(shifted + 1e-16)`
    pub logs: Vec<F>,
    pub weights: Vec<F>,
}

/// What a step of one row read and computed.
pub(super) struct NtmStep<F> {
    /// `[I + R*M]`
    pub z: Vec<F>,
    pub projected: Vec<F>,
    pub h_before: Vec<F>,
    pub c_before: Vec<F>,
    pub h: Vec<F>,
    /// `[P]`, before they are bounded and after.
    pub controls: [Vec<F>; 2],
    /// `[K, N]`
    pub weights_before: Vec<F>,
    /// By head.
    pub heads: Vec<Addressing<F>>,
    /// The memory after each number of writes.
    pub memories: Vec<Vec<F>>,
}

pub(super) fn norm<F: Real>(numbers: &[F]) -> F {
    numbers.iter().fold(F::default(), |sum, &x| sum + x * x).sqrt()
}

fn softmax_of<F: Real>(logits: Vec<F>) -> Vec<F> {
    let highest = logits.iter().copied().fold(logits[0], |highest, x| if x > highest { x } else { highest });
    let exponentials: Vec<F> = logits.into_iter().map(|x| (x - highest).exp()).collect();
    let sum = exponentials.iter().fold(F::default(), |sum, &x| sum + x);
    exponentials.into_iter().map(|x| x / sum).collect()
}

/// The row from which a head's weight moves to row `n` by the shift of this place.
pub(super) fn shifted_from(stage: &NtmStage, n: usize, place: usize) -> usize {
    // n - (place - shifts)
    (n + stage.rows + stage.shifts - place) % stage.rows
}

/// The weights of a head from what the controller gives it, the memory `[N, M]` and its weights before.
pub(super) fn address<F: Real>(stage: &NtmStage, controls: &[F], memory: &[F], before: &[F]) -> Addressing<F> {
    let (columns, shifts) = (stage.columns, stage.shift_count());
    let key: Vec<F> = controls[..columns].iter().map(|&x| activate(stage.key_activation, x)).collect();
    let beta = softplus(controls[columns]);
    let gate = sigmoid(controls[columns + 1]);
    let shift = softmax_of(controls[columns + 2..][..shifts].to_vec());
    let gamma = F::ONE + softplus(controls[columns + 2 + shifts]);
    let key_norm = norm(&key);
    let cosine = |row: &[F]| {
        let product = row.iter().zip(&key).fold(F::default(), |sum, (&x, &k)| sum + x * k);
        product / (norm(row) * key_norm + F::from_f64(COSINE_EPS))
    };
    let cosines: Vec<F> = memory.chunks_exact(columns).map(cosine).collect();
    let content = softmax_of(cosines.iter().map(|&cosine| beta * cosine).collect());
    let gated: Vec<F> =
        content.iter().zip(before).map(|(&content, &before)| gate * content + (F::ONE - gate) * before).collect();
    let log = |n: usize| {
        let places = shift.iter().enumerate();
        let sum = places.fold(F::default(), |sum, (place, &s)| sum + s * gated[shifted_from(stage, n, place)]);
        (sum + F::from_f64(LOG_EPS)).ln()
    };
    let logs: Vec<F> = (0..stage.rows).map(log).collect();
    let weights = softmax_of(logs.iter().map(|&log| gamma * log).collect());
    Addressing { key, key_norm, beta, gate, shift, gamma, cosines, content, gated, logs, weights }
}

/// Erase and add `[M]` of a write head.
pub(super) fn write_vectors<F: Real>(stage: &NtmStage, controls: &[F], write: usize) -> [Vec<F>; 2] {
    let columns = stage.columns;
    let first = stage.heads() * stage.address_size() + 2 * write * columns;
    let erase = controls[first..][..columns].iter().map(|&x| sigmoid(x)).collect();
    let add = controls[first + columns..][..columns].iter().map(|&x| activate(stage.add_activation, x)).collect();
    [erase, add]
}

/// One step of one row from its state, which becomes the next.
pub(super) fn ntm_step<F: Real>(
    shape: LevelShape<'_>,
    stage: &NtmStage,
    weights: &NtmWeights<F>,
    x: &[F],
    state: NtmState<'_, F>,
) -> Result<NtmStep<F>> {
    let level = &stage.controller;
    let NtmState { h, c, read, weights: of_heads, memory } = state;
    let z = [x, read].concat();
    let (h_before, c_before) = (h.to_vec(), c.to_vec());
    let controller = &weights.controller;
    let projected = linear(&z, &controller.input, &controller.biases.bias, Activation::Linear);
    step_of(shape, level, &level.directions[0], controller, [&projected, &h_before], c, h)?;
    let raw = linear(h, &weights.heads, &weights.bias, Activation::Linear);
    let controls: Vec<F> = raw.iter().map(|&x| bounded(stage.clip, x)).collect();
    let weights_before = of_heads.to_vec();
    let mut heads: Vec<Option<Addressing<F>>> = (0..stage.heads()).map(|_| None).collect();
    let mut memories = vec![memory.to_vec()];
    for writes in 0..=stage.write_heads {
        let addressed = memories[writes].clone();
        for head in (0..stage.heads()).filter(|&head| stage.writes_before(head) == writes) {
            let of_head = &controls[head * stage.address_size()..][..stage.address_size()];
            let rows = head * stage.rows..(head + 1) * stage.rows;
            let found = address(stage, of_head, &addressed, &weights_before[rows.clone()]);
            if head < stage.read_heads {
                let read = &mut read[head * stage.columns..][..stage.columns];
                read.fill(F::default());
                for (&weight, row) in found.weights.iter().zip(addressed.chunks_exact(stage.columns)) {
                    read.iter_mut().zip(row).for_each(|(sum, &x)| *sum += weight * x);
                }
            }
            of_heads[rows].copy_from_slice(&found.weights);
            heads[head] = Some(found);
        }
        let write = heads.get(stage.read_heads + writes).and_then(Option::as_ref);
        if let Some(found) = write {
            let [erase, add] = write_vectors(stage, &controls, writes);
            let mut written = addressed;
            for (&weight, row) in found.weights.iter().zip(written.chunks_exact_mut(stage.columns)) {
                for ((x, &e), &a) in row.iter_mut().zip(&erase).zip(&add) {
                    *x = *x * (F::ONE - weight * e) + weight * a;
                }
            }
            memories.push(written);
        }
    }
    memory.copy_from_slice(&memories[stage.write_heads]);
    let h = h.to_vec();
    let heads = heads.into_iter().flatten().collect();
    Ok(NtmStep { z, projected, h_before, c_before, h, controls: [raw, controls], weights_before, heads, memories })
}

/// A stage with what it reads and its state h, c, what was read, weights and memory `[B, ..]`.
pub(crate) fn run_ntm<F: Real>(
    (stage, ntm_stage): (&Stage, &NtmStage),
    weights: &NtmWeights<F>,
    flow: &StageInput<'_, F>,
    rounding: StageRounding,
    state: [&mut [F]; 5],
) -> Result<Vec<F>> {
    ntm(shape_of(stage, flow, rounding), ntm_stage, weights, flow.inputs[0], state.into())
}

/// The sizes of a run of a stage.
pub(crate) fn shape_of<'a, F>(stage: &'a Stage, flow: &StageInput<'a, F>, rounding: StageRounding) -> LevelShape<'a> {
    let &StageInput { steps, batch, mask, .. } = flow;
    let (label, sequence_out, zoneout) = (&stage.label, stage.sequence_out, ZoneoutMode::Mean);
    LevelShape { label, steps, batch, sequence_out, mask, rounding, zoneout }
}

/// All steps: `[T, B, I]` to `[T, B, H + R*M]` or `[B, H + R*M]`. A masked step changes nothing; its output is 0.
fn ntm<F: Real>(
    shape: LevelShape<'_>,
    stage: &NtmStage,
    weights: &NtmWeights<F>,
    input: &[F],
    mut state: NtmState<'_, F>,
) -> Result<Vec<F>> {
    let LevelShape { steps, batch, sequence_out, .. } = shape;
    let (inputs, hidden) = (input.len() / (steps * batch), stage.hidden_size());
    let width = hidden + stage.read_size();
    let mut output = vec![F::default(); if sequence_out { steps } else { 1 } * batch * width];
    for at in 0..steps * batch {
        if shape.mask.is_some_and(|mask| mask[at] & bits::VALID == 0) {
            continue;
        }
        let mut state = state.row(at % batch, stage);
        ntm_step(shape, stage, weights, &input[at * inputs..][..inputs], state.row(0, stage))?;
        if sequence_out {
            let (h, read) = output[at * width..][..width].split_at_mut(hidden);
            h.copy_from_slice(state.h);
            read.copy_from_slice(state.read);
        }
    }
    if !sequence_out {
        for (row, output) in output.chunks_exact_mut(width).enumerate() {
            let state = state.row(row, stage);
            let (h, read) = output.split_at_mut(hidden);
            h.copy_from_slice(state.h);
            read.copy_from_slice(state.read);
        }
    }
    Ok(output)
}
