//! Reference implementation of `shaders/cells/lstm.wgsl`.
//!
//! ```text
//! i = σ(Wi x + Ui h + bi + pi∘c)  f = σ(Wf x + Uf h + bf + pf∘c)  (coupled: f = 1 - i)
//! g = tanh(Wg x + Ug h + bg)      c' = f∘c + i∘g
//! o = σ(Wo x + Uo h + bo + po∘c') h' = o∘tanh(c')
//! ```
//! (Hochreiter & Schmidhuber 1997; forget gate: Gers, Schmidhuber & Cummins 2000; peepholes p:
//! Gers 2002)

use super::linear::accumulate;
use super::{Real, StepOptions, activate, bounded};
use crate::network::{Activation, gates};

/// The options of an LSTM's step.
#[derive(Clone, Copy, Debug)]
pub struct LstmOptions {
    /// Functions of the gates, the candidate and the output, and what every cell has.
    pub step: StepOptions<3>,
    /// Whether the forget gate is `1 - i`.
    pub coupled: bool,
    /// Bound of c.
    pub cell_clip: Option<f32>,
}

/// One timestep of one batch row of an LSTM.
///
/// - `projected` `[4H]`: W x + b of this timestep, gates in the order i, f, g, o
/// - `recurrent` `[K, 4H]`: U transposed; K is H, or P with a projection
/// - `peephole` `[3H]` in the order i, f, o, or empty
/// - `h_in` `[K]`
/// - `cell` `[H]`: c, updated in place
/// - `h_out` `[H]`: the new h, not projected yet
pub fn lstm_step<F: Real>(
    options: &LstmOptions,
    projected: &[F],
    recurrent: &[F],
    peephole: &[F],
    h_in: &[F],
    cell: &mut [F],
    h_out: &mut [F],
) {
    let &LstmOptions { step: options, coupled, cell_clip } = options;
    let hidden = h_out.len();
    let mut sums = projected.to_vec();
    for (&h, weights) in h_in.iter().zip(recurrent.chunks_exact(projected.len())) {
        accumulate(&mut sums, options.factor(h), weights);
    }
    let [of_gates, of_candidate, of_output] = options.activations;
    for unit in 0..hidden {
        let peep = |block: usize, c: F| peephole.get(block * hidden + unit).map_or(F::default(), |&p| p * c);
        let gate = |activation: Activation, block: usize, more: F| {
            activate(activation, bounded(options.clip, sums[block * hidden + unit] + more))
        };
        let c = cell[unit];
        let input = gate(of_gates, gates::INPUT, peep(0, c));
        let forget = if coupled { F::ONE - input } else { gate(of_gates, gates::FORGET, peep(1, c)) };
        let candidate = gate(of_candidate, gates::CANDIDATE, F::default());
        let c = bounded(cell_clip, forget * c + input * candidate);
        let output = gate(of_gates, gates::OUTPUT, peep(2, c));
        cell[unit] = c;
        h_out[unit] = output * activate(of_output, c);
    }
}
