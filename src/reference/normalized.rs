//! The steps of layer-normalized cells (Ba, Kiros & Hinton 2016). Reference implementation of
//! `shaders/common/normalized.wgsl` and of these cells' files.

use super::linear::accumulate;
use super::{Real, StepOptions, activate, layer_norm};
use crate::network::{CellNorm, GateNorm, Norms, gates};

/// The normalized sums of one row, from which a layer-normalized cell is updated, `[G*H]` each.
struct Normalized<F> {
    /// `LN(W x)`, or `LN(W x + U h)`.
    input: Vec<F>,
    /// `LN(U h)`, or 0.
    state: Vec<F>,
}

/// Normalizes `projected` `[G*H]`, W x, and the product of `recurrent` `[H, G*H]`, U transposed, with `h_in` `[H]`.
fn normalized<F: Real, const N: usize>(
    options: &StepOptions<N>,
    norms: &Norms<F>,
    projected: &[F],
    recurrent: &[F],
    h_in: &[F],
) -> Normalized<F> {
    let mut product = vec![F::default(); projected.len()];
    for (&h, weights) in h_in.iter().zip(recurrent.chunks_exact(projected.len())) {
        accumulate(&mut product, options.factor(h), weights);
    }
    let eps = norms.how.eps;
    let norm = |x: &[F], [weight, bias]: &[Vec<F>; 2]| layer_norm(x, eps, weight, bias);
    match norms.how.gate_norm {
        GateNorm::Parts => Normalized { input: norm(projected, &norms.input), state: norm(&product, &norms.state) },
        GateNorm::Sum => {
            let sum: Vec<F> = projected.iter().zip(&product).map(|(&x, &product)| x + product).collect();
            Normalized { input: norm(&sum, &norms.input), state: vec![F::default(); projected.len()] }
        }
    }
}

/// One timestep of one batch row of a layer-normalized LSTM: the reference of `shaders/cells/layer_norm_lstm.wgsl`.
///
/// ```text
/// (i, f, g, o) = LN(W x + U h)  or  LN(W x) + LN(U h), over all 4H
/// c' = σ(f)∘c + σ(i)∘tanh(g)    h' = σ(o)∘tanh(c')
/// ```
/// with `LN(c')` in the place of c', in both or in the second alone.
///
/// - `projected` `[4H]`: W x of this timestep, gates in the order i, f, g, o
/// - `recurrent` `[H, 4H]`: U transposed
/// - `h_in`, `h_out` `[H]`
/// - `cell` `[H]`: c, updated in place
pub fn layer_norm_lstm_step<F: Real>(
    options: &StepOptions<3>,
    norms: &Norms<F>,
    projected: &[F],
    recurrent: &[F],
    h_in: &[F],
    cell: &mut [F],
    h_out: &mut [F],
) {
    let hidden = h_out.len();
    let [of_gates, of_candidate, of_output] = options.activations;
    let sums = normalized(options, norms, projected, recurrent, h_in);
    let sum = |block: usize, unit: usize| sums.input[block * hidden + unit] + sums.state[block * hidden + unit];
    for (unit, c) in cell.iter_mut().enumerate() {
        let input = activate(of_gates, sum(gates::INPUT, unit));
        let forget = activate(of_gates, sum(gates::FORGET, unit));
        let candidate = activate(of_candidate, sum(gates::CANDIDATE, unit));
        *c = forget * *c + input * candidate;
    }
    let seen = match norms.how.cell_norm {
        CellNorm::None => cell.to_vec(),
        CellNorm::State | CellNorm::Output => {
            let [weight, bias] = &norms.c;
            layer_norm(cell, norms.how.eps, weight, bias)
        }
    };
    if norms.how.cell_norm == CellNorm::State {
        cell.copy_from_slice(&seen);
    }
    for (unit, (h, c)) in h_out.iter_mut().zip(seen).enumerate() {
        *h = activate(of_gates, sum(gates::OUTPUT, unit)) * activate(of_output, c);
    }
}

/// One timestep of one batch row of a layer-normalized GRU: the reference of `shaders/cells/layer_norm_gru.wgsl`.
///
/// ```text
/// (r, z, n) = LN(W x + U h):      n' = tanh(σ(r)∘n)
/// (r, z, n), (s, y, m) = LN(W x), LN(U h), with r + s, z + y:  n' = tanh(n + σ(r + s)∘m)
/// h' = (1 - σ(z))∘n' + σ(z)∘h
/// ```
/// The first is Dreamer's (Hafner et al. 2020), the second haste's.
///
/// - `projected` `[3H]`: W x of this timestep, gates in the order r, z, n
/// - `recurrent` `[H, 3H]`: U transposed
/// - `h_in`, `h_out` `[H]`
pub fn layer_norm_gru_step<F: Real>(
    options: &StepOptions<2>,
    norms: &Norms<F>,
    projected: &[F],
    recurrent: &[F],
    h_in: &[F],
    h_out: &mut [F],
) {
    let hidden = h_out.len();
    let [of_gates, of_candidate] = options.activations;
    let Normalized { input, state } = normalized(options, norms, projected, recurrent, h_in);
    for (unit, h) in h_out.iter_mut().enumerate() {
        let [reset, update] = [gates::RESET, gates::UPDATE].map(|block| {
            let at = block * hidden + unit;
            activate(of_gates, input[at] + state[at])
        });
        let at = gates::NEW * hidden + unit;
        let candidate = match norms.how.gate_norm {
            GateNorm::Sum => reset * input[at],
            GateNorm::Parts => input[at] + reset * state[at],
        };
        *h = (F::ONE - update) * activate(of_candidate, candidate) + update * h_in[unit];
    }
}
