//! Sizes of a cell with a memory, with rows of the memory in whole vectors.

use crate::cpu::simd::{Wide, lanes};
use crate::network::NtmStage;

/// The memory is `[M, N]` here, N in whole vectors: N is what vectors run along.
#[derive(Clone, Copy)]
pub(super) struct NtmSizes<'a> {
    pub stage: &'a NtmStage,
    /// I
    pub inputs: usize,
    /// H
    pub hidden: usize,
    /// H in whole vectors.
    pub padded_hidden: usize,
    /// I + R*M
    pub z: usize,
    /// N
    pub rows: usize,
    /// N in whole vectors.
    pub padded_rows: usize,
    /// M
    pub columns: usize,
    /// P in whole vectors.
    pub padded_controls: usize,
    /// Numbers in front of and behind the rows that shifts read.
    pub margin: usize,
}

impl<'a> NtmSizes<'a> {
    pub fn new<S: Wide>(stage: &'a NtmStage, inputs: usize) -> Self {
        let whole = |size: usize| size.next_multiple_of(lanes::<S>());
        Self {
            stage,
            inputs,
            hidden: stage.hidden_size(),
            padded_hidden: whole(stage.hidden_size()),
            z: inputs + stage.read_size(),
            rows: stage.rows,
            padded_rows: whole(stage.rows),
            columns: stage.columns,
            padded_controls: whole(stage.control_size()),
            margin: whole(stage.shifts),
        }
    }

    /// K
    pub fn heads(&self) -> usize {
        self.stage.heads()
    }

    /// Numbers of a memory.
    pub fn memory(&self) -> usize {
        self.columns * self.padded_rows
    }

    /// Numbers of the weights of all heads.
    pub fn weights(&self) -> usize {
        self.heads() * self.padded_rows
    }

    /// Gated weights with their margins.
    pub fn wide_rows(&self) -> usize {
        self.padded_rows + 2 * self.margin
    }

    /// Numbers that a head's addressing leaves for its gradients: cosines, content and logarithms `[N]`, gated weights.
    pub fn record(&self) -> usize {
        3 * self.padded_rows + self.wide_rows()
    }

    /// Where the controls of a write head begin: erase `[M]`, then add `[M]`.
    pub fn write_controls(&self, write: usize) -> usize {
        self.heads() * self.stage.address_size() + 2 * write * self.columns
    }

    /// The same of a head's addressing.
    pub fn address_controls(&self, head: usize) -> usize {
        head * self.stage.address_size()
    }
}
