//! Weights in the order in which the kernels read them.
//!
//! A matrix `[N, K]` is cut into blocks of Q vectors of outputs, the Q gates of a vector of units or
//! Q vectors of a plain layer's outputs. A block is read from its first number to its last:
//! `[blocks, K, Q, lanes]`, with inputs in groups of four for [`PackedNumbers::Dots`],
//! `[blocks, K/4, Q, lanes, 4]`.

use std::fmt::{self, Debug, Formatter};

use half::f16;

use crate::network::{WeightFormat, quantize_row};

/// Bytes of a cache line, on which every block begins.
const LINE: usize = 64;

/// Inputs of which 32 bits hold any sum of products of bytes: 255 * 127 * 2^16 < 2^31.
const MOST_DOTS: usize = 1 << 16;

/// Numbers whose first lies on a cache line.
#[derive(Default)]
pub(super) struct Aligned<T> {
    numbers: Vec<T>,
    start: usize,
}

impl<T> Debug for Aligned<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} numbers", self.numbers.len() - self.start)
    }
}

impl<T: Copy + Default> Aligned<T> {
    fn zeros(len: usize) -> Self {
        Self::within(vec![T::default(); len + LINE / size_of::<T>()])
    }

    /// In memory that is a cache line larger than the numbers need.
    fn within(numbers: Vec<T>) -> Self {
        // If the memory cannot be aligned, the numbers start at its beginning.
        let start = numbers.as_ptr().align_offset(LINE).min(LINE / size_of::<T>());
        Self { numbers, start }
    }

    /// `len` of any numbers.
    fn resize(&mut self, len: usize) -> &mut [T] {
        let mut numbers = std::mem::take(&mut self.numbers);
        numbers.resize(len + LINE / size_of::<T>(), T::default());
        *self = Self::within(numbers);
        &mut self.as_mut_slice()[..len]
    }

    pub fn as_slice(&self) -> &[T] {
        &self.numbers[self.start..]
    }

    fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.numbers[self.start..]
    }
}

/// The numbers of a matrix as they are stored.
#[derive(Debug)]
pub(super) enum PackedNumbers {
    F32(Aligned<f32>),
    /// Bits of f16.
    F16(Aligned<u16>),
    /// Integers, to be multiplied by their row's scale.
    Int8(Aligned<i8>),
    /// The same in groups of four inputs, and the sum of every output's integers
    /// `[blocks, Q, lanes]`.
    Dots(Aligned<i8>, Vec<i32>),
}

/// A packed matrix.
#[derive(Debug)]
pub(super) struct Panels {
    pub numbers: PackedNumbers,
    /// K
    pub inputs: usize,
    pub blocks: usize,
    /// Q
    pub vectors: usize,
    /// `[blocks, Q, lanes]`, of 8-bit integers; else empty.
    pub scale: Vec<f32>,
}

/// How the outputs of a matrix are arranged in blocks.
#[derive(Clone, Copy)]
pub(super) struct PanelLayout {
    pub lanes: usize,
    /// Q
    pub vectors: usize,
    pub blocks: usize,
    /// Units of a gate if the Q vectors are gates; else they follow each other.
    gate: Option<usize>,
    /// The first row that belongs to it.
    first_row: usize,
    /// N of a plain matrix.
    outputs: usize,
}

impl PanelLayout {
    /// Gates `first..first+vectors` of `hidden` units each.
    pub fn gates(lanes: usize, first: usize, vectors: usize, hidden: usize) -> Self {
        let blocks = hidden.div_ceil(lanes);
        Self { lanes, vectors, blocks, gate: Some(hidden), first_row: first * hidden, outputs: hidden }
    }

    /// A plain matrix of `outputs` rows, in blocks of up to four vectors.
    pub fn plain(lanes: usize, outputs: usize) -> Self {
        let vectors = match outputs.div_ceil(lanes) {
            1 => 1,
            2 => 2,
            _ => 4,
        };
        let blocks = outputs.div_ceil(lanes * vectors);
        Self { lanes, vectors, blocks, gate: None, first_row: 0, outputs }
    }

    /// Numbers of a block of outputs.
    pub fn block_len(self) -> usize {
        self.vectors * self.lanes
    }

    /// The matrix's row at a place of `[blocks, Q, lanes]`.
    fn row(self, place: usize) -> Option<usize> {
        let (lane, vector) = (place % self.lanes, place / self.lanes % self.vectors);
        let block = place / self.block_len();
        let unit = if self.gate.is_some() { block * self.lanes + lane } else { place };
        let row = self.first_row + self.gate.map_or(0, |hidden| vector * hidden) + unit;
        (unit < self.outputs).then_some(row)
    }

    /// A number for every output, as `[blocks, Q, lanes]`; 0 where there is no output.
    pub fn spread<T: Copy + Default>(self, of_row: impl Fn(usize) -> T) -> Vec<T> {
        (0..self.blocks * self.block_len()).map(|place| self.row(place).map_or(T::default(), &of_row)).collect()
    }
}

impl Default for Panels {
    /// Without numbers.
    fn default() -> Self {
        let numbers = PackedNumbers::F32(Aligned::default());
        Self { numbers, inputs: 0, blocks: 0, vectors: 1, scale: Vec::new() }
    }
}

impl Panels {
    /// Becomes a matrix in f32 with `inputs` columns and any numbers: those are written to the slice,
    /// `[blocks, inputs, Q, lanes]`. Memory is allocated only for a larger matrix.
    pub fn resize(&mut self, inputs: usize, layout: PanelLayout) -> &mut [f32] {
        let len = layout.blocks * inputs * layout.block_len();
        if !matches!(self.numbers, PackedNumbers::F32(_)) {
            self.numbers = PackedNumbers::F32(Aligned::default());
        }
        (self.inputs, self.blocks, self.vectors) = (inputs, layout.blocks, layout.vectors);
        match &mut self.numbers {
            PackedNumbers::F32(numbers) => numbers.resize(len),
            _ => &mut [],
        }
    }

    /// Packs a matrix `[N, inputs]`; `dots` if the CPU multiplies 8-bit integers.
    pub fn new(matrix: &[f32], format: WeightFormat, inputs: usize, layout: PanelLayout, dots: bool) -> Self {
        let mut scale = Vec::new();
        let row_of = |place| layout.row(place).map(|row| &matrix[row * inputs..][..inputs]);
        let numbers = match format {
            WeightFormat::F32 => PackedNumbers::F32(place(layout, inputs, row_of, |row| row.to_vec())),
            WeightFormat::F16 => PackedNumbers::F16(place(layout, inputs, row_of, |row| {
                row.iter().map(|&x| f16::from_f32(x).to_bits()).collect()
            })),
            WeightFormat::Int8 => {
                scale = layout.spread(|row| quantize_row(&matrix[row * inputs..][..inputs]).0);
                let integers = |row: &[f32]| quantize_row(row).1;
                if dots && inputs <= MOST_DOTS {
                    let sums = layout.spread(|row| {
                        integers(&matrix[row * inputs..][..inputs]).into_iter().map(i32::from).sum::<i32>()
                    });
                    PackedNumbers::Dots(place_in_fours(layout, inputs, row_of, integers), sums)
                } else {
                    PackedNumbers::Int8(place(layout, inputs, row_of, integers))
                }
            }
        };
        Self { numbers, inputs, blocks: layout.blocks, vectors: layout.vectors, scale }
    }
}

/// `[blocks, K, Q, lanes]`
fn place<'a, T: Copy + Default>(
    layout: PanelLayout,
    inputs: usize,
    row_of: impl Fn(usize) -> Option<&'a [f32]>,
    stored: impl Fn(&[f32]) -> Vec<T>,
) -> Aligned<T> {
    let len = layout.block_len();
    let mut numbers = Aligned::zeros(layout.blocks * inputs * len);
    let to = numbers.as_mut_slice();
    for place in 0..layout.blocks * len {
        for (k, number) in row_of(place).map(&stored).into_iter().flatten().enumerate() {
            to[(place / len * inputs + k) * len + place % len] = number;
        }
    }
    numbers
}

/// `[blocks, K/4, Q, lanes, 4]`
fn place_in_fours<'a>(
    layout: PanelLayout,
    inputs: usize,
    row_of: impl Fn(usize) -> Option<&'a [f32]>,
    stored: impl Fn(&[f32]) -> Vec<i8>,
) -> Aligned<i8> {
    let (len, groups) = (layout.block_len(), inputs.div_ceil(4));
    let mut numbers = Aligned::zeros(layout.blocks * groups * len * 4);
    let to = numbers.as_mut_slice();
    for place in 0..layout.blocks * len {
        for (k, number) in row_of(place).map(&stored).into_iter().flatten().enumerate() {
            to[((place / len * groups + k / 4) * len + place % len) * 4 + k % 4] = number;
        }
    }
    numbers
}
