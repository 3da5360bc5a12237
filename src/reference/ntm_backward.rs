//! Reference implementation of `shaders/training/ntm_backward.wgsl`: the gradients of a cell with a memory.

use super::ntm::{Addressing, NtmState, NtmStep, norm, ntm_step, shifted_from, write_vectors};
use super::recurrent::LevelShape;
use super::recurrent_backward::{LevelGradients, WeightSums, param_gradients, step_backward};
use super::step_backward::{StepGradients, StepInputs, product_backward, within};
use super::weights::NtmWeights;
use super::{Real, derivative, sigmoid, transposed};
use crate::base::bits;
use crate::base::error::Result;
use crate::network::{NtmStage, Role};

/// Sums over all steps and rows of the gradients of weights, as the reference holds these.
struct NtmSums<F> {
    /// `[I + R*M, G*H]`
    input: Vec<F>,
    /// `[G*H]`
    bias: Vec<F>,
    cell: WeightSums<F>,
    /// `[H, P]`
    heads: Vec<F>,
    /// `[P]`
    heads_bias: Vec<F>,
}

/// Gradients of what a layer with a memory read, as [`level_backward`](super::level_backward): `d_state` is the gradient of
/// the state after the run and becomes that of the state before it.
pub(crate) fn ntm_backward<F: Real>(
    shape: LevelShape<'_>,
    stage: &NtmStage,
    weights: &NtmWeights<F>,
    input: &[F],
    mut start: NtmState<'_, F>,
    d_output: &[F],
    mut d_state: NtmState<'_, F>,
) -> Result<LevelGradients<F>> {
    let LevelShape { steps, batch, sequence_out, .. } = shape;
    let (inputs, hidden, width) =
        (input.len() / (steps * batch), stage.hidden_size(), stage.hidden_size() + stage.read_size());
    let zeros = |of: &[F]| vec![F::default(); of.len()];
    let controller = &weights.controller;
    let mut sums = NtmSums {
        input: zeros(&controller.input),
        bias: zeros(&controller.biases.bias),
        cell: WeightSums::zeros(controller),
        heads: zeros(&weights.heads),
        heads_bias: zeros(&weights.bias),
    };
    let mut d_input = zeros(input);
    let is_valid = |at: usize| shape.mask.is_none_or(|mask| mask[at] & bits::VALID != 0);
    for row in 0..batch {
        let mut state = start.row(row, stage);
        let mut tape = Vec::with_capacity(steps);
        for at in (0..steps).map(|step| step * batch + row) {
            let x = &input[at * inputs..][..inputs];
            let step = is_valid(at).then(|| ntm_step(shape, stage, weights, x, state.row(0, stage)));
            tape.push(step.transpose()?);
        }
        let mut d_state = d_state.row(row, stage);
        let add = |d: &[F], to: &mut NtmState<'_, F>| {
            let (of_h, of_read) = d.split_at(hidden);
            to.h.iter_mut().zip(of_h).for_each(|(to, &d)| *to += d);
            to.read.iter_mut().zip(of_read).for_each(|(to, &d)| *to += d);
        };
        if !sequence_out {
            add(&d_output[row * width..][..width], &mut d_state);
        }
        for (step, taken) in tape.iter().enumerate().rev() {
            let Some(taken) = taken else { continue };
            let at = step * batch + row;
            if sequence_out {
                add(&d_output[at * width..][..width], &mut d_state);
            }
            let d_z = ntm_step_backward(shape, stage, weights, taken, &mut d_state, &mut sums)?;
            d_input[at * inputs..][..inputs].copy_from_slice(&d_z[..inputs]);
            d_state.read.copy_from_slice(&d_z[inputs..]);
        }
    }
    let NtmSums { input: of_input, bias, cell, heads, heads_bias } = sums;
    let mut params = param_gradients(&stage.controller, 0, (&of_input, bias), cell);
    params.push((0, Role::HeadsWeight, transposed(&heads, stage.control_size())));
    params.push((0, Role::HeadsBias, heads_bias));
    Ok(LevelGradients { input: d_input, params })
}

/// The gradients of one step of one row: that of z is returned, that of the state becomes that of the state before, except
/// for what was read.
fn ntm_step_backward<F: Real>(
    shape: LevelShape<'_>,
    stage: &NtmStage,
    weights: &NtmWeights<F>,
    step: &NtmStep<F>,
    d_state: &mut NtmState<'_, F>,
    sums: &mut NtmSums<F>,
) -> Result<Vec<F>> {
    let (rows, columns, reads) = (stage.rows, stage.columns, stage.read_heads);
    let [raw, controls] = &step.controls;
    let mut d_controls = vec![F::default(); controls.len()];
    let mut d_before = vec![F::default(); step.weights_before.len()];
    for writes in (0..=stage.write_heads).rev() {
        let memory = &step.memories[writes];
        if writes < stage.write_heads {
            let head = reads + writes;
            let d_weights = &mut d_state.weights[head * rows..][..rows];
            let first = stage.heads() * stage.address_size() + 2 * writes * columns;
            let d_vectors = &mut d_controls[first..][..2 * columns];
            let of_head = (&step.heads[head].weights[..], d_weights);
            write_backward(stage, (controls, writes), memory, of_head, d_state.memory, d_vectors);
        }
        for head in (0..stage.heads()).filter(|&head| stage.writes_before(head) == writes) {
            let of_head = head * rows..(head + 1) * rows;
            let d_weights = &mut d_state.weights[of_head.clone()];
            let found = &step.heads[head];
            if head < reads {
                let d_read = &d_state.read[head * columns..][..columns];
                let lines = memory.chunks_exact(columns).zip(d_state.memory.chunks_exact_mut(columns));
                for ((x, d_x), (d_weight, &weight)) in lines.zip(d_weights.iter_mut().zip(&found.weights)) {
                    for ((&x, d_x), &d) in x.iter().zip(d_x).zip(d_read) {
                        *d_weight += d * x;
                        *d_x += weight * d;
                    }
                }
            }
            let places = head * stage.address_size()..(head + 1) * stage.address_size();
            address_backward(
                (stage, found, &controls[places.clone()]),
                (memory, &step.weights_before[of_head.clone()]),
                d_weights,
                (&mut d_controls[places], &mut d_before[of_head], d_state.memory),
            );
        }
    }
    d_state.weights.copy_from_slice(&d_before);
    for (d, &x) in d_controls.iter_mut().zip(raw) {
        *d = *d * within(stage.clip, x);
    }
    product_backward(&weights.heads, &step.h, &d_controls, &mut sums.heads, d_state.h);
    sums.heads_bias.iter_mut().zip(&d_controls).for_each(|(sum, &d)| *sum += d);
    let controller = &weights.controller;
    let inputs = StepInputs {
        projected: &step.projected,
        recurrent: &controller.recurrent,
        extra: &controller.biases.extra,
        h: &step.h_before,
        c: &step.c_before,
    };
    let mut d_projected = vec![F::default(); step.projected.len()];
    let d_raw = d_state.h.to_vec();
    let gradients = &mut StepGradients {
        projected: &mut d_projected,
        recurrent: &mut sums.cell.recurrent,
        extra: &mut sums.cell.extra,
        h: d_state.h,
        c: d_state.c,
    };
    let level = &stage.controller;
    let norms = &mut sums.cell.norms;
    step_backward((shape, level, &level.directions[0], controller), inputs, &d_raw, gradients, norms)?;
    let mut d_z = vec![F::default(); step.z.len()];
    product_backward(&controller.input, &step.z, &d_projected, &mut sums.input, &mut d_z);
    sums.bias.iter_mut().zip(&d_projected).for_each(|(sum, &d)| *sum += d);
    Ok(d_z)
}

/// The gradients of a write to the memory `[N, M]`: `d_memory` is that of the memory after it and becomes that before it.
fn write_backward<F: Real>(
    stage: &NtmStage,
    (controls, write): (&[F], usize),
    memory: &[F],
    (weights, d_weights): (&[F], &mut [F]),
    d_memory: &mut [F],
    d_vectors: &mut [F],
) {
    let columns = stage.columns;
    let [erase, add] = write_vectors(stage, controls, write);
    let (d_erase, d_add) = d_vectors.split_at_mut(columns);
    let lines = memory.chunks_exact(columns).zip(d_memory.chunks_exact_mut(columns));
    for ((x, d_x), (&weight, d_weight)) in lines.zip(weights.iter().zip(d_weights)) {
        for column in 0..columns {
            let (x, d, e) = (x[column], d_x[column], erase[column]);
            d_erase[column] += -(d * x * weight);
            d_add[column] += d * weight;
            *d_weight += d * (add[column] - x * e);
            d_x[column] = d * (F::ONE - weight * e);
        }
    }
    let first = stage.heads() * stage.address_size() + 2 * write * columns;
    for column in 0..columns {
        d_erase[column] = d_erase[column] * erase[column] * (F::ONE - erase[column]);
        let x = controls[first + columns + column];
        // Where the number was bounded, the caller leaves nothing of the gradient.
        d_add[column] = d_add[column] * derivative(stage.add_activation, x);
    }
}

/// The gradients of a head's weights, which are added to those of its controls and of the memory; that of the weights before
/// is written.
fn address_backward<F: Real>(
    (stage, found, controls): (&NtmStage, &Addressing<F>, &[F]),
    (memory, before): (&[F], &[F]),
    d_weights: &[F],
    (d_controls, d_before, d_memory): (&mut [F], &mut [F], &mut [F]),
) {
    let (rows, columns, shifts) = (stage.rows, stage.columns, stage.shift_count());
    let dot = |x: &[F], y: &[F]| x.iter().zip(y).fold(F::default(), |sum, (&x, &y)| sum + x * y);
    // Sharpening.
    let mean = dot(&found.weights, d_weights);
    let d_logits: Vec<F> = found.weights.iter().zip(d_weights).map(|(&w, &d)| w * (d - mean)).collect();
    let d_gamma = dot(&d_logits, &found.logs);
    let d_shifted: Vec<F> = d_logits.iter().zip(&found.logs).map(|(&d, &log)| d * found.gamma * (-log).exp()).collect();
    // Shift.
    let mut d_gated = vec![F::default(); rows];
    let mut d_shift = vec![F::default(); shifts];
    for (n, &d) in d_shifted.iter().enumerate() {
        for (place, (d_share, &share)) in d_shift.iter_mut().zip(&found.shift).enumerate() {
            let from = shifted_from(stage, n, place);
            *d_share += d * found.gated[from];
            d_gated[from] += d * share;
        }
    }
    // Gate.
    let mut d_gate = F::default();
    let mut d_content = vec![F::default(); rows];
    for (n, &d) in d_gated.iter().enumerate() {
        d_gate += d * (found.content[n] - before[n]);
        d_before[n] = (F::ONE - found.gate) * d;
        d_content[n] = found.gate * d;
    }
    // Content.
    let mean = dot(&found.content, &d_content);
    let (mut d_beta, mut of_norms) = (F::default(), F::default());
    let mut d_key = vec![F::default(); columns];
    for n in 0..rows {
        let d = found.content[n] * (d_content[n] - mean);
        d_beta += d * found.cosines[n];
        let row = &memory[n * columns..][..columns];
        let row_norm = norm(row);
        let divisor = row_norm * found.key_norm + F::from_f64(1e-8);
        let d_product = found.beta * d / divisor;
        let d_divisor = -(found.beta * d * found.cosines[n] / divisor);
        of_norms += d_divisor * row_norm;
        let of_row = if row_norm > F::default() { d_divisor * found.key_norm / row_norm } else { F::default() };
        let d_row = &mut d_memory[n * columns..][..columns];
        for column in 0..columns {
            d_key[column] += d_product * row[column];
            d_row[column] += d_product * found.key[column] + of_row * row[column];
        }
    }
    let of_key = if found.key_norm > F::default() { of_norms / found.key_norm } else { F::default() };
    for column in 0..columns {
        let d = d_key[column] + of_key * found.key[column];
        d_controls[column] += d * derivative(stage.key_activation, controls[column]);
    }
    d_controls[columns] += d_beta * sigmoid(controls[columns]);
    d_controls[columns + 1] += d_gate * found.gate * (F::ONE - found.gate);
    let mean = dot(&d_shift, &found.shift);
    for place in 0..shifts {
        d_controls[columns + 2 + place] += found.shift[place] * (d_shift[place] - mean);
    }
    d_controls[columns + 2 + shifts] += d_gamma * sigmoid(controls[columns + 2 + shifts]);
}
