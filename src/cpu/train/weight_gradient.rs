//! The gradients of a matrix: products over all rows of a batch.

use std::ops::Range;

use super::product::{ProductRows, StoreMode, movers, product};
use super::rows::Rows;
use crate::cpu::packed::{PanelLayout, Panels};
use crate::cpu::product::InputRows;
use crate::cpu::simd::{Wide, lanes};
use crate::cpu::threads::share;

/// Rows whose products are added up before the next: a cache keeps them. Sums are those of chunks, in the order of the
/// rows, for any number of threads.
const CHUNK_ROWS: usize = 256;
/// Lines that are computed together at most: with all rows of a chunk they stay in a cache.
const MOST_LINES: usize = 768;
/// Rows that are transposed together: one cache line of each line.
const TILE: usize = 16;

/// What the gradients of the sums are multiplied by: the inputs of a matrix.
pub(super) struct GradientFactor<'a> {
    pub rows: Rows<'a>,
    /// The lines that have products with it.
    pub lines: Range<usize>,
}

/// Memory of one factor.
#[derive(Debug, Default)]
struct FactorMemory {
    /// The rows of each chunk, packed.
    chunks: Vec<Panels>,
    /// `[lines, width in whole vectors]`
    products: Vec<f32>,
    padded: usize,
}

/// The gradients of a matrix by lines, the rows of its tensor. They stay until the next are computed.
#[derive(Debug, Default)]
pub(super) struct WeightGradient {
    factors: [FactorMemory; 2],
    /// `[lines]`
    sums: Vec<f32>,
    /// Of each part of the lines: their gradients of a chunk, `[lines, rows]`, and their sums.
    scratch: Vec<Vec<f32>>,
}

impl WeightGradient {
    /// The products of a factor with a line.
    pub fn line(&self, factor: usize, line: usize) -> &[f32] {
        let FactorMemory { products, padded, .. } = &self.factors[factor];
        &products[line * padded..][..*padded]
    }

    /// The sum of a line: the gradient of a bias.
    pub fn sum(&self, line: usize) -> f32 {
        self.sums[line]
    }

    /// Computes them from the gradients of the sums, `rows` rows `[N, lines]`.
    pub fn compute<S: Wide>(
        &mut self,
        simd: S,
        threads: usize,
        rows: usize,
        d_sums: Rows<'_>,
        factors: &[Option<GradientFactor<'_>>; 2],
    ) {
        let lines = d_sums.width;
        for (memory, factor) in self.factors.iter_mut().zip(factors) {
            let Some(GradientFactor { rows: x, .. }) = factor else { continue };
            memory.padded = x.width.next_multiple_of(lanes::<S>());
            memory.products.resize(lines * memory.padded, 0.0);
            memory.chunks.resize_with(chunk_ranges(rows).count(), Panels::default);
        }
        let [first, second] = &mut self.factors;
        for (memory, factor) in [(&mut *first, &factors[0]), (&mut *second, &factors[1])] {
            let Some(GradientFactor { rows: x, .. }) = factor else { continue };
            share(
                movers(threads, rows * x.width),
                memory.chunks.iter_mut().zip(chunk_ranges(rows)),
                |(panels, range)| {
                    pack::<S>(panels, *x, range);
                },
            );
        }
        self.sums.resize(lines, 0.0);
        // Whole groups of rows that a kernel takes together, and whole tiles.
        let part = lines.div_ceil(threads).next_multiple_of(3 * TILE).min(MOST_LINES);
        let parts = lines.div_ceil(part);
        self.scratch.resize_with(parts.max(self.scratch.len()), Vec::new);
        let chunks = [&first.chunks[..], &second.chunks[..]];
        let padded = [first.padded, second.padded].map(|padded| padded.max(1));
        let mut products = [&mut first.products[..], &mut second.products[..]];
        let [first, second] = &mut products;
        let of_first = parts_of(first, part * padded[0], parts);
        let of_second = parts_of(second, part * padded[1], parts);
        let sums = self.sums.chunks_mut(part).zip(&mut self.scratch);
        let items = of_first.zip(of_second).zip(sums).enumerate();
        share(threads, items, |(index, ((of_first, of_second), (sums, scratch)))| {
            let own = index * part..index * part + sums.len();
            let to = [of_first, of_second];
            for (chunk, range) in chunk_ranges(rows).enumerate() {
                let count = range.len();
                scratch.resize(own.len() * (count + 1), 0.0);
                transpose(d_sums, range, own.clone(), scratch, (sums, chunk == 0));
                for (which, factor) in factors.iter().enumerate() {
                    let Some(GradientFactor { lines, .. }) = factor else { continue };
                    let lines = lines.start.max(own.start)..lines.end.min(own.end);
                    if lines.is_empty() {
                        continue;
                    }
                    let first = lines.start - own.start;
                    let x = InputRows::even(&scratch[first * count..], count);
                    let (stride, width) = (padded[which], padded[which]);
                    let store = if chunk == 0 { StoreMode::Replace } else { StoreMode::Add };
                    let to = ProductRows { to: &mut to[which][first * stride..], stride, width, store };
                    product(simd, &chunks[which][chunk], (x, lines.len()), to);
                }
            }
        });
    }
}

/// `count` parts of `len` numbers, empty ones where there are no more.
fn parts_of(numbers: &mut [f32], len: usize, count: usize) -> impl Iterator<Item = &mut [f32]> {
    numbers.chunks_mut(len).chain(std::iter::repeat_with(|| &mut [][..])).take(count)
}

fn chunk_ranges(rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..rows).step_by(CHUNK_ROWS).map(move |first| first..rows.min(first + CHUNK_ROWS))
}

/// Packs rows as the inputs of a product: those of `range` are its columns.
fn pack<S: Wide>(panels: &mut Panels, x: Rows<'_>, range: Range<usize>) {
    let layout = PanelLayout::plain(lanes::<S>(), x.width);
    let (len, first, count) = (layout.block_len(), range.start, range.len());
    let to = panels.resize(count, layout);
    x.for_each(range, |n, row| {
        for (block, from) in row.chunks(len).enumerate() {
            let to = &mut to[(block * count + n - first) * len..][..len];
            to[..from.len()].copy_from_slice(from);
            to[from.len()..].fill(0.0);
        }
    });
}

/// Some lines of the gradients of a chunk, `[lines, rows]`; `sums` becomes their sums, or they are added to it.
fn transpose(
    d_sums: Rows<'_>,
    range: Range<usize>,
    own: Range<usize>,
    to: &mut [f32],
    (sums, first): (&mut [f32], bool),
) {
    let (start, count) = (range.start, range.len());
    // The sums of the chunk are apart from those of the chunks before it.
    let (to, of_chunk) = to.split_at_mut(own.len() * count);
    of_chunk.fill(0.0);
    let mut rows = [&[][..]; TILE];
    d_sums.for_each(range, |n, row| {
        let row = &row[own.clone()];
        of_chunk.iter_mut().zip(row).for_each(|(sum, &d)| *sum += d);
        let at = n - start;
        rows[at % TILE] = row;
        let rows = &rows[..at % TILE + 1];
        if rows.len() == TILE || at + 1 == count {
            tile(rows, &mut to[at + 1 - rows.len()..], count);
        }
    });
    for (to, &sum) in sums.iter_mut().zip(&*of_chunk) {
        *to = if first { sum } else { *to + sum };
    }
}

/// Writes rows as columns of `to`, whose lines are `stride` apart.
#[inline(always)]
fn tile(rows: &[&[f32]], to: &mut [f32], stride: usize) {
    let Ok(rows) = <[&[f32]; TILE]>::try_from(rows) else {
        for (at, row) in rows.iter().enumerate() {
            row.iter().zip(to[at..].iter_mut().step_by(stride)).for_each(|(&d, to)| *to = d);
        }
        return;
    };
    for (line, to) in to.chunks_mut(stride).take(rows[0].len()).enumerate() {
        for (to, row) in to.iter_mut().zip(rows) {
            *to = row[line];
        }
    }
}
