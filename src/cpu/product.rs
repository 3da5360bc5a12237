//! Products of packed matrices with rows of numbers.

use std::ops::Range;

use fearless_simd::prelude::*;

use super::packed::{PackedNumbers, Panels};
use super::simd::{Wide, lanes};

/// Batch rows that a kernel takes together at most.
pub(super) const GROUP: usize = 6;

/// Rows `[rows, K]` somewhere in a larger array.
#[derive(Clone, Copy)]
pub(super) struct InputRows<'a> {
    pub data: &'a [f32],
    /// From a row to the next.
    pub stride: usize,
    /// Rows that follow each other so, ...
    pub group: usize,
    /// ... and from the first of them to the first of the next.
    pub group_stride: usize,
}

impl<'a> InputRows<'a> {
    /// Rows at one distance from each other.
    pub fn even(data: &'a [f32], stride: usize) -> Self {
        Self { data, stride, group: usize::MAX, group_stride: 0 }
    }

    #[inline(always)]
    fn row(&self, row: usize, len: usize) -> &'a [f32] {
        // Divisions cost as much as a few inputs' products.
        let at = if row < self.group {
            row * self.stride
        } else {
            row / self.group * self.group_stride + row % self.group * self.stride
        };
        &self.data[at..][..len]
    }
}

/// Rows as fixed-point numbers of 24 bits, in three planes of bytes; see [`PackedNumbers::Dots`].
///
/// A number x is `scale (b2 2^16 + b1 2^8 + b0 - 2^23)`, with a scale for each row: one part in
/// 2^24 of the row's largest number, as good as f32 in a sum.
#[derive(Debug, Default)]
struct Digits {
    /// `[rows, 3, K rounded up to fours]`
    planes: Vec<u8>,
    /// `[rows]`; NaN for a row that has a number which is not finite.
    scale: Vec<f32>,
    padded: usize,
}

/// Memory of one thread's products, kept between them.
#[derive(Debug, Default)]
pub(super) struct Kept {
    digits: Digits,
    /// A block of weights as f32, where that takes long and enough rows read it.
    panel: Vec<f32>,
}

/// From this many rows on, a block is converted to f32 once instead of for each [`GROUP`], if no instruction does it.
const ROWS_WORTH_DECODING: usize = 2 * GROUP;

const BIAS: f32 = 8_388_608.0; // 2^23
/// What the largest number of a row becomes: rounding must not lead from it to 2^23.
const TOP: f32 = BIAS - 4.0;

impl Digits {
    #[inline(always)]
    fn fill<S: Wide>(&mut self, simd: S, x: &InputRows<'_>, rows: usize, inputs: usize) {
        self.padded = inputs.next_multiple_of(4);
        self.planes.resize(rows * 3 * self.padded, 0);
        self.scale.resize(rows, 0.0);
        let planes = self.planes.chunks_exact_mut(3 * self.padded);
        for ((row, planes), scale) in planes.enumerate().zip(&mut self.scale) {
            simd.vectorize(
                #[inline(always)]
                || *scale = split(x.row(row, inputs), planes, self.padded),
            );
        }
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes of a number below 2^24")]
fn split(x: &[f32], planes: &mut [u8], padded: usize) -> f32 {
    // Zero times a number is not 0 where the number is not finite, which a maximum would pass over.
    let (mut largest, mut strange) = ([0.0f32; 16], [0.0f32; 16]);
    let mut chunks = x.chunks_exact(16);
    for chunk in &mut chunks {
        for ((largest, strange), x) in largest.iter_mut().zip(&mut strange).zip(chunk) {
            *largest = if x.abs() > *largest { x.abs() } else { *largest };
            *strange += x * 0.0;
        }
    }
    for x in chunks.remainder() {
        largest[0] = largest[0].max(x.abs());
        strange[0] += x * 0.0;
    }
    let largest = largest.iter().fold(0.0f32, |a, &b| a.max(b));
    if strange.iter().sum::<f32>() != 0.0 {
        return f32::NAN;
    }
    // Numbers so small that their inverse overflows are nothing next to a bias or a state.
    let inverse = if largest > 1e-30 { TOP / largest } else { 0.0 };
    let (low, rest) = planes.split_at_mut(padded);
    let (middle, high) = rest.split_at_mut(padded);
    for (((low, middle), high), x) in low.iter_mut().zip(middle).zip(high).zip(x) {
        let number = (x * inverse).round_ties_even() as i32 + BIAS as i32;
        *low = number as u8;
        *middle = (number >> 8) as u8;
        *high = (number >> 16) as u8;
    }
    largest / TOP
}

/// A type of stored weights.
trait StoredNumber: Copy {
    fn load<S: Wide>(simd: S, numbers: &[Self]) -> S::f32s;
}

impl StoredNumber for f32 {
    #[inline(always)]
    fn load<S: Wide>(simd: S, numbers: &[Self]) -> S::f32s {
        S::f32s::from_slice(simd, numbers)
    }
}

impl StoredNumber for u16 {
    #[inline(always)]
    fn load<S: Wide>(simd: S, numbers: &[Self]) -> S::f32s {
        simd.half(numbers)
    }
}

impl StoredNumber for i8 {
    #[inline(always)]
    fn load<S: Wide>(simd: S, numbers: &[Self]) -> S::f32s {
        simd.byte(numbers)
    }
}

#[inline(always)]
fn load_all<S: Wide, T: StoredNumber>(simd: S, from: &[T], to: &mut [f32]) {
    for (from, to) in from.chunks_exact(lanes::<S>()).zip(to.chunks_exact_mut(lanes::<S>())) {
        T::load(simd, from).store_slice(to);
    }
}

/// Sums of the Q vectors of a block and a row, for as many of them as a [`Tile`] has.
type Sums<V, const Q: usize> = [[V; Q]; GROUP];

/// What a kernel computes at once: up to [`GROUP`] rows with one block, or one row with one or two blocks.
struct Tile {
    row: usize,
    rows: usize,
    block: usize,
    blocks: usize,
}

impl Tile {
    #[inline(always)]
    fn len(&self) -> usize {
        self.rows * self.blocks
    }

    /// Block and row of one of its sums.
    #[inline(always)]
    fn place(&self, index: usize) -> [usize; 2] {
        if self.rows == 1 { [self.block + index, self.row] } else { [self.block, self.row + index] }
    }
}

impl Panels {
    /// `x W^T` of `rows` rows with some of the blocks, which are visited `backwards` or not (of
    /// weights that exceed a cache, the last read are still there). Passes on block, row and the Q
    /// vectors of sums.
    ///
    /// Sums are formed in the order of the inputs for every number of rows, so that a row's
    /// result does not depend on the other rows.
    #[inline(always)]
    pub fn product<S: Wide, const Q: usize>(
        &self,
        simd: S,
        (x, rows): (InputRows<'_>, usize),
        blocks: Range<usize>,
        backwards: bool,
        kept: &mut Kept,
        mut each: impl FnMut(usize, usize, &[S::f32s; Q]),
    ) {
        debug_assert_eq!(self.vectors, Q);
        let decoded = match &self.numbers {
            PackedNumbers::F32(_) => false,
            PackedNumbers::F16(_) | PackedNumbers::Int8(_) => !S::DECODES && rows >= ROWS_WORTH_DECODING,
            PackedNumbers::Dots(..) => {
                kept.digits.fill(simd, &x, rows, self.inputs);
                false
            }
        };
        let as_they_are = decoded || matches!(self.numbers, PackedNumbers::F32(_));
        // One row has too few sums at a time to hide how long an addition takes, and what is done with them.
        // Where weights are read as they are, memory is slower than that, and slower still with two places at once.
        let in_pairs = rows == 1 && !as_they_are;
        let mut sums = [[S::f32s::splat(simd, 0.0); Q]; GROUP];
        let mut done = 0;
        while done < blocks.len() {
            let wide = if in_pairs { 2.min(blocks.len() - done) } else { 1 };
            let block = if backwards { blocks.end - done - wide } else { blocks.start + done };
            done += wide;
            if decoded {
                self.decode(simd, block, &mut kept.panel);
            }
            let mut row = 0;
            while row < rows {
                let high = height::<S, Q>(rows - row, as_they_are);
                let tile = Tile { row, rows: high, block, blocks: wide };
                self.tile::<S, Q>(simd, &x, &tile, decoded, kept, &mut sums);
                for (next, sums) in sums[..tile.len()].iter().enumerate() {
                    let [block, row] = tile.place(next);
                    each(block, row, sums);
                }
                row += high;
            }
        }
    }

    /// A block's stored numbers as f32.
    #[inline(never)]
    fn decode<S: Wide>(&self, simd: S, block: usize, panel: &mut Vec<f32>) {
        let len = self.inputs * self.vectors * lanes::<S>();
        panel.resize(len, 0.0);
        let at = block * len..(block + 1) * len;
        simd.vectorize(
            #[inline(always)]
            || match &self.numbers {
                PackedNumbers::F16(numbers) => load_all(simd, &numbers.as_slice()[at], panel),
                PackedNumbers::Int8(numbers) => load_all(simd, &numbers.as_slice()[at], panel),
                PackedNumbers::F32(_) | PackedNumbers::Dots(..) => {}
            },
        );
    }

    /// The sums of a tile.
    // A function of its own, so that the kernels are not compiled into every caller.
    #[inline(never)]
    fn tile<S: Wide, const Q: usize>(
        &self,
        simd: S,
        x: &InputRows<'_>,
        tile: &Tile,
        decoded: bool,
        kept: &Kept,
        sums: &mut Sums<S::f32s, Q>,
    ) {
        simd.vectorize(
            #[inline(always)]
            || match &self.numbers {
                _ if decoded => self.sums::<S, f32, Q>(simd, &kept.panel, x, &Tile { block: 0, ..*tile }, sums),
                PackedNumbers::F32(w) => self.sums::<S, f32, Q>(simd, w.as_slice(), x, tile, sums),
                PackedNumbers::F16(w) => self.sums::<S, u16, Q>(simd, w.as_slice(), x, tile, sums),
                PackedNumbers::Int8(w) => self.sums::<S, i8, Q>(simd, w.as_slice(), x, tile, sums),
                PackedNumbers::Dots(w, totals) => {
                    for (next, sums) in sums[..tile.len()].iter_mut().enumerate() {
                        self.dots::<S, Q>(simd, w.as_slice(), totals, &kept.digits, tile.place(next), sums);
                    }
                }
            },
        );
        if let PackedNumbers::Int8(_) = self.numbers {
            simd.vectorize(
                #[inline(always)]
                || {
                    for (next, sums) in sums[..tile.len()].iter_mut().enumerate() {
                        let [block, _] = tile.place(next);
                        for (sum, scale) in sums.iter_mut().zip(self.scales::<S, Q>(simd, block)) {
                            *sum *= scale;
                        }
                    }
                },
            );
        }
    }

    #[inline(always)]
    fn scales<S: Wide, const Q: usize>(&self, simd: S, block: usize) -> [S::f32s; Q] {
        let scales = &self.scale[block * Q * lanes::<S>()..][..Q * lanes::<S>()];
        let mut vectors = [S::f32s::splat(simd, 0.0); Q];
        for (vector, scales) in vectors.iter_mut().zip(scales.chunks_exact(lanes::<S>())) {
            *vector = S::f32s::from_slice(simd, scales);
        }
        vectors
    }

    #[inline(always)]
    fn sums<S: Wide, T: StoredNumber, const Q: usize>(
        &self,
        simd: S,
        weights: &[T],
        x: &InputRows<'_>,
        tile: &Tile,
        sums: &mut Sums<S::f32s, Q>,
    ) {
        let len = self.inputs * Q * lanes::<S>();
        let panels = &weights[tile.block * len..][..tile.blocks * len];
        match (tile.rows, tile.blocks) {
            // Those that an instruction set does not take are not compiled for it.
            (6, _) if S::ROWS == 6 => of_rows::<S, T, Q, 6>(simd, panels, self.inputs, x, tile.row, sums),
            (4, _) if S::ROWS >= 4 => of_rows::<S, T, Q, 4>(simd, panels, self.inputs, x, tile.row, sums),
            (3, _) if S::ROWS == 3 => of_rows::<S, T, Q, 3>(simd, panels, self.inputs, x, tile.row, sums),
            (2, _) => of_rows::<S, T, Q, 2>(simd, panels, self.inputs, x, tile.row, sums),
            (_, 2) => of_blocks::<S, T, Q, 2>(simd, panels, x.row(tile.row, self.inputs), sums),
            _ => of_blocks::<S, T, Q, 1>(simd, panels, x.row(tile.row, self.inputs), sums),
        }
    }

    /// One row with one block of 8-bit integers, by [`Wide::dot`]. The sums of integers are exact.
    #[inline(always)]
    fn dots<S: Wide, const Q: usize>(
        &self,
        simd: S,
        weights: &[i8],
        totals: &[i32],
        digits: &Digits,
        [block, row]: [usize; 2],
        sums: &mut [S::f32s; Q],
    ) {
        let lanes = lanes::<S>();
        let padded = digits.padded;
        let panel = &weights[block * padded * Q * lanes..][..padded * Q * lanes];
        let planes = &digits.planes[row * 3 * padded..][..3 * padded];
        let (low, rest) = planes.split_at(padded);
        let (middle, high) = rest.split_at(padded);
        let mut exact = [[S::i32s::splat(simd, 0); Q]; 3];
        let (low, middle, high) = (low.as_chunks::<4>().0, middle.as_chunks::<4>().0, high.as_chunks::<4>().0);
        for (((weights, low), middle), high) in panel.chunks_exact(4 * Q * lanes).zip(low).zip(middle).zip(high) {
            for (q, weights) in weights.chunks_exact(4 * lanes).enumerate() {
                exact[0][q] = simd.dot(exact[0][q], *low, weights);
                exact[1][q] = simd.dot(exact[1][q], *middle, weights);
                exact[2][q] = simd.dot(exact[2][q], *high, weights);
            }
        }
        let scales = self.scales::<S, Q>(simd, block);
        let totals = totals[block * Q * lanes..][..Q * lanes].chunks_exact(lanes);
        for (q, total) in totals.enumerate() {
            // The bias 2^23 is 128 in the highest digit.
            let high = exact[2][q] - S::i32s::from_slice(simd, total) * 128;
            let [low, middle, high]: [S::f32s; 3] = [exact[0][q].to_float(), exact[1][q].to_float(), high.to_float()];
            let sum = high.mul_add(S::f32s::splat(simd, 65_536.0), middle.mul_add(S::f32s::splat(simd, 256.0), low));
            sums[q] = sum * (scales[q] * digits.scale[row]);
        }
    }
}

/// How many rows to take together when so many are left; `as_they_are` says whether the weights need no conversion.
#[inline(always)]
fn height<S: Wide, const Q: usize>(rows: usize, as_they_are: bool) -> usize {
    match rows {
        // Two fours are faster than six and two, and two twos than three and one.
        6.. if S::ROWS == 6 && rows != 8 => 6,
        4.. if S::ROWS >= 4 => 4,
        // With four vectors, all of AVX2's registers: a conversion finds none.
        3.. if S::ROWS == 3 && rows != 4 && (as_they_are || Q < 4) => 3,
        2.. => 2,
        _ => 1,
    }
}

/// R rows with one block.
#[inline(always)]
fn of_rows<S: Wide, T: StoredNumber, const Q: usize, const R: usize>(
    simd: S,
    panel: &[T],
    inputs: usize,
    x: &InputRows<'_>,
    row: usize,
    sums: &mut Sums<S::f32s, Q>,
) {
    let lanes = lanes::<S>();
    let mut rows = [&x.data[..0]; R];
    for (next, slice) in rows.iter_mut().enumerate() {
        *slice = x.row(row + next, inputs);
    }
    let mut acc = [[S::f32s::splat(simd, 0.0); Q]; R];
    for (k, weights) in panel.chunks_exact(Q * lanes).enumerate() {
        // This order needs the fewest registers.
        let mut x = [S::f32s::splat(simd, 0.0); R];
        for r in 0..R {
            x[r] = S::f32s::splat(simd, rows[r][k]);
        }
        for q in 0..Q {
            let weights = T::load(simd, &weights[q * lanes..][..lanes]);
            for r in 0..R {
                acc[r][q] = x[r].mul_add(weights, acc[r][q]);
            }
        }
    }
    sums[..R].copy_from_slice(&acc);
}

/// One row with N blocks that follow each other.
#[inline(always)]
fn of_blocks<S: Wide, T: StoredNumber, const Q: usize, const N: usize>(
    simd: S,
    panels: &[T],
    x: &[f32],
    sums: &mut Sums<S::f32s, Q>,
) {
    let lanes = lanes::<S>();
    let mut blocks = [panels; N];
    for (panel, block) in panels.chunks_exact(panels.len() / N).zip(&mut blocks) {
        *block = panel;
    }
    let mut acc = [[S::f32s::splat(simd, 0.0); Q]; N];
    for (k, &x) in x.iter().enumerate() {
        let x = S::f32s::splat(simd, x);
        for n in 0..N {
            let weights = &blocks[n][k * Q * lanes..][..Q * lanes];
            for q in 0..Q {
                acc[n][q] = x.mul_add(T::load(simd, &weights[q * lanes..][..lanes]), acc[n][q]);
            }
        }
    }
    sums[..N].copy_from_slice(&acc);
}
