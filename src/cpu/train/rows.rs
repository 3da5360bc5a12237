//! Rows of all timesteps, `[N, width]` with N = T·B, as threads leave them: each has some rows of the batch.

use std::ops::Range;

use super::share_memory::ShareMemory;

/// Where the numbers of the rows lie.
#[derive(Clone, Copy)]
pub(super) enum RowParts<'a> {
    /// `[N, width]`
    Whole(&'a [f32]),
    /// `[T, rows, width]` of every share. With a number of steps, the last timestep comes first.
    Shares(&'a [ShareMemory], fn(&ShareMemory) -> &[f32], Option<usize>),
}

#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub parts: RowParts<'a>,
    /// B
    pub batch: usize,
    /// Numbers from a row to the next, ...
    pub stride: usize,
    /// ... and those of them that count.
    pub width: usize,
}

impl<'a> Rows<'a> {
    /// Calls `each` with the position and the numbers of the rows of `range`, in the order of time and then of the batch,
    /// however the batch is shared.
    #[inline(always)]
    pub fn for_each(&self, range: Range<usize>, mut each: impl FnMut(usize, &'a [f32])) {
        let &Self { batch, stride, width, .. } = self;
        match self.parts {
            RowParts::Whole(numbers) => {
                for n in range {
                    each(n, &numbers[n * stride..][..width]);
                }
            }
            RowParts::Shares(shares, numbers, reversed) => {
                for time in range.start / batch..range.end.div_ceil(batch) {
                    let at = reversed.map_or(time, |steps| steps - 1 - time);
                    for share in shares {
                        let first = time * batch + share.rows.start;
                        let numbers = &numbers(share)[at * share.rows.len() * stride..][..share.rows.len() * stride];
                        for n in range.start.max(first)..range.end.min(first + share.rows.len()) {
                            each(n, &numbers[(n - first) * stride..][..width]);
                        }
                    }
                }
            }
        }
    }
}
