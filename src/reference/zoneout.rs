//! Zoneout (Krueger et al. 2017, "Zoneout: Regularizing RNNs by Randomly Preserving Hidden Activations"): while a layer is
//! trained some units keep the h or the c of the step before; a run takes the mean of that. Reference implementation of
//! `shaders/training/zoneout.wgsl`.

use super::choose::{keeping, random};
use crate::base::Real;
use crate::network::{RecurrentStage, Zoneout};

/// First number of the draws of zoneout.
pub(crate) const ZONEOUT_SITE: u32 = 3 << 16;

/// Which units keep what they had.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum ZoneoutMode {
    /// All of them their share: the mean, as in a run.
    #[default]
    Mean,
    /// Some units wholly, drawn at random.
    Drawn {
        /// Of the step of training.
        seed: u64,
        /// Position of the stage.
        stage: usize,
        /// B of the batch that is trained, and its row with which the level begins.
        batch: usize,
        row: usize,
    },
}

/// h or c of one step of one row.
#[derive(Clone, Copy)]
pub(super) struct ZoneoutPlace {
    pub direction: usize,
    pub is_c: bool,
    pub time: usize,
    pub row: usize,
}

impl ZoneoutMode {
    /// The share of what it had that a unit keeps, of `width` units.
    fn share<F: Real>(self, zoneout: Zoneout, place: ZoneoutPlace, width: usize, unit: usize) -> F {
        let rate = if place.is_c { zoneout.c } else { zoneout.h };
        match self {
            Self::Mean => F::from_f32(rate),
            Self::Drawn { seed, stage, batch, row } => {
                let at = ((place.time * batch + row + place.row) * width + unit) as u64;
                #[expect(clippy::cast_possible_truncation, reason = "a level has fewer than 2^32 states, 2^13 stages")]
                let [at, stage, direction] = [at as u32, stage as u32, place.direction as u32];
                let site = ZONEOUT_SITE | stage << 2 | direction << 1 | u32::from(place.is_c);
                if random(seed, at, site) < keeping(rate).0 { F::ONE } else { F::default() }
            }
        }
    }

    /// Makes `after`, a state of one row, what zoneout makes of it and of `before`.
    pub(super) fn apply<F: Real>(self, stage: &RecurrentStage, place: ZoneoutPlace, before: &[F], after: &mut [F]) {
        if (if place.is_c { stage.zoneout.c } else { stage.zoneout.h }) == 0.0 {
            return;
        }
        let width = after.len();
        for (unit, (&before, after)) in before.iter().zip(after).enumerate() {
            let share: F = self.share(stage.zoneout, place, width, unit);
            // A unit that is drawn takes over nothing of a value that is not finite.
            *after = if share == F::ONE {
                before
            } else if share == F::default() {
                *after
            } else {
                share * before + (F::ONE - share) * *after
            };
        }
    }

    /// Splits the gradient of a state: `d` becomes that of the state before zoneout; that of the step before is given, empty
    /// where it is 0.
    pub(super) fn split<F: Real>(self, stage: &RecurrentStage, place: ZoneoutPlace, d: &mut [F]) -> Vec<F> {
        if (if place.is_c { stage.zoneout.c } else { stage.zoneout.h }) == 0.0 {
            return Vec::new();
        }
        let width = d.len();
        let of_unit = |(unit, d): (usize, &mut F)| {
            let share: F = self.share(stage.zoneout, place, width, unit);
            let kept = share * *d;
            *d = (F::ONE - share) * *d;
            kept
        };
        d.iter_mut().enumerate().map(of_unit).collect()
    }
}
