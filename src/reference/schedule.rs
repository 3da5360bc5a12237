//! Learning rates: pure functions of the step, so that they have no state to save.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};

/// The learning rate of every step, as a factor of a rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// In so many steps the rate rises evenly, `(step + 1) / warm_up` of the first of what follows.
    pub warm_up: u64,
    /// What follows; it counts its steps from the end of the rise.
    pub then: Decay,
}

/// How a learning rate falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Decay {
    /// The rate is constant.
    #[default]
    Constant,
    /// `factor` times as much behind every `every` steps (PyTorch's `StepLR`).
    Step {
        /// Steps of one rate.
        every: u64,
        /// What it is multiplied by.
        factor: f64,
    },
    /// `factor^(step / every)` (PyTorch's `ExponentialLR` with `every` 1, Keras' `ExponentialDecay`).
    Exponential {
        /// Steps in which it falls by the factor.
        every: u64,
        /// What it is multiplied by.
        factor: f64,
    },
    /// Half a cosine from 1 to `lowest` in `steps`, where it stays (Keras' `CosineDecay`).
    Cosine {
        /// Steps until the end.
        steps: u64,
        /// The factor at the end.
        lowest: f64,
    },
    /// The same again and again, each time `growth` times as long (PyTorch's `CosineAnnealingWarmRestarts`).
    CosineRestarts {
        /// Steps of the first fall.
        steps: u64,
        /// The factor at the end of each.
        lowest: f64,
        /// How much longer the next fall takes.
        growth: u64,
    },
    /// Up from `start` to 1 in the first `rise` of all steps, then down to `end`, each half a cosine (PyTorch's
    /// `OneCycleLR`, without its momentum).
    OneCycle {
        /// All steps.
        steps: u64,
        /// Share of the steps that the rise takes; PyTorch's is 0.3.
        rise: f64,
        /// The first factor; PyTorch's is 1/25.
        start: f64,
        /// The last factor; PyTorch's is 1/25 · 1e-4.
        end: f64,
    },
}

impl Schedule {
    /// The learning rate of `step`, counted from 0.
    #[must_use]
    pub fn learning_rate(&self, base: f64, step: u64) -> f64 {
        match step.checked_sub(self.warm_up) {
            Some(step) => base * self.then.factor(step),
            None => base * self.then.factor(0) * wide(step + 1) / wide(self.warm_up),
        }
    }

    /// Checks every option.
    ///
    /// # Errors
    /// [`Error::Option`] for an invalid number.
    pub fn check(&self) -> Result<()> {
        let steps = |option: &str, steps: u64, least: u64| match steps >= least {
            true => Ok(()),
            false => Err(Error::option(option, &format!("at least {least}"), &steps)),
        };
        let factor = |option: &str, x: f64| match (0.0..=1.0).contains(&x) {
            true => Ok(()),
            false => Err(Error::option(option, "a number from 0 to 1", &x)),
        };
        match self.then {
            Decay::Constant => Ok(()),
            Decay::Step { every, factor: by } | Decay::Exponential { every, factor: by } => {
                steps("every", every, 1)?;
                factor("factor", by)
            }
            Decay::Cosine { steps: all, lowest } => {
                steps("steps", all, 1)?;
                factor("lowest", lowest)
            }
            Decay::CosineRestarts { steps: all, lowest, growth } => {
                steps("steps", all, 1)?;
                steps("growth", growth, 1)?;
                factor("lowest", lowest)
            }
            Decay::OneCycle { steps: all, rise, start, end } => {
                steps("steps", all, 1)?;
                factor("rise", rise)?;
                factor("start", start)?;
                factor("end", end)
            }
        }
    }
}

impl Decay {
    fn factor(self, step: u64) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Step { every, factor } => factor.powf(wide(step / every)),
            Self::Exponential { every, factor } => factor.powf(wide(step) / wide(every)),
            Self::Cosine { steps, lowest } => cosine(1.0, lowest, wide(step.min(steps)) / wide(steps)),
            Self::CosineRestarts { steps, lowest, growth } => {
                let (mut at, mut length) = (step, steps);
                if growth == 1 {
                    at %= length;
                }
                while at >= length {
                    at -= length;
                    length = length.saturating_mul(growth);
                }
                cosine(1.0, lowest, wide(at) / wide(length))
            }
            Self::OneCycle { steps, rise, start, end } => {
                let last = wide(steps) - 1.0;
                // PyTorch counts the rise so that its last step is the top.
                let top = (rise * wide(steps) - 1.0).max(0.0);
                let step = wide(step).min(last);
                if step < top {
                    cosine(start, 1.0, step / top)
                } else if last > top {
                    cosine(1.0, end, (step - top) / (last - top))
                } else {
                    1.0
                }
            }
        }
    }
}

/// Half a cosine from `from` at 0 to `to` at 1.
fn cosine(from: f64, to: f64, at: f64) -> f64 {
    to + (from - to) * (1.0 + (PI * at).cos()) / 2.0
}

#[expect(clippy::cast_precision_loss, reason = "a number of steps is far below 2^53")]
fn wide(steps: u64) -> f64 {
    steps as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schedule: Schedule, expected: &[(u64, f64)]) {
        schedule.check().expect("options that make sense");
        for &(step, rate) in expected {
            let got = schedule.learning_rate(2.0, step);
            assert!((got - 2.0 * rate).abs() < 1e-12, "{schedule:?} at {step}: {got}, expected {}", 2.0 * rate);
        }
    }

    #[test]
    fn rates_are_right_at_every_bend() {
        let then = |then| Schedule { warm_up: 0, then };
        check(Schedule::default(), &[(0, 1.0), (9, 1.0)]);
        let rising = Schedule { warm_up: 4, then: Decay::Step { every: 2, factor: 0.5 } };
        check(rising, &[(0, 0.25), (3, 1.0), (4, 1.0), (5, 1.0), (6, 0.5), (8, 0.25)]);
        check(then(Decay::Exponential { every: 1, factor: 0.5 }), &[(0, 1.0), (3, 0.125)]);
        check(then(Decay::Exponential { every: 2, factor: 0.25 }), &[(1, 0.5), (2, 0.25)]);
        let middle = 0.1 + 0.9 / 2.0;
        check(then(Decay::Cosine { steps: 10, lowest: 0.1 }), &[(0, 1.0), (5, middle), (10, 0.1), (u64::MAX, 0.1)]);
        let again = |growth| then(Decay::CosineRestarts { steps: 10, lowest: 0.1, growth });
        check(again(1), &[(0, 1.0), (5, middle), (10, 1.0), (25, middle), (10_000_000_000, 1.0)]);
        check(again(2), &[(0, 1.0), (5, middle), (10, 1.0), (20, middle), (30, 1.0), (50, middle), (70, 1.0)]);
        let cycle = then(Decay::OneCycle { steps: 21, rise: 11.0 / 21.0, start: 0.04, end: 4e-6 });
        check(cycle, &[(0, 0.04), (5, 0.52), (10, 1.0), (15, 0.500_002), (20, 4e-6), (99, 4e-6)]);
        check(then(Decay::OneCycle { steps: 1, rise: 0.3, start: 0.04, end: 0.0 }), &[(0, 1.0)]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for then in [
            Decay::Step { every: 0, factor: 0.5 },
            Decay::Exponential { every: 1, factor: f64::NAN },
            Decay::Cosine { steps: 0, lowest: 0.0 },
            Decay::CosineRestarts { steps: 1, lowest: 0.0, growth: 0 },
            Decay::OneCycle { steps: 5, rise: 1.5, start: 0.1, end: 0.1 },
        ] {
            assert!(Schedule { warm_up: 0, then }.check().is_err(), "{then:?}");
        }
    }
}
