//! Stages without a recurrence.

use super::{Builder, DispatchRows, StageWork, flat_grid, grid};
use crate::base::error::{Error, Result};
use crate::network::{
    Activation, Columns, Combine, FinalState, HiddenOrCell, Join, MergeMode, Network, Padding, Pool, Rearrange,
    RecurrentStage, Role, RowMap, SelectStep, StageKind, WeightFormat, Window, joining, merging,
};
use crate::plan::constants::{ACTIVATION, LAST_VALID, combination, function, pool_number};
use crate::plan::tactic::narrow;
use crate::plan::weights::ALIGN;
use crate::plan::{
    BufferId, Constants, Dispatch, Kernel, MATRIX_BLOCKS, MATRIX_STRIPS, MAX_SUBMISSION_WORK, ProductKernel,
    ROW_WORKGROUP, Slice, Tiling,
};

/// A product of rows: what is read, the weights, and what is written.
#[derive(Clone, Debug)]
pub(super) struct Product {
    pub kernel: Kernel,
    /// K and N.
    pub features: [usize; 2],
    pub activation: Activation,
    /// Constants beyond those that every product has.
    pub more: Constants,
    /// x, w, bias, scale and output.
    pub bindings: [Slice; 5],
}

/// A block of columns that goes from one matrix into another.
#[derive(Clone, Copy)]
struct Block {
    x: Slice,
    from: Columns,
    to: Columns,
    columns: usize,
    how: Combine,
    scale: f32,
    /// Whether timesteps are read from the last to the first.
    reversed: bool,
}

impl Builder {
    pub(super) fn layer(&mut self, network: &Network, work: &StageWork<'_>) -> Result<()> {
        let (inputs, outputs) = (work.stage.in_features, work.stage.out_features);
        let rows = work.steps_out * self.batch;
        match &work.stage.kind {
            StageKind::Embedding { num_embeddings } => self.embedding(work, *num_embeddings),
            StageKind::Dense { activation } => {
                let bindings = self.product_bindings(work);
                let kernel =
                    Kernel::Linear(self.product_kernel(network.param_format(work.stage, 0, Role::Weight), rows));
                let (features, activation) = ([inputs, outputs], *activation);
                let product = Product { kernel, features, activation, more: Constants::default(), bindings };
                self.product(work, DispatchRows::all(rows), &product)
            }
            StageKind::Conv1d { activation, .. } => {
                let bindings = self.product_bindings(work);
                if let Some(training) = &mut self.training {
                    training.products.insert(work.index, bindings);
                }
                self.convolution(network, work, *activation, bindings)
            }
            StageKind::Pool1d { window, pool, count_include_pad } => {
                self.pool(work, window, pool_number(*pool), *count_include_pad)
            }
            StageKind::GlobalPool(pool) => self.pool(work, &ALL_TIME, pool_number(*pool), false),
            StageKind::LayerNorm { eps, .. } => self.layer_norm(work, *eps),
            StageKind::Channelwise { eps: Some(eps), .. } if self.training.is_some() => self.batch_norm(work, *eps),
            StageKind::Channelwise { activation, .. } => self.channelwise(work, *activation),
            StageKind::Softmax { log } => self.softmax(work, *log),
            StageKind::ArgMax => self.arg_max(work),
            StageKind::TimeSoftmax => self.time_softmax(work),
            StageKind::Rearrange(rearrange) => self.rearrange(work, *rearrange),
            StageKind::Select(SelectStep::LastValid) if work.mask.is_some() => {
                self.pool(work, &ALL_TIME, LAST_VALID, false)
            }
            StageKind::Select(step) => {
                let input = if *step == SelectStep::First { 0 } else { (work.steps_in - 1) * self.batch };
                let block = Block::whole(work.inputs[0], outputs, Combine::Copy, 1.0);
                self.combine(work, DispatchRows { count: rows, input, output: 0 }, block)
            }
            StageKind::Reverse => self.reverse(work),
            StageKind::FinalState(from) => self.final_state(work, *from),
            StageKind::Merge(mode) => self.merge(work, *mode),
            StageKind::Join(join) => self.join(work, *join),
            StageKind::Attention(attention) => self.attention(work, *attention),
            StageKind::Ntm(ntm) => self.ntm(network, work, ntm),
            // Has a file of its own. What is fed back lies where the output of its layer is.
            StageKind::Recurrent(_) | StageKind::Feedback { .. } => Ok(()),
        }
    }

    /// A convolution with `activation`, whatever its own.
    pub(super) fn convolution(
        &mut self,
        network: &Network,
        work: &StageWork<'_>,
        activation: Activation,
        bindings: [Slice; 5],
    ) -> Result<()> {
        let StageKind::Conv1d { window, .. } = &work.stage.kind else { return Ok(()) };
        let (inputs, outputs) = (work.stage.in_features, work.stage.out_features);
        let rows = work.steps_out * self.batch;
        let [left, _] = window.behind(work.past).padding(work.steps_in);
        let more = Constants::sizes([
            ("CHANNELS", inputs),
            ("STRIDE", window.stride),
            ("DILATION", window.dilation),
            ("LEFT", left),
        ])?;
        let kernel = Kernel::Conv1d(self.product_kernel(network.param_format(work.stage, 0, Role::Weight), rows));
        let product = Product { kernel, features: [inputs * window.kernel_size, outputs], activation, more, bindings };
        self.product(work, DispatchRows::all(rows), &product)
    }

    /// x, w, bias, scale and output of a dense layer or a convolution.
    fn product_bindings(&mut self, work: &StageWork<'_>) -> [Slice; 5] {
        let (matrix, vectors) = (self.weight(), self.weight_id());
        let each = (work.stage.out_features.next_multiple_of(ALIGN) as u64) * super::F32;
        let [bias, scale] = [0, each].map(|offset| Slice { buffer: vectors, offset, bytes: each });
        [work.inputs[0], matrix, bias, scale, work.output]
    }

    fn embedding(&mut self, work: &StageWork<'_>, num_embeddings: usize) -> Result<()> {
        let (rows, width) = (work.steps_out * self.batch, work.stage.out_features);
        let bindings = vec![work.inputs[0], self.weight(), work.output];
        let workgroups = flat_grid(&self.limits, rows as u64 * width as u64, &work.stage.label)?;
        let constants = Constants::sizes([("NUM_EMBEDDINGS", num_embeddings), ("EMBEDDING_DIM", width)])?
            .with("WORKGROUP", ROW_WORKGROUP);
        self.push(work, DispatchRows::all(rows), Kernel::Embedding, constants, |dispatch| {
            dispatch.bindings = bindings;
            dispatch.workgroups = workgroups;
        })
    }

    /// The kernel of a product of `rows` with weights in `format`.
    pub(super) fn product_kernel(&self, format: WeightFormat, rows: usize) -> ProductKernel {
        let tiling = match self.matrix_units() {
            // Fewer rows would leave most of a unit idle.
            Some(units) if rows >= units.side.length() as usize => Tiling::Matrix(units.side),
            _ if self.limits.software => Tiling::Rows,
            _ => Tiling::Square,
        };
        ProductKernel { format, tiling }
    }

    pub(super) fn product(&mut self, work: &StageWork<'_>, rows: DispatchRows, product: &Product) -> Result<()> {
        let [inputs, outputs] = product.features.map(|n| n as u64);
        let tiling = match product.kernel {
            Kernel::Linear(kernel) | Kernel::Conv1d(kernel) => kernel.tiling,
            _ => Tiling::Square,
        };
        let [tile_rows, tile_columns] = tiling.size();
        let [k, n] = product.features;
        let mut constants = Constants::sizes([("IN_FEATURES", k), ("OUT_FEATURES", n)])?
            .and(function(ACTIVATION, product.activation))
            .and(product.more.iter());
        let subgroup = self.limits.matrix_units.map_or(1, |units| units.subgroup);
        if let Tiling::Matrix(_) = tiling {
            constants =
                constants.with("BLOCKS", MATRIX_BLOCKS).with("STRIPS", MATRIX_STRIPS).with("SUBGROUP", subgroup);
        }
        // Whole tiles of rows, as many as one submission may take.
        let per_row = inputs.saturating_mul(outputs);
        let most = usize::try_from(MAX_SUBMISSION_WORK / per_row).unwrap_or(usize::MAX);
        let most = (most / tile_rows).max(1) * tile_rows;
        for first in (0..rows.count).step_by(most) {
            let count = most.min(rows.count - first);
            let part = DispatchRows { count, input: rows.input + first, output: rows.output + first };
            let [x, y] = [outputs.div_ceil(tile_columns as u64), count.div_ceil(tile_rows) as u64];
            let groups = grid(&self.limits, x, y, &work.stage.label)?;
            self.push(work, part, product.kernel, constants.clone(), |dispatch| {
                dispatch.bindings = product.bindings.to_vec();
                dispatch.workgroups = groups;
                dispatch.iterations = tiling.iterations(inputs, subgroup);
                dispatch.work = per_row.saturating_mul(count as u64);
            })?;
        }
        Ok(())
    }

    /// A pooling with this number.
    fn pool(&mut self, work: &StageWork<'_>, window: &Window, how: u32, count_pad: bool) -> Result<()> {
        let (rows, width) = (work.steps_out * self.batch, work.stage.in_features);
        let all_time = window.kernel_size == 0;
        let [left, right] = if all_time { [0; 2] } else { window.behind(work.past).padding(work.steps_in) };
        let seen = if all_time { work.steps_in } else { window.kernel_size };
        let mask = pool_mask(work, window, how);
        let constants = Constants::sizes([
            ("FEATURES", width),
            ("KERNEL", window.kernel_size),
            ("STRIDE", window.stride),
            ("LEFT", left),
            ("RIGHT", right),
        ])?
        .with("HOW", how)
        .with("COUNT_PAD", count_pad)
        .with("MASKED", mask.is_some())
        .with("PAST", if count_pad { 0 } else { narrow(work.past as u64) })
        .with("WORKGROUP", ROW_WORKGROUP);
        let mask_slice = mask.map_or(work.inputs[0], |mask| self.plan.whole(mask));
        let bindings = vec![work.inputs[0], mask_slice, work.output];
        let workgroups = flat_grid(&self.limits, rows as u64 * width as u64, &work.stage.label)?;
        self.push(work, DispatchRows::all(rows), Kernel::Pool, constants, |dispatch| {
            dispatch.bindings = bindings;
            dispatch.workgroups = workgroups;
            dispatch.iterations = seen as u64;
            dispatch.work = (rows as u64 * width as u64).saturating_mul(seen as u64);
        })
    }

    fn layer_norm(&mut self, work: &StageWork<'_>, eps: f32) -> Result<()> {
        let (rows, width) = (work.steps_out * self.batch, work.stage.in_features);
        let bindings = vec![work.inputs[0], self.weight(), self.weight(), work.output];
        let [_, x, y] = grid(&self.limits, 1, rows as u64, &work.stage.label)?;
        let constants = Constants::sizes([("FEATURES", width)])?.with("EPS", eps).with("WORKGROUP", ROW_WORKGROUP);
        self.push(work, DispatchRows::all(rows), Kernel::LayerNorm, constants, |dispatch| {
            dispatch.bindings = bindings;
            dispatch.workgroups = [x, y, 1];
            dispatch.iterations = 3 * (width as u64).div_ceil(ROW_WORKGROUP.into()) + 2 * u64::from(ROW_WORKGROUP);
            dispatch.work = rows as u64 * width as u64;
        })
    }

    fn softmax(&mut self, work: &StageWork<'_>, log: bool) -> Result<()> {
        let size = [work.steps_out * self.batch, work.stage.in_features];
        self.softmax_rows(work, log, [work.inputs[0], work.output], size)
    }

    /// The softmax of every row of one matrix into another.
    pub(super) fn softmax_rows(
        &mut self,
        work: &StageWork<'_>,
        log: bool,
        bindings: [Slice; 2],
        [rows, width]: [usize; 2],
    ) -> Result<()> {
        let [_, x, y] = grid(&self.limits, 1, rows as u64, &work.stage.label)?;
        let constants = Constants::sizes([("FEATURES", width)])?.with("LOG", log).with("WORKGROUP", ROW_WORKGROUP);
        self.push(work, DispatchRows::all(rows), Kernel::Softmax, constants, |dispatch| {
            dispatch.bindings = bindings.to_vec();
            dispatch.workgroups = [x, y, 1];
            dispatch.iterations = 3 * (width as u64).div_ceil(ROW_WORKGROUP.into()) + 2 * u64::from(ROW_WORKGROUP);
            dispatch.work = rows as u64 * width as u64;
        })
    }

    fn arg_max(&mut self, work: &StageWork<'_>) -> Result<()> {
        let (rows, width) = (work.steps_out * self.batch, work.stage.in_features);
        let [_, x, y] = grid(&self.limits, 1, rows as u64, &work.stage.label)?;
        let constants = Constants::sizes([("FEATURES", width)])?.with("WORKGROUP", ROW_WORKGROUP);
        self.push(work, DispatchRows::all(rows), Kernel::ArgMax, constants, |dispatch| {
            dispatch.bindings = vec![work.inputs[0], work.output];
            dispatch.workgroups = [x, y, 1];
            dispatch.iterations = (width as u64).div_ceil(ROW_WORKGROUP.into()) + u64::from(ROW_WORKGROUP);
            dispatch.work = rows as u64 * width as u64;
        })
    }

    fn time_softmax(&mut self, work: &StageWork<'_>) -> Result<()> {
        let (columns, width) = (self.batch * work.stage.in_features, work.stage.in_features);
        let [_, x, y] = grid(&self.limits, 1, columns as u64, &work.stage.label)?;
        let constants = Constants::sizes([("FEATURES", width)])?
            .with("MASKED", work.mask.is_some())
            .with("WORKGROUP", ROW_WORKGROUP);
        let mask = work.mask.map_or(work.inputs[0], |mask| self.plan.whole(mask));
        self.push(work, DispatchRows::all(columns), Kernel::TimeSoftmax, constants, |dispatch| {
            dispatch.bindings = vec![work.inputs[0], mask, work.output];
            dispatch.workgroups = [x, y, 1];
            dispatch.iterations =
                3 * (work.steps_in as u64).div_ceil(ROW_WORKGROUP.into()) + 2 * u64::from(ROW_WORKGROUP);
            dispatch.work = columns as u64 * work.steps_in as u64;
        })
    }

    fn rearrange(&mut self, work: &StageWork<'_>, rearrange: Rearrange) -> Result<()> {
        let (rows, width) = (work.steps_out * self.batch, work.stage.out_features);
        let map = rearrange.map(work.steps_in, work.stage.in_features, width);
        let elements = rows as u64 * width as u64;
        let number = |number: usize| self.number(number, "numbers of a row");
        let sizes = vec![
            ("rows", number(rows)?),
            ("batch", number(self.batch)?),
            ("numbers", number(work.steps_in * work.stage.in_features)?),
            ("offset", Self::place(map.offset, [work.steps_out, width])?),
            ("stride", Self::place(map.stride, [work.steps_out, width])?),
        ];
        self.add(Dispatch {
            stage: work.index,
            sizes,
            constants: rearrange_constants(work, map)?,
            bindings: vec![work.inputs[0], work.output],
            workgroups: flat_grid(&self.limits, elements, &work.stage.label)?,
            work: elements,
            ..Dispatch::empty(Kernel::Rearrange)
        })
    }

    /// A place in a row, or the distance of two, as the kernels of rearrangements take it: all of `[T', N']` stays in 32 bits.
    pub(super) fn place(place: i64, [steps, width]: [usize; 2]) -> Result<u32> {
        let farthest = (steps as u64).saturating_mul(place.unsigned_abs()).saturating_add(width as u64);
        match i32::try_from(place) {
            Ok(place) if farthest <= MAX_PLACE => Ok(place.cast_unsigned()),
            _ => Err(Error::TooLarge {
                what: "numbers of a row".into(),
                needed: farthest,
                limit: MAX_PLACE,
                limit_name: "signed 32-bit places".into(),
            }),
        }
    }

    fn channelwise(&mut self, work: &StageWork<'_>, activation: Activation) -> Result<()> {
        let (rows, width) = (work.steps_out * self.batch, work.stage.in_features);
        let bindings = vec![work.inputs[0], self.weight(), work.output];
        let workgroups = flat_grid(&self.limits, rows as u64 * width as u64, &work.stage.label)?;
        let constants = Constants::sizes([("FEATURES", width)])?
            .and(function(ACTIVATION, activation))
            .with("WORKGROUP", ROW_WORKGROUP);
        self.push(work, DispatchRows::all(rows), Kernel::Channelwise, constants, |dispatch| {
            dispatch.bindings = bindings;
            dispatch.workgroups = workgroups;
            dispatch.work = rows as u64 * width as u64;
        })
    }

    /// h or c after the last step of a level that has run.
    fn final_state(&mut self, work: &StageWork<'_>, from: FinalState) -> Result<()> {
        let found = self.plan.states.iter().find(|state| (state.layer, state.row) == (from.layer, from.row));
        let place = found.and_then(|state| match from.part {
            HiddenOrCell::H => Some(state.final_h()),
            HiddenOrCell::C => state.c,
        });
        let Some(place) = place else { return Ok(()) };
        let mut block = Block::whole(self.plan.whole(place.buffer), work.stage.out_features, Combine::Copy, 1.0);
        block.from.offset = numbers_before(place);
        self.combine(work, DispatchRows::all(self.batch), block)
    }

    /// Copies what layers give as the initial state of a level to where its first step reads it.
    pub(super) fn start_from_inputs(
        &mut self,
        work: &StageWork<'_>,
        level: &RecurrentStage,
        first_state: usize,
    ) -> Result<()> {
        let (directions, first) = (level.directions.len(), self.plan.dispatches.len());
        for at in first_state..self.plan.states.len() {
            let state = self.plan.states[at].clone();
            let direction = state.row - level.level * directions;
            let parts = [(Some(state.h[0]), level.state_size()), (state.c, level.hidden_size)];
            for (position, (place, width)) in level.starts.iter().zip(parts) {
                let (Some(position), Some(place)) = (position, place) else { continue };
                let mut block = Block::whole(work.inputs[*position], width, Combine::Copy, 1.0);
                block.from = Columns { stride: directions * width, offset: direction * width };
                block.to.offset = numbers_before(place);
                let output = self.plan.whole(place.buffer);
                let to = StageWork { output, inputs: work.inputs.clone(), ..*work };
                self.combine(&to, DispatchRows::all(self.batch), block)?;
            }
        }
        if let Some(starts) = &mut self.loop_starts {
            // They come once, before the first step.
            starts.extend(self.plan.dispatches.drain(first..));
        }
        Ok(())
    }

    fn reverse(&mut self, work: &StageWork<'_>) -> Result<()> {
        let mut block = Block::whole(work.inputs[0], work.stage.out_features, Combine::Copy, 1.0);
        block.reversed = true;
        self.combine(work, DispatchRows::all(work.steps_in * self.batch), block)
    }

    fn merge(&mut self, work: &StageWork<'_>, mode: MergeMode) -> Result<()> {
        let width = work.stage.out_features;
        let (how, scale) = merging(mode);
        let halves = [(0, Combine::Copy, 1.0), (width, how, scale)];
        for (offset, how, scale) in halves {
            let mut block = Block::whole(work.inputs[0], width, how, scale);
            block.from = Columns { stride: work.stage.in_features, offset };
            self.combine(work, DispatchRows::all(work.steps_out * self.batch), block)?;
        }
        Ok(())
    }

    fn join(&mut self, work: &StageWork<'_>, join: Join) -> Result<()> {
        let (how, scale) = joining(join, work.inputs.len());
        let rows = work.steps_out * self.batch;
        let mut offset = 0;
        for (index, &x) in work.inputs.iter().enumerate() {
            let how = if index == 0 { Combine::Copy } else { how };
            let scale = if index + 1 == work.inputs.len() { scale } else { 1.0 };
            let mut block = Block::whole(x, work.stage.out_features, how, scale);
            if join == Join::Concat {
                let elements = usize::try_from(x.bytes / super::F32).unwrap_or(usize::MAX);
                let width = elements / rows;
                block.columns = width;
                block.from = Columns { stride: width, offset: 0 };
                block.to.offset = offset;
                offset += width;
            }
            self.combine(work, DispatchRows::all(rows), block)?;
        }
        Ok(())
    }

    fn combine(&mut self, work: &StageWork<'_>, rows: DispatchRows, block: Block) -> Result<()> {
        let elements = rows.count as u64 * block.columns as u64;
        let workgroups = flat_grid(&self.limits, elements, &work.stage.label)?;
        let constants = Constants::sizes([
            ("COLUMNS", block.columns),
            ("IN_STRIDE", block.from.stride),
            ("IN_OFFSET", block.from.offset),
            ("OUT_STRIDE", block.to.stride),
            ("OUT_OFFSET", block.to.offset),
        ])?
        .with("HOW", combination(block.how))
        .with("SCALE", block.scale)
        .with("REVERSED", block.reversed)
        .with("WORKGROUP", ROW_WORKGROUP);
        self.push(work, rows, Kernel::Combine, constants, |dispatch| {
            dispatch.bindings = vec![block.x, work.output];
            dispatch.workgroups = workgroups;
            dispatch.work = elements;
        })
    }
}

/// Half of it, since two places are added.
const MAX_PLACE: u64 = 1 << 30;

/// Numbers of a buffer before a part of it, which may begin where no binding may.
fn numbers_before(part: Slice) -> usize {
    usize::try_from(part.offset / super::F32).unwrap_or(usize::MAX)
}

/// A pooling over all time.
pub(super) const ALL_TIME: Window =
    Window { kernel_size: 0, stride: 1, dilation: 1, padding: Padding::Zeros { left: 0, right: 0 } };

/// The mask of a pooling: it counts over all time only (Keras), and not for the largest.
pub(super) fn pool_mask(work: &StageWork<'_>, window: &Window, how: u32) -> Option<BufferId> {
    work.mask.filter(|_| window.kernel_size == 0 && how != pool_number(Pool::Max))
}

/// The constants of a rearrangement and of its backward pass.
pub(super) fn rearrange_constants(work: &StageWork<'_>, map: RowMap) -> Result<Constants> {
    let column = usize::try_from(map.column).unwrap_or(0);
    let [inputs, outputs] = [work.stage.in_features, work.stage.out_features];
    Ok(Constants::sizes([("FEATURES", inputs), ("OUT_FEATURES", outputs), ("COLUMN", column)])?
        .with("REFLECTED", map.reflected)
        .with("WORKGROUP", ROW_WORKGROUP))
}

impl Block {
    /// Rows of `width` that keep their place.
    fn whole(x: Slice, width: usize, how: Combine, scale: f32) -> Self {
        let columns = Columns { stride: width, offset: 0 };
        Self { x, from: columns, to: columns, columns: width, how, scale, reversed: false }
    }
}
