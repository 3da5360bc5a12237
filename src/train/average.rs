//! An average of the weights over the steps.

use serde::{Deserialize, Serialize};

use super::Convention;
use crate::base::error::{Error, Result};

/// An exponential moving average of the weights: `a = decay a + (1 - decay) w` after each step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Average {
    /// The share that stays, from 0 to below 1.
    pub decay: f64,
    /// PyTorch's `AveragedModel` starts from the weights after the first step, Keras' `use_ema` from those before it.
    pub convention: Convention,
}

impl Average {
    /// As PyTorch has it.
    #[must_use]
    pub fn new(decay: f64) -> Self {
        Self { decay, convention: Convention::PyTorch }
    }

    pub(super) fn check(self) -> Result<()> {
        match (0.0..1.0).contains(&self.decay) {
            true => Ok(()),
            false => Err(Error::option("decay of the average", "a number from 0 to below 1", &self.decay)),
        }
    }

    /// Moves the average `[P]`, empty before the first step, towards the weights after a step.
    pub(super) fn update(self, average: &mut Vec<f32>, before: &[f32], after: &[f32]) {
        if average.is_empty() {
            let first = if self.convention == Convention::Keras { before } else { after };
            average.extend_from_slice(first);
            if self.convention == Convention::PyTorch {
                return;
            }
        }
        for (average, &weight) in average.iter_mut().zip(after) {
            let old = f64::from(*average);
            #[expect(clippy::cast_possible_truncation, reason = "rounded to f32 once")]
            let new = (old + (1.0 - self.decay) * (f64::from(weight) - old)) as f32;
            *average = new;
        }
    }
}
