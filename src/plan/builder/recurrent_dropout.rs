//! Dropout inside a level that is trained on a GPU: masks that stay for all steps of a row, of what the level reads and of h.
//! With a rate of h every gate has masks of its own, so a product is taken gate by gate.

use std::ops::Range;

use super::layers::Product;
use super::matmul::{Also, Operand};
use super::{Builder, DispatchRows, StageWork, flat_grid};
use crate::base::error::Result;
use crate::network::{Recurrence, RecurrentStage, Role, gates};
use crate::plan::tactic::narrow;
use crate::plan::train::{RecurrentSite, TrainGoal, setting};
use crate::plan::{Cells, Constants, Dispatch, Kernel, ROW_WORKGROUP, TrainKernel};
use crate::reference::keeping;

/// Dropout inside one level.
#[derive(Clone, Copy, Debug)]
pub(super) struct LevelDropout {
    /// Position of the stage.
    stage: usize,
    site: RecurrentSite,
    /// G
    gates: usize,
    /// Width of h.
    state: usize,
}

/// One mask of all rows, `[B, width]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowMask {
    draws: u32,
    rate: f32,
    gates: usize,
    gate: usize,
}

/// Gates whose product reads through one mask, if through any.
pub(super) type GateBlock = (Range<usize>, Option<RowMask>);

impl LevelDropout {
    /// Whether the kernels of a step draw masks of h.
    pub fn of_state(self) -> bool {
        self.site.state > 0.0
    }

    /// Whether the products with W read through masks.
    pub fn of_input(self) -> bool {
        self.site.input > 0.0
    }
}

impl Builder {
    /// Dropout inside a level, if the plan draws it.
    pub(super) fn dropout_in(&self, stage: usize, level: &RecurrentStage) -> Option<LevelDropout> {
        let task = &self.training.as_ref()?.task;
        let site = *task.recurrent_dropouts.iter().find(|site| site.layer == level.layer)?;
        let dropout = LevelDropout { stage, site, gates: level.cell().gates(), state: level.state_size() };
        (task.goal == TrainGoal::Step).then_some(dropout)
    }

    /// The gates of a direction by the masks through which their products with W read the input.
    pub(super) fn input_blocks(&self, stage: usize, level: &RecurrentStage, direction: usize) -> Vec<GateBlock> {
        let all = level.cell().gates();
        let Some(LevelDropout { site, gates, .. }) = self.dropout_in(stage, level).filter(|dropout| dropout.of_input())
        else {
            return vec![(0..all, None)];
        };
        let draws = RecurrentSite::draws(stage, direction, false);
        let mask = |gate| Some(RowMask { draws, rate: site.input, gates, gate });
        if site.state > 0.0 {
            (0..all).map(|gate| (gate..gate + 1, mask(gate))).collect()
        } else {
            vec![(0..all, mask(0))]
        }
    }

    /// The same for U and h; the candidate of a GRU that resets its state reads another state, so it is alone.
    pub(super) fn state_blocks(&self, stage: usize, level: &RecurrentStage, direction: usize) -> Vec<GateBlock> {
        let all = level.cell().gates();
        match self.dropout_in(stage, level).filter(|dropout| dropout.of_state()) {
            Some(LevelDropout { site, gates, .. }) => {
                let draws = RecurrentSite::draws(stage, direction, true);
                let mask = |gate| Some(RowMask { draws, rate: site.state, gates, gate });
                (0..all).map(|gate| (gate..gate + 1, mask(gate))).collect()
            }
            None if level.recurrence == (Recurrence::Gru { reset_after: false }) => {
                vec![(0..gates::NEW, None), (gates::NEW..all, None)]
            }
            None => vec![(0..all, None)],
        }
    }

    /// `x` `[rows, width]` through a mask, if there is one.
    pub(super) fn through(
        &mut self,
        stage: usize,
        mask: Option<RowMask>,
        x: Operand,
        [rows, width]: [usize; 2],
    ) -> Result<Operand> {
        let Some(mask) = mask else { return Ok(x) };
        let output = Operand::new(self.scratch("numbers through a mask [T', B, N]", rows, width, 1)?, width);
        self.row_dropout(stage, mask, [x, output], ([rows, width], false))?;
        Ok(output)
    }

    /// Writes `x` `[rows, width]` times a mask, or adds it to what is there.
    pub(super) fn row_dropout(
        &mut self,
        stage: usize,
        mask: RowMask,
        [x, output]: [Operand; 2],
        ([rows, width], accumulate): ([usize; 2], bool),
    ) -> Result<()> {
        let Some(training) = &self.training else { return Ok(()) };
        let settings = self.plan.whole(training.layout.buffers.settings);
        let (least, scale) = keeping(mask.rate);
        let number = |number: usize| self.number(number, "sizes of dropout");
        let sizes = vec![
            ("count", number(rows * width)?),
            ("width", number(width)?),
            ("batch", number(self.batch)?),
            ("gates", number(mask.gates)?),
            ("gate", number(mask.gate)?),
            ("x_first", number(x.first)?),
            ("x_stride", number(x.stride)?),
            ("output_first", number(output.first)?),
            ("output_stride", number(output.stride)?),
            ("site", mask.draws),
            ("least", least),
            ("scale", scale.to_bits()),
        ];
        let count = (rows * width) as u64;
        let constants = Constants::default().with("SEED", narrow(setting::SEED as u64)).with("ADD", accumulate);
        self.add(Dispatch {
            stage,
            sizes,
            constants: constants.with("WORKGROUP", ROW_WORKGROUP),
            bindings: vec![settings, x.slice, output.slice],
            workgroups: flat_grid(&self.limits, count, "dropout")?,
            work: count,
            ..Dispatch::empty(Kernel::Train(TrainKernel::RowDropout))
        })
    }

    /// The projection of the input of a direction through its masks, in the place of [`Builder::product`].
    pub(super) fn dropped_product(
        &mut self,
        work: &StageWork<'_>,
        level: &RecurrentStage,
        direction: usize,
        (rows, product): (DispatchRows, &Product),
    ) -> Result<()> {
        let [x, _, bias, _, projected] = product.bindings;
        let [inputs, width] = product.features;
        let (count, hidden) = (rows.count, level.hidden_size);
        let Some(w) = self.param(work.stage, direction, Role::WeightIh) else { return Ok(()) };
        let sums = self.scratch("projected through masks [T', B, G, H]", count, width, 1)?;
        for (gates, mask) in self.input_blocks(work.index, level, direction) {
            let x = Operand::new(x, inputs).from(rows.input * inputs);
            let x = self.through(work.index, mask, x, [count, inputs])?;
            let w = Operand::new(w, inputs).from(gates.start * hidden * inputs).turned();
            let c = Operand::new(sums, width).from(gates.start * hidden);
            self.matmul(work.index, [count, gates.len() * hidden, inputs], [x, w, c], Also::default())?;
        }
        let numbers = (count * width) as u64;
        let number = |number: usize| self.number(number, "projected inputs");
        let sizes = vec![
            ("count", number(count * width)?),
            ("gates", number(level.cell().gates())?),
            ("hidden", number(hidden)?),
        ];
        self.add(Dispatch {
            stage: work.index,
            sizes,
            constants: Constants::default().with("WORKGROUP", ROW_WORKGROUP),
            bindings: vec![sums, bias, projected],
            workgroups: flat_grid(&self.limits, numbers, "projected inputs")?,
            work: numbers,
            ..Dispatch::empty(Kernel::Train(TrainKernel::GatesTogether))
        })
    }

    /// The constants of kernels that draw masks of h; `gate` is the first of the product, `first` the direction of lane 0.
    pub(super) fn state_dropout_constants(
        &self,
        dropout: Option<LevelDropout>,
        (gate, first): (usize, usize),
    ) -> Result<Constants> {
        let Some(LevelDropout { stage, site, gates, state }) = dropout.filter(|dropout| dropout.of_state()) else {
            let nothing =
                Constants::sizes([("DROP_GATES", 0), ("DROP_GATE", 0), ("DROP_WIDTH", 0), ("DROP_LEAST", 0)])?;
            return Ok(nothing.with("DROP_SCALE", 1.0).with("DROP_SITE", 0u32));
        };
        let (least, scale) = keeping(site.state);
        Ok(Constants::sizes([("DROP_GATES", gates), ("DROP_GATE", gate), ("DROP_WIDTH", state)])?
            .with("DROP_LEAST", least)
            .with("DROP_SCALE", scale)
            .with("DROP_SITE", RecurrentSite::draws(stage, first, true)))
    }
}

/// The first gate whose product a kernel of a step takes.
pub(super) fn first_gate(cell: Cells) -> usize {
    if cell == Cells::GruCandidate { gates::NEW } else { 0 }
}
