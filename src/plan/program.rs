//! What one timestep of a level takes on a GPU: its kernels, the memory that they keep in addition to h, their constants.

use super::constants::{CANDIDATE, GATE, OUTPUT, function};
use super::{Cells, Constants};
use crate::network::{Activation, CellNorm, GateNorm, Normalization, Recurrence, RecurrentStage, ScanCell};

/// The kernels of a timestep.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program {
    /// In the order in which they run.
    pub kernels: &'static [Cells],
    /// Arrays `[lanes, B, H]` that they keep in addition to h; the first is c where the cell has one.
    pub kept: usize,
    /// What these arrays are.
    pub label: &'static str,
    /// Whether a step ends in [`Rung::Normalize`](super::Rung::Normalize) of its kernel, unless one dispatch runs many.
    pub normalizes: bool,
}

impl Program {
    /// The one of a level.
    pub fn of(level: &RecurrentStage) -> Self {
        let (kernels, kept, label): (&[Cells], usize, &str) = match level.recurrence {
            Recurrence::Lstm { proj_size: 0, .. } => (&[Cells::Lstm], 1, "c [lanes, B, H]"),
            Recurrence::Lstm { .. } => (&[Cells::Lstm, Cells::Projection], 2, "c, h' [2, lanes, B, H]"),
            Recurrence::Gru { reset_after: true } => (&[Cells::Gru], 0, "no c"),
            Recurrence::Gru { .. } => (&[Cells::GruGates, Cells::GruCandidate], 2, "r*h, z [2, lanes, B, H]"),
            Recurrence::Rnn => (&[Cells::Rnn], 0, "no c"),
            Recurrence::LayerNormLstm(_) => (&[Cells::LayerNormLstm], 5, "c, sums [5, lanes, B, H]"),
            Recurrence::LayerNormGru(_) => (&[Cells::LayerNormGru], 3, "sums [3, lanes, B, H]"),
            Recurrence::Slstm { .. } => (&[Cells::Slstm], 3, "c, n, m [3, lanes, B, H]"),
            Recurrence::Scan(ScanCell::MinGru) => (&[Cells::MinGru], 0, "no c"),
            Recurrence::Scan(ScanCell::MinLstm) => (&[Cells::MinLstm], 0, "no c"),
            Recurrence::Scan(ScanCell::Sru { .. }) => (&[Cells::Sru], 1, "c [lanes, B, H]"),
            Recurrence::Scan(ScanCell::Qrnn) => (&[Cells::Qrnn], 1, "c [lanes, B, H]"),
            Recurrence::Scan(ScanCell::IndRnn) => (&[Cells::IndRnn], 0, "no c"),
        };
        Self { kernels, kept, label, normalizes: level.recurrence.normalization().is_some() }
    }

    /// Whether a step is one dispatch, so that levels can advance along a diagonal.
    pub fn is_whole(&self) -> bool {
        self.kernels.len() == 1 && !self.normalizes && !self.kernels[0].scans()
    }
}

/// The constants of a cell's kernel, with the `functions` of its direction.
pub(super) fn constants(kernel: Cells, level: &RecurrentStage, functions: &[Activation]) -> Constants {
    // 0 stands for no bound.
    let clip = Constants::default().with("CLIP_GATES", level.clip.unwrap_or(0.0));
    let zoneout = level.zoneout;
    match (kernel, level.recurrence) {
        (Cells::Lstm, Recurrence::Lstm { peephole, coupled, cell_clip, .. }) => clip
            .with("PEEPHOLE", peephole)
            .with("COUPLED", coupled)
            .with("CLIP_CELL", cell_clip.unwrap_or(0.0))
            .and(function(GATE, functions[0]))
            .and(function(CANDIDATE, functions[1]))
            .and(function(OUTPUT, functions[2]))
            .with("ZONEOUT_H", zoneout.h)
            .with("ZONEOUT_C", zoneout.c),
        (Cells::Gru, _) => {
            clip.and(function(GATE, functions[0])).and(function(CANDIDATE, functions[1])).with("ZONEOUT_H", zoneout.h)
        }
        (Cells::GruGates, _) => clip.and(function(GATE, functions[0])),
        (Cells::Rnn, _) => clip.and(function(GATE, functions[0])).with("ZONEOUT_H", zoneout.h),
        (Cells::GruCandidate, _) => clip.and(function(CANDIDATE, functions[1])).with("ZONEOUT_H", zoneout.h),
        (Cells::Projection, _) => Constants::default().with("ZONEOUT_H", zoneout.h),
        (Cells::LayerNormLstm, Recurrence::LayerNormLstm(how)) => normalization(how)
            .and(function(GATE, functions[0]))
            .and(function(CANDIDATE, functions[1]))
            .and(function(OUTPUT, functions[2])),
        (Cells::LayerNormGru, Recurrence::LayerNormGru(how)) => {
            normalization(how).and(function(GATE, functions[0])).and(function(CANDIDATE, functions[1]))
        }
        (Cells::Slstm, _) => Constants::default()
            .with("EXPONENTIAL", functions[0] == Activation::Exp)
            .and(function(CANDIDATE, functions[1])),
        (Cells::Sru, Recurrence::Scan(ScanCell::Sru { peephole })) => Constants::default()
            .with("PEEPHOLE", peephole)
            .and(function(GATE, functions[0]))
            .and(function(OUTPUT, functions[1])),
        (Cells::MinGru | Cells::Qrnn, _) => {
            Constants::default().and(function(GATE, functions[0])).and(function(CANDIDATE, functions[1]))
        }
        (Cells::MinLstm | Cells::IndRnn, _) => Constants::default().and(function(GATE, functions[0])),
        // A kernel's missing constants fail where it is planned.
        (Cells::Lstm | Cells::LayerNormLstm | Cells::LayerNormGru | Cells::Sru, _) => Constants::default(),
    }
}

/// What a layer-normalized cell normalizes.
pub(super) fn normalization(how: Normalization) -> Constants {
    Constants::default()
        .with("NORM_PARTS", how.gate_norm == GateNorm::Parts)
        .with("NORM_CELL", cell_norm_number(how.cell_norm))
        .with("EPS", how.eps)
}

/// The number of a [`CellNorm`] in `shaders/common/norms.wgsl`.
pub(super) fn cell_norm_number(norm: CellNorm) -> u32 {
    match norm {
        CellNorm::None => 0,
        CellNorm::State => 1,
        CellNorm::Output => 2,
    }
}
