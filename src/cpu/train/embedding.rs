//! Embeddings while they are trained.

use super::product::movers;
use crate::base::bits;
use crate::cpu::threads::share;
use crate::network::{Network, Role, Stage};
use crate::reference::StageInput;

/// The rows of the tokens, `[T, B, E]`.
pub(super) fn forward(network: &Network, stage: &Stage, threads: usize, tokens: &[u32], output: &mut Vec<f32>) {
    let (table, width) = (network.param(stage, 0, Role::Weight), stage.out_features);
    output.resize(tokens.len() * width, 0.0);
    let threads = movers(threads, output.len());
    let part = tokens.len().div_ceil(threads).max(1);
    share(threads, tokens.chunks(part).zip(output.chunks_mut(part * width)), |(tokens, output)| {
        for (&token, to) in tokens.iter().zip(output.chunks_exact_mut(width)) {
            to.copy_from_slice(&table[token as usize * width..][..width]);
        }
    });
}

/// The gradient of the table: those of a token's rows are added up in the order of the tokens, whichever thread does it. Where
/// the mask is off, nothing is added.
pub(super) fn backward(threads: usize, width: usize, flow: &StageInput<'_, f32>, d_output: &[f32], to: &mut [f32]) {
    let threads = movers(threads, to.len() + d_output.len());
    let rows = (to.len() / width).div_ceil(threads).max(1);
    share(threads, to.chunks_mut(rows * width).enumerate(), |(index, to)| {
        let first = index * rows;
        to.fill(0.0);
        for (at, (&token, d)) in flow.tokens.iter().zip(d_output.chunks_exact(width)).enumerate() {
            let row = (token as usize).checked_sub(first).and_then(|row| to.get_mut(row * width..(row + 1) * width));
            let counts = flow.mask.is_none_or(|mask| mask[at] & bits::VALID != 0);
            if let (Some(row), true) = (row, counts) {
                row.iter_mut().zip(d).for_each(|(to, d)| *to += d);
            }
        }
    });
}
