//! Products and sums of a backward pass.

use std::ops::Range;

use super::{Builder, flat_grid, grid};
use crate::base::error::{Error, Result};
use crate::plan::kernel::{BLOCK_SIDE, BLOCK_WORKGROUP};
use crate::plan::tactic::narrow;
use crate::plan::{
    Constants, Dispatch, Kernel, LINEAR_DEPTH, LINEAR_TILE, MAX_SUBMISSION_WORK, ROW_WORKGROUP, Slice, TrainKernel,
};

/// Bits of the flags of `shaders/training/matmul.wgsl`.
const ACCUMULATE: u32 = 1;
const BIASED: u32 = 2;
const A_TURNED: u32 = 4;
const B_TURNED: u32 = 8;

/// The flags, for comparison with the shader.
#[cfg(test)]
pub fn matmul_flags() -> [u32; 4] {
    [ACCUMULATE, BIASED, A_TURNED, B_TURNED]
}

/// Workgroups that keep an adapter busy; a product of fewer tiles is cut along K.
const ENOUGH: usize = 512;
const ENOUGH_IN_SOFTWARE: usize = 8;
/// Fewest rows of a slice of K.
const LEAST_SLICE: usize = 128;
/// Most rows of a slice of K. Parts of a sum that begin at multiples of it have the slices of the whole sum.
pub(super) const SUM_BLOCK: usize = 1024;
/// Rows of a slice of a sum of columns.
const COLUMN_SLICE: usize = 256;

/// A matrix in a buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operand {
    pub slice: Slice,
    /// Where it begins in the slice.
    pub first: usize,
    /// Numbers from one row to the next.
    pub stride: usize,
    /// Whether it lies transposed.
    pub turned: bool,
}

impl Operand {
    pub fn new(slice: Slice, stride: usize) -> Self {
        Self { slice, first: 0, stride, turned: false }
    }

    pub fn from(self, first: usize) -> Self {
        Self { first: self.first + first, ..self }
    }

    /// From a row and a column on.
    fn at(self, row: usize, column: usize) -> Self {
        let [row, column] = if self.turned { [column, row] } else { [row, column] };
        self.from(row * self.stride + column)
    }

    pub fn turned(self) -> Self {
        Self { turned: !self.turned, ..self }
    }
}

/// What is done with a product beside writing it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Also {
    /// Whether it is added to what is there.
    pub accumulate: bool,
    /// A vector that is added to every row, and where it begins.
    pub bias: Option<(Slice, usize)>,
}

/// How a sum over many rows is added up.
#[derive(Clone, Copy, Debug)]
pub(super) struct SumOrder {
    /// Rows of the whole sum.
    pub total: usize,
    /// Whether it is added to what the output holds.
    pub accumulate: bool,
    /// Whether the last rows come first.
    pub descending: bool,
}

impl SumOrder {
    /// A sum of `total` rows that is taken at once.
    pub fn whole(total: usize) -> Self {
        Self { total, accumulate: false, descending: false }
    }

    /// `slices` in groups of at most `at_once`, in the order in which they are added.
    fn groups(self, slices: usize, at_once: usize) -> Vec<Range<usize>> {
        let mut groups: Vec<Range<usize>> =
            (0..slices).step_by(at_once).map(|first| first..(first + at_once).min(slices)).collect();
        if self.descending {
            groups.reverse();
        }
        groups
    }
}

/// How a product is cut up.
struct ProductTile {
    kernel: TrainKernel,
    /// Rows, and columns, of a tile: of a workgroup, in software of an invocation.
    side: usize,
    /// K of a slice in workgroup memory.
    depth: u64,
    /// Loop iterations of an invocation in such a slice.
    per_slice: u64,
    /// Loop iterations in which it writes its results.
    results: u64,
}

impl ProductTile {
    /// Workgroups of a product `[m, n]` that is not cut along K.
    fn workgroups(&self, m: usize, n: usize) -> usize {
        let tiles = m.div_ceil(self.side).saturating_mul(n.div_ceil(self.side));
        let of_workgroup = if self.kernel == TrainKernel::MatmulBlock { BLOCK_WORKGROUP as usize } else { 1 };
        tiles.div_ceil(of_workgroup)
    }
}

impl Builder {
    /// `c [m, n] = a [m, k] b [k, n]`.
    pub(super) fn matmul(
        &mut self,
        stage: usize,
        [m, n, k]: [usize; 3],
        [a, b, c]: [Operand; 3],
        also: Also,
    ) -> Result<()> {
        self.sliced(stage, [m, n, k], [a, b, c], also, k.max(1))
    }

    /// The same with K cut into slices of `slice`, which are written one behind the other. No dispatch runs long: each takes
    /// as many rows, or as many slices, as a submission may.
    fn sliced(
        &mut self,
        stage: usize,
        [m, n, k]: [usize; 3],
        [a, b, c]: [Operand; 3],
        also: Also,
        slice: usize,
    ) -> Result<()> {
        let slices = k.div_ceil(slice).max(1);
        let tile_rows = self.tile().side;
        let fitting = |work: usize| usize::try_from(MAX_SUBMISSION_WORK / (work as u64).max(1)).unwrap_or(usize::MAX);
        let (rows_at_once, slices_at_once) = match slices {
            1 => ((fitting(n.saturating_mul(k)) / tile_rows).max(1).saturating_mul(tile_rows), 1),
            _ => (m, fitting(m.saturating_mul(n).saturating_mul(slice)).max(1)),
        };
        for first_slice in (0..slices).step_by(slices_at_once) {
            let first = first_slice * slice;
            let depth = slices_at_once.saturating_mul(slice).min(k - first);
            for row in (0..m).step_by(rows_at_once.max(1)) {
                let rows = rows_at_once.min(m - row);
                let parts = [a.at(row, first), b.at(first, 0), c.at(first_slice * m + row, 0)];
                self.matmul_part(stage, [rows, n, depth], parts, also, slice)?;
            }
        }
        Ok(())
    }

    /// One dispatch of a product.
    fn matmul_part(
        &mut self,
        stage: usize,
        [m, n, k]: [usize; 3],
        [a, b, c]: [Operand; 3],
        also: Also,
        slice: usize,
    ) -> Result<()> {
        let number = |number: usize| self.number(number, "sizes of a product");
        let flag = |on: bool, bit: u32| if on { bit } else { 0 };
        let (bias, bias_first) = also.bias.unwrap_or((a.slice, 0));
        let sizes = vec![
            ("m", number(m)?),
            ("n", number(n)?),
            ("k", number(k)?),
            ("a_first", number(a.first)?),
            ("a_stride", number(a.stride)?),
            ("b_first", number(b.first)?),
            ("b_stride", number(b.stride)?),
            ("c_first", number(c.first)?),
            ("c_stride", number(c.stride)?),
            ("bias_first", number(bias_first)?),
            ("slice", number(slice)?),
            (
                "flags",
                flag(also.accumulate, ACCUMULATE)
                    | flag(also.bias.is_some(), BIASED)
                    | flag(a.turned, A_TURNED)
                    | flag(b.turned, B_TURNED),
            ),
        ];
        let shape = self.tile();
        let tiles = "tiles of a product";
        let [across, down] = if shape.kernel == TrainKernel::MatmulBlock {
            let [_, x, y] = grid(&self.limits, 1, shape.workgroups(m, n) as u64, tiles)?;
            [x, y]
        } else {
            [self.groups(n.div_ceil(shape.side), tiles)?, self.groups(m.div_ceil(shape.side), tiles)?]
        };
        let workgroups = [across, down, self.groups(k.div_ceil(slice).max(1), "slices of a product")?];
        self.add(Dispatch {
            stage,
            sizes,
            bindings: vec![a.slice, b.slice, bias, c.slice],
            workgroups,
            iterations: (slice as u64).div_ceil(shape.depth) * shape.per_slice + shape.results,
            work: m as u64 * n as u64 * k as u64,
            ..Dispatch::empty(Kernel::Train(shape.kernel))
        })
    }

    /// How a product is cut up.
    fn tile(&self) -> ProductTile {
        if self.limits.software {
            let side = BLOCK_SIDE as usize;
            let results = (side * side) as u64;
            return ProductTile { kernel: TrainKernel::MatmulBlock, side, depth: 1, per_slice: 1, results };
        }
        let depth = u64::from(LINEAR_DEPTH);
        // Two loads of four numbers, and the depth.
        let per_slice = 1 + 2 * (1 + 4) + depth;
        let side = LINEAR_TILE as usize;
        ProductTile { kernel: TrainKernel::Matmul, side, depth, per_slice, results: 16 }
    }

    /// The gradient of a matrix `[m, n]`, `c = a b`, with K cut into slices.
    pub(super) fn weights_product(
        &mut self,
        stage: usize,
        [m, n, k]: [usize; 3],
        operands: [Operand; 3],
        accumulate: bool,
    ) -> Result<()> {
        self.weights_part(stage, [m, n, k], operands, SumOrder { accumulate, ..SumOrder::whole(k) })
    }

    /// A part of the sum of such a gradient. The slices, and the order in which they are added, depend on the whole sum alone.
    pub(super) fn weights_part(
        &mut self,
        stage: usize,
        [m, n, k]: [usize; 3],
        [a, b, c]: [Operand; 3],
        order: SumOrder,
    ) -> Result<()> {
        let tiles = self.tile().workgroups(m, n).max(1);
        let enough = if self.limits.software { ENOUGH_IN_SOFTWARE } else { ENOUGH };
        // Where there are few tiles, several slices at once keep an adapter busy.
        let at_once = enough.div_ceil(tiles).clamp(1, order.total.div_ceil(LEAST_SLICE).max(1));
        let slice = order.total.div_ceil(at_once).next_power_of_two().clamp(LEAST_SLICE, SUM_BLOCK);
        let mut accumulate = order.accumulate;
        for slices in order.groups(k.div_ceil(slice), at_once) {
            let first = slices.start * slice;
            let depth = (slices.end * slice).min(k) - first;
            let (a, b) = (a.at(0, first), b.at(first, 0));
            if at_once == 1 {
                self.matmul(stage, [m, n, depth], [a, b, c], Also { accumulate, bias: None })?;
            } else {
                let partial = self.scratch("partial sums", at_once, m, n)?;
                let parts = [a, b, Operand::new(partial, n)];
                self.sliced(stage, [m, n, depth], parts, Also::default(), slice)?;
                // A gradient of several columns lies in one piece.
                let order = SumOrder { accumulate, ..order };
                self.add_slices(stage, [m * n, slices.len()], partial, (c.slice, c.first), order)?;
            }
            accumulate = true;
        }
        Ok(())
    }

    /// Adds slices to each other, in the order of the sum that they are a part of.
    pub(super) fn add_slices(
        &mut self,
        stage: usize,
        [count, slices]: [usize; 2],
        x: Slice,
        (output, first): (Slice, usize),
        order: SumOrder,
    ) -> Result<()> {
        let number = |number: usize| self.number(number, "numbers of a sum");
        let sizes = vec![
            ("count", number(count)?),
            ("slices", number(slices)?),
            ("output_first", number(first)?),
            ("accumulate", order.accumulate.into()),
            ("descending", order.descending.into()),
        ];
        let workgroups = flat_grid(&self.limits, count as u64, "sum of slices")?;
        self.add(Dispatch {
            stage,
            sizes,
            constants: Constants::default().with("WORKGROUP", ROW_WORKGROUP),
            bindings: vec![x, output],
            workgroups,
            iterations: slices as u64,
            work: count as u64 * slices as u64,
            ..Dispatch::empty(Kernel::Train(TrainKernel::AddSlices))
        })
    }

    /// The sums of the columns of `x` `[rows, columns]`, or of its product with `y`, into each of `outputs`.
    pub(super) fn column_sums(
        &mut self,
        stage: usize,
        [rows, columns]: [usize; 2],
        x: Operand,
        y: Option<Operand>,
        outputs: &[(Slice, usize)],
    ) -> Result<()> {
        self.column_sums_part(stage, [rows, columns], (x, y), outputs, SumOrder::whole(rows))
    }

    /// A part of such sums.
    pub(super) fn column_sums_part(
        &mut self,
        stage: usize,
        [rows, columns]: [usize; 2],
        (x, y): (Operand, Option<Operand>),
        outputs: &[(Slice, usize)],
        order: SumOrder,
    ) -> Result<()> {
        if outputs.is_empty() {
            return Ok(());
        }
        let slices = rows.div_ceil(COLUMN_SLICE);
        let partial = self.scratch("partial sums", slices, 1, columns)?;
        let number = |number: usize| self.number(number, "numbers of a sum");
        let second = y.unwrap_or(x);
        let sizes = vec![
            ("rows", number(rows)?),
            ("columns", number(columns)?),
            ("x_first", number(x.first)?),
            ("x_stride", number(x.stride)?),
            ("y_first", number(second.first)?),
            ("y_stride", number(second.stride)?),
            ("slice", narrow(COLUMN_SLICE as u64)),
            ("product", y.is_some().into()),
        ];
        let x_groups = self.groups(columns.div_ceil(ROW_WORKGROUP as usize), "columns of a sum")?;
        let workgroups = [x_groups, self.groups(slices, "slices of a sum")?, 1];
        self.add(Dispatch {
            stage,
            sizes,
            constants: Constants::default().with("WORKGROUP", ROW_WORKGROUP),
            bindings: vec![x.slice, second.slice, partial],
            workgroups,
            iterations: COLUMN_SLICE as u64,
            work: rows as u64 * columns as u64,
            ..Dispatch::empty(Kernel::Train(TrainKernel::ColumnSums))
        })?;
        for &output in outputs {
            self.add_slices(stage, [columns, slices], partial, output, order)?;
        }
        Ok(())
    }

    /// A number as a kernel takes it.
    pub(super) fn number(&self, number: usize, what: &str) -> Result<u32> {
        u32::try_from(number).map_err(|_| Error::TooLarge {
            what: what.into(),
            needed: number as u64,
            limit: u32::MAX.into(),
            limit_name: "32-bit indices".into(),
        })
    }

    /// Workgroups of one dimension.
    pub(super) fn groups(&self, groups: usize, what: &str) -> Result<u32> {
        let most = self.limits.max_workgroups;
        u32::try_from(groups).ok().filter(|&groups| groups <= most).ok_or_else(|| Error::TooLarge {
            what: what.into(),
            needed: groups as u64,
            limit: most.into(),
            limit_name: "the adapter's workgroups per dimension".into(),
        })
    }

    /// A buffer that parts of the backward pass share, of at least `a * b * c` numbers.
    pub(super) fn scratch(&mut self, name: &'static str, a: usize, b: usize, c: usize) -> Result<Slice> {
        let bytes = (a as u64).saturating_mul(b as u64).saturating_mul(c as u64).saturating_mul(super::F32).max(4);
        self.bounded(name, bytes, self.limits.max_binding)?;
        let known = self.training.as_ref().and_then(|training| training.shared.get(name).copied());
        let buffer = match known {
            Some(buffer) => buffer,
            None => {
                let buffer = self.buffer(name, 1, 1, 1)?;
                if let Some(training) = &mut self.training {
                    training.shared.insert(name, buffer);
                }
                buffer
            }
        };
        let spec = &mut self.plan.buffers[buffer];
        spec.bytes = spec.bytes.max(bytes);
        Ok(Slice { buffer, offset: 0, bytes })
    }
}
