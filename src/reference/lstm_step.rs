//! Twin of `shaders/lstm_step.wgsl`.
//!
//! ```text
//! i = σ(Wi x + Ui h + bi)    f = σ(Wf x + Uf h + bf)
//! g = tanh(Wg x + Ug h + bg) o = σ(Wo x + Uo h + bo)
//! c' = f∘c + i∘g             h' = o∘tanh(c')
//! ```
//! (Hochreiter & Schmidhuber 1997; forget gate: Gers, Schmidhuber & Cummins 2000)

use super::linear::accumulate;
use super::{Real, sigmoid};
use crate::network::gates;

/// Sizes of one timestep.
#[derive(Clone, Copy, Debug)]
pub struct StepShape {
    /// H
    pub hidden_size: usize,
    /// Distance between two rows of `output`, D*H.
    pub output_stride: usize,
    /// First column of `output` that this direction owns.
    pub output_offset: usize,
}

/// One timestep of one direction for all batch rows.
///
/// - `projected` `[B, 4H]`: W x + b of this timestep, gates in the order i, f, g, o
/// - `recurrent` `[H, 4H]`: U transposed
/// - `h_in`, `h_out` `[B, H]`: the ping-pong pair
/// - `cell` `[B, H]`: c, updated in place
/// - `output` `[B, D*H]`: the layer's output at this timestep
pub fn lstm_step<F: Real>(
    shape: StepShape,
    projected: &[F],
    recurrent: &[F],
    h_in: &[F],
    h_out: &mut [F],
    cell: &mut [F],
    output: &mut [F],
) {
    let hidden = shape.hidden_size;
    let width = gates::COUNT * hidden;
    let mut sums = vec![F::default(); width];
    for (row, projected) in projected.chunks_exact(width).enumerate() {
        sums.copy_from_slice(projected);
        let span = row * hidden..(row + 1) * hidden;
        for (&h, weights) in h_in[span.clone()].iter().zip(recurrent.chunks_exact(width)) {
            accumulate(&mut sums, h, weights);
        }
        let h_out = &mut h_out[span.clone()];
        let cell = &mut cell[span];
        for unit in 0..hidden {
            let gate = |block: usize| sums[block * hidden + unit];
            let input = sigmoid(gate(gates::INPUT));
            let forget = sigmoid(gate(gates::FORGET));
            let candidate = gate(gates::CANDIDATE).tanh();
            let out = sigmoid(gate(gates::OUTPUT));
            cell[unit] = forget * cell[unit] + input * candidate;
            h_out[unit] = out * cell[unit].tanh();
        }
        output[row * shape.output_stride + shape.output_offset..][..hidden].copy_from_slice(h_out);
    }
}
