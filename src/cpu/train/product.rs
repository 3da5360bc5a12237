//! Packing of matrices whose numbers change every step, and their products.

use fearless_simd::prelude::*;

use crate::cpu::packed::{PanelLayout, Panels};
use crate::cpu::product::{InputRows, Kept};
use crate::cpu::simd::{Wide, lanes};
use crate::cpu::threads::{WORK_OF_NUMBER, share, worth};

/// Inputs of a block that are packed together, so that a cache keeps what is written.
const TILE: usize = 64;

/// Threads that are worth it to move so many numbers.
pub(super) fn movers(threads: usize, numbers: usize) -> usize {
    threads.min(worth(numbers.saturating_mul(WORK_OF_NUMBER)))
}

/// Packs a matrix `[outputs, inputs]` of the rows that `row` gives; a row of `None` is 0.
pub(super) fn pack_rows<'a, S: Wide>(
    panels: &mut Panels,
    threads: usize,
    [outputs, inputs]: [usize; 2],
    row: impl Fn(usize) -> Option<&'a [f32]> + Sync,
) {
    let layout = PanelLayout::plain(lanes::<S>(), outputs);
    let len = layout.block_len();
    let blocks = panels.resize(inputs, layout).chunks_exact_mut(inputs * len).enumerate();
    share(movers(threads, outputs * inputs), blocks, |(block, to)| {
        for (first, to) in (0..inputs).step_by(TILE).zip(to.chunks_mut(TILE * len)) {
            for lane in 0..len {
                let of_lane = to[lane..].iter_mut().step_by(len);
                match row(block * len + lane) {
                    Some(row) => of_lane.zip(&row[first..]).for_each(|(to, &x)| *to = x),
                    None => of_lane.for_each(|to| *to = 0.0),
                }
            }
        }
    });
}

/// Packs the transpose of a matrix `[inputs, outputs]` of the rows that `row` gives; a row of `None` is 0.
pub(super) fn pack_columns<'a, S: Wide>(
    panels: &mut Panels,
    threads: usize,
    [inputs, outputs]: [usize; 2],
    row: impl Fn(usize) -> Option<&'a [f32]> + Sync,
) {
    let layout = PanelLayout::plain(lanes::<S>(), outputs);
    let len = layout.block_len();
    let blocks = panels.resize(inputs, layout).chunks_exact_mut(inputs * len).enumerate();
    share(movers(threads, outputs * inputs), blocks, |(block, to)| {
        let first = block * len;
        for (input, to) in to.chunks_exact_mut(len).enumerate() {
            match row(input) {
                Some(row) => {
                    let used = &row[first.min(row.len())..row.len().min(first + len)];
                    to[..used.len()].copy_from_slice(used);
                    to[used.len()..].fill(0.0);
                }
                None => to.fill(0.0),
            }
        }
    });
}

/// What a product does with its place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreMode {
    Replace,
    Add,
}

/// Where a product goes: rows of `width` numbers, whole vectors, `stride` apart.
pub(super) struct ProductRows<'a> {
    pub to: &'a mut [f32],
    pub stride: usize,
    pub width: usize,
    pub store: StoreMode,
}

/// The products of rows with a packed matrix.
pub(super) fn product<S: Wide>(simd: S, panels: &Panels, x: (InputRows<'_>, usize), to: ProductRows<'_>) {
    match panels.vectors {
        1 => product_of::<S, 1>(simd, panels, x, to),
        2 => product_of::<S, 2>(simd, panels, x, to),
        _ => product_of::<S, 4>(simd, panels, x, to),
    }
}

fn product_of<S: Wide, const Q: usize>(simd: S, panels: &Panels, x: (InputRows<'_>, usize), to: ProductRows<'_>) {
    let ProductRows { to, stride, width, store } = to;
    simd.vectorize(
        #[inline(always)]
        || {
            panels.product::<S, Q>(
                simd,
                x,
                0..panels.blocks,
                false,
                // Products of f32 keep nothing.
                &mut Kept::default(),
                #[inline(always)]
                |block: usize, row: usize, sums: &[S::f32s; Q]| {
                    let first = block * Q * lanes::<S>();
                    let to = &mut to[row * stride + first..row * stride + width.min(first + Q * lanes::<S>())];
                    for (to, &sum) in to.chunks_exact_mut(lanes::<S>()).zip(sums) {
                        let sum = if store == StoreMode::Add { S::f32s::from_slice(simd, to) + sum } else { sum };
                        sum.store_slice(to);
                    }
                },
            );
        },
    );
}
