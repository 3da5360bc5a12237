//! What a thread keeps of its rows of a level.

use std::ops::Range;

use crate::cpu::threads::{SHARED_ROWS, part};

/// Some rows of the batch: what their forward pass keeps for the backward pass, and both passes' own memory. Rows of the
/// share are counted from its first.
#[derive(Debug, Default)]
pub(super) struct ShareMemory {
    pub rows: Range<usize>,
    /// `[T, rows, blocks, H]` in the order of time: the functions' values; a GRU's fourth block is what its reset gate
    /// multiplies. The backward pass makes them the gradients of the sums.
    pub values: Vec<f32>,
    /// `[T + 1, rows, H]`: h before each step and after the last, in the order of the steps.
    pub h: Vec<f32>,
    /// The same of an LSTM's c, or empty.
    pub c: Vec<f32>,
    /// `[rows, blocks, H]`: the products of h of one step.
    pub sums: Vec<f32>,
    /// Gradients of h and c `[rows, H]`.
    pub d_h: Vec<f32>,
    pub d_c: Vec<f32>,
    /// Of a cell with a memory: `[T, rows, I + R*M in whole vectors]`, its input beside what was read before.
    pub z: Vec<f32>,
    /// `[T, rows, P in whole vectors]`: what it gives its heads; then the gradients of these.
    pub controls: Vec<f32>,
    /// T + 1, where the steps of `h` are to be counted.
    pub steps_and_one: usize,
    /// Gradient of the input `[T, rows, I in whole vectors]`.
    pub d_input: Vec<f32>,
}

/// Shares `batch` rows among up to `threads` threads.
pub(super) fn set_shares(shares: &mut Vec<ShareMemory>, batch: usize, threads: usize) {
    let groups = batch.div_ceil(SHARED_ROWS);
    let count = threads.min(groups).max(1);
    shares.resize_with(count, ShareMemory::default);
    for (thread, share) in shares.iter_mut().enumerate() {
        let groups = part(groups, count, thread);
        share.rows = groups.start * SHARED_ROWS..batch.min(groups.end * SHARED_ROWS);
    }
}
