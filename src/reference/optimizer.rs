//! Optimizers: the update of parameters from their gradient and from state that is kept between steps.
//!
//! All numbers lie in one flat slice, cut into parts. The scalars of a step are computed in f64 and rounded once.

mod rules;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::Real;
use crate::base::error::{Error, Result};
pub use rules::{Adagrad, Adam, AdamW, Convention, RmsProp, Rule, Sgd};

/// How a gradient is made smaller.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clip {
    /// All of it by one factor, so that its norm is at most `max`.
    GlobalNorm {
        /// The largest norm.
        max: f64,
        /// PyTorch's factor is `max / (norm + 1e-6)`, Keras' `max · min(1 / norm, 1 / max)`.
        convention: Convention,
    },
    /// Each part by a factor of its own.
    Norm {
        /// The largest norm.
        max: f64,
        /// PyTorch's factor is as above, Keras' `max / max(norm, max)`.
        convention: Convention,
    },
    /// Each number.
    Value {
        /// The largest absolute value.
        max: f64,
    },
}

/// An update rule with weight decay and clipping.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Optimizer {
    /// How a step is made.
    pub rule: Rule,
    /// λ of `p *= 1 - lr λ` before the step: AdamW's, and Keras' `weight_decay` of any optimizer.
    pub weight_decay: f64,
    /// λ of `g += λ p` behind clipping: PyTorch's `weight_decay` of any optimizer but AdamW.
    pub l2: f64,
    /// How the gradient is made smaller.
    pub clip: Option<Clip>,
}

macro_rules! optimizer_from {
    ($($rule:ident),*) => {$(
        impl From<$rule> for Optimizer {
            fn from(rule: $rule) -> Self {
                Self { rule: Rule::$rule(rule), weight_decay: 0.0, l2: 0.0, clip: None }
            }
        }
    )*};
}

optimizer_from!(Sgd, Adam, RmsProp, Adagrad);

impl From<AdamW> for Optimizer {
    fn from(AdamW { adam, weight_decay }: AdamW) -> Self {
        Self { weight_decay, ..adam.into() }
    }
}

/// Consecutive parameters with the same settings: a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Where they lie.
    pub range: Range<usize>,
    /// Factor of the learning rate.
    pub rate: f64,
    /// Whether `weight_decay` and `l2` act on them.
    pub decays: bool,
    /// Whether they are frozen; their gradient is not read and is not part of a norm.
    pub frozen: bool,
}

impl Part {
    /// A part with default settings.
    #[must_use]
    pub fn new(range: Range<usize>) -> Self {
        Self { range, rate: 1.0, decays: true, frozen: false }
    }
}

/// What is kept between steps.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimizerState<F> {
    /// Steps that were made.
    pub steps: u64,
    /// Steps that were skipped.
    pub skipped: u64,
    /// Steps skipped since the last that was made.
    pub skipped_in_a_row: u64,
    /// The momentum or the mean of g; the mean or the sum of g²; RMSprop's mean of g. Empty where [`Rule::keeps`] says so.
    pub moments: [Vec<F>; 3],
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport<F> {
    /// The norm of the gradient before clipping.
    pub norm: F,
    /// Whether nothing was done, because the norm is not finite.
    pub skipped: bool,
}

/// The scalars of a step for one part.
struct Scalars<F> {
    rate: F,
    eps: F,
    keep: F,
    l2: F,
}

/// The numbers of a step for one part.
pub(crate) struct PartStep<F> {
    scalars: Scalars<F>,
    /// What clipping multiplies the gradient by.
    factor: F,
}

impl Optimizer {
    /// What is kept before the first step.
    #[must_use]
    pub fn state<F: Real>(&self, len: usize) -> OptimizerState<F> {
        let initial = match self.rule {
            Rule::Adagrad(adagrad) => F::from_f64(adagrad.initial),
            _ => F::default(),
        };
        let moments = self.rule.keeps().map(|kept| if kept { vec![initial; len] } else { Vec::new() });
        OptimizerState { steps: 0, skipped: 0, skipped_in_a_row: 0, moments }
    }

    /// Checks every option.
    ///
    /// # Errors
    /// [`Error::Option`] for an invalid number.
    pub fn check(&self) -> Result<()> {
        let below_one = |option: &str, x: f64| match (0.0..1.0).contains(&x) {
            true => Ok(()),
            false => Err(Error::option(option, "a number from 0 to below 1", &x)),
        };
        let from_zero = |option: &str, x: f64| match x >= 0.0 && x.is_finite() {
            true => Ok(()),
            false => Err(Error::option(option, "a finite number from 0 on", &x)),
        };
        from_zero("learning_rate", self.rule.learning_rate())?;
        from_zero("weight_decay", self.weight_decay)?;
        from_zero("l2", self.l2)?;
        if let Some(Clip::GlobalNorm { max, .. } | Clip::Norm { max, .. } | Clip::Value { max }) = self.clip
            && !(max > 0.0 && max.is_finite())
        {
            return Err(Error::option("clip", "a finite number above 0", &max));
        }
        match self.rule {
            Rule::Sgd(sgd) => {
                below_one("momentum", sgd.momentum)?;
                if sgd.nesterov && sgd.momentum == 0.0 {
                    return Err(Error::option("nesterov", "a momentum above 0", &sgd.momentum));
                }
                Ok(())
            }
            Rule::Adam(adam) => {
                below_one("beta1", adam.beta1)?;
                below_one("beta2", adam.beta2)?;
                from_zero("eps", adam.eps)
            }
            Rule::RmsProp(rms) => {
                below_one("rho", rms.rho)?;
                below_one("momentum", rms.momentum)?;
                from_zero("eps", rms.eps)
            }
            Rule::Adagrad(adagrad) => {
                from_zero("initial", adagrad.initial)?;
                from_zero("eps", adagrad.eps)
            }
        }
    }

    /// One step over all `parts` of `params` with their `gradient`; `learning_rate` is the schedule's for this step.
    ///
    /// A gradient whose norm is not finite changes nothing but the counts of skipped steps.
    pub fn step<F: Real>(
        &self,
        learning_rate: f64,
        parts: &[Part],
        params: &mut [F],
        gradient: &[F],
        state: &mut OptimizerState<F>,
    ) -> StepReport<F> {
        let squares = |part: &Part| sum_of(square_blocks(&gradient[part.range.clone()]).map(square_sum));
        let norm = sum_of(parts.iter().filter(|part| !part.frozen).map(squares)).sqrt();
        if !self.begin(norm, state) {
            return StepReport { norm, skipped: true };
        }
        for part in parts.iter().filter(|part| !part.frozen) {
            let range = part.range.clone();
            let step = self.part_step(learning_rate, part, state.steps, norm, squares(part).sqrt());
            let moments = state.moments.each_mut().map(|moment| moment.get_mut(range.clone()).unwrap_or_default());
            self.update(&step, &mut params[range.clone()], &gradient[range], moments);
        }
        StepReport { norm, skipped: false }
    }

    /// Counts a step of this norm; false if it is skipped.
    pub(crate) fn begin<F: Real>(&self, norm: F, state: &mut OptimizerState<F>) -> bool {
        if !norm.to_f64().is_finite() {
            state.skipped += 1;
            state.skipped_in_a_row += 1;
            return false;
        }
        state.steps += 1;
        state.skipped_in_a_row = 0;
        true
    }

    /// The numbers of step `step` for a part whose gradient has the norm `own`, where that of all is `norm`.
    pub(crate) fn part_step<F: Real>(
        &self,
        learning_rate: f64,
        part: &Part,
        step: u64,
        norm: F,
        own: F,
    ) -> PartStep<F> {
        let scalars = self.scalars(learning_rate * part.rate, part.decays, step);
        PartStep { scalars, factor: self.clip_factor(norm, own) }
    }

    /// Moves some parameters of a part by their gradient; of the moments those that are kept are as many.
    #[inline(always)]
    pub(crate) fn update<F: Real>(
        &self,
        PartStep { scalars, factor }: &PartStep<F>,
        params: &mut [F],
        gradient: &[F],
        mut moments: [&mut [F]; 3],
    ) {
        let of_value = match self.clip {
            Some(Clip::Value { max }) => Some([F::from_f64(-max), F::from_f64(max)]),
            _ => None,
        };
        if let (Rule::Adam(adam), None) = (self.rule, of_value) {
            let [mean, square, _] = moments;
            adam.update_all(scalars, *factor, params, gradient, [mean, square]);
            return;
        }
        for (at, (p, &g)) in params.iter_mut().zip(gradient).enumerate() {
            let mut g = g * *factor;
            if let Some([low, high]) = of_value {
                g = super::activations::clamp(g, low, high);
            }
            let kept = [0, 1, 2].map(|moment: usize| moments[moment].get(at).copied().unwrap_or_default());
            let (moved, kept) = self.rule.update(scalars, *p, g, kept);
            *p = moved;
            for (moment, kept) in moments.iter_mut().zip(kept) {
                if let Some(moment) = moment.get_mut(at) {
                    *moment = kept;
                }
            }
        }
    }

    fn scalars<F: Real>(&self, learning_rate: f64, decays: bool, step: u64) -> Scalars<F> {
        let [weight_decay, l2] = [self.weight_decay, self.l2].map(|x| if decays { x } else { 0.0 });
        let (rate, eps) = match self.rule {
            Rule::Sgd(_) => (learning_rate, 0.0),
            Rule::RmsProp(rms) => (learning_rate, rms.eps),
            Rule::Adagrad(adagrad) => (learning_rate, adagrad.eps),
            Rule::Adam(adam) => {
                #[expect(clippy::cast_precision_loss, reason = "a number of steps is far below 2^53")]
                let [of_mean, of_square] = [adam.beta1, adam.beta2].map(|beta| 1.0 - beta.powf(step as f64));
                let eps = match adam.convention {
                    Convention::PyTorch => adam.eps * of_square.sqrt(),
                    Convention::Keras => adam.eps,
                };
                (learning_rate * of_square.sqrt() / of_mean, eps)
            }
        };
        let [rate, eps, keep, l2] = [rate, eps, 1.0 - learning_rate * weight_decay, l2].map(F::from_f64);
        Scalars { rate, eps, keep, l2 }
    }

    fn clip_factor<F: Real>(&self, global: F, own: F) -> F {
        let smaller = |a: F, b: F| if a < b { a } else { b };
        let pytorch = |norm: F, max: f64| smaller(F::ONE, F::from_f64(max) / (norm + F::from_f64(1e-6)));
        match self.clip {
            None | Some(Clip::Value { .. }) => F::ONE,
            Some(Clip::GlobalNorm { max, convention: Convention::PyTorch }) => pytorch(global, max),
            Some(Clip::GlobalNorm { max, convention: Convention::Keras }) => {
                F::from_f64(max) * smaller(F::ONE / global, F::from_f64(1.0 / max))
            }
            Some(Clip::Norm { max, convention: Convention::PyTorch }) => pytorch(own, max),
            Some(Clip::Norm { max, convention: Convention::Keras }) => smaller(F::ONE, F::from_f64(max) / own),
        }
    }
}

impl Adam {
    /// What [`Rule::update`] does to each parameter, over slices that a compiler turns into vectors.
    #[inline(always)]
    fn update_all<F: Real>(
        &self,
        scalars: &Scalars<F>,
        factor: F,
        params: &mut [F],
        gradient: &[F],
        [mean, square]: [&mut [F]; 2],
    ) {
        let moments = mean.iter_mut().zip(square);
        for ((p, &g), (m, v)) in params.iter_mut().zip(gradient).zip(moments) {
            let g = g * factor + scalars.l2 * *p;
            *p = *p * scalars.keep - self.moved(scalars, g, m, v);
        }
    }

    /// What Adam subtracts from a parameter with the gradient `g`. Updates the moments `m` and `v`.
    #[inline(always)]
    fn moved<F: Real>(&self, scalars: &Scalars<F>, g: F, m: &mut F, v: &mut F) -> F {
        let new = |beta: f64| F::from_f64(1.0 - beta);
        *m += (g - *m) * new(self.beta1);
        *v = F::from_f64(self.beta2) * *v + new(self.beta2) * g * g;
        scalars.rate * *m / (v.sqrt() + scalars.eps)
    }
}

/// Numbers whose squares are added up apart.
const SQUARES: usize = 8192;

/// The blocks of a part's gradient whose squares are added up apart.
pub(crate) fn square_blocks<F>(part: &[F]) -> std::slice::Chunks<'_, F> {
    part.chunks(SQUARES)
}

/// The sum of the squares of a block: 16 sums, so that a compiler makes vectors of them, and then their sum.
#[inline(always)]
pub(crate) fn square_sum<F: Real>(block: &[F]) -> F {
    let mut sums = [F::default(); 16];
    for numbers in block.chunks(sums.len()) {
        for (sum, &x) in sums.iter_mut().zip(numbers) {
            *sum += x * x;
        }
    }
    sum_of(sums)
}

/// The sum, the first number first.
#[inline(always)]
pub(crate) fn sum_of<F: Real>(numbers: impl IntoIterator<Item = F>) -> F {
    numbers.into_iter().fold(F::default(), |sum, x| sum + x)
}

impl Rule {
    /// The parameter `p` and what is kept, behind a step with the gradient `g`.
    fn update<F: Real>(&self, scalars: &Scalars<F>, p: F, g: F, [mut m, mut v, mut mean]: [F; 3]) -> (F, [F; 3]) {
        let &Scalars { rate, eps, keep, l2 } = scalars;
        // Of a moving average; the part of the new number.
        let new = |beta: f64| F::from_f64(1.0 - beta);
        let g = g + l2 * p;
        let p = p * keep;
        let moved = match self {
            Self::Sgd(sgd) => {
                let momentum = F::from_f64(sgd.momentum);
                let (inside, outside) = sgd.convention.rates(rate);
                m = momentum * m + inside * g;
                outside * if sgd.nesterov { inside * g + momentum * m } else { m }
            }
            Self::Adam(adam) => adam.moved(scalars, g, &mut m, &mut v),
            Self::RmsProp(rms) => {
                v = F::from_f64(rms.rho) * v + new(rms.rho) * g * g;
                let mut square = v;
                if rms.centered {
                    mean += (g - mean) * new(rms.rho);
                    square = v - mean * mean;
                    // Rounding may bring it below 0, where there is no root.
                    square = if square < F::default() { F::default() } else { square };
                }
                let quotient = g / rms.convention.divisor(square, eps);
                let (inside, outside) = rms.convention.rates(rate);
                m = F::from_f64(rms.momentum) * m + inside * quotient;
                outside * m
            }
            Self::Adagrad(adagrad) => {
                v += g * g;
                rate * g / adagrad.convention.divisor(v, eps)
            }
        };
        (p - moved, [m, v, mean])
    }
}

impl Convention {
    /// What is multiplied before the momentum, and behind it.
    fn rates<F: Real>(self, rate: F) -> (F, F) {
        match self {
            Self::PyTorch => (F::ONE, rate),
            Self::Keras => (rate, F::ONE),
        }
    }

    fn divisor<F: Real>(self, square: F, eps: F) -> F {
        match self {
            Self::PyTorch => square.sqrt() + eps,
            Self::Keras => (square + eps).sqrt(),
        }
    }
}

#[cfg(test)]
mod tests;
