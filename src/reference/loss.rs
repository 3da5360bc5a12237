//! Losses: their value, the gradient of the network's output, and the number of right answers.

use serde::{Deserialize, Serialize};

use super::activations::softplus;
use super::metrics::most_probable;
use super::{Real, best, sigmoid};
use crate::base::error::{Error, Result};

/// What training minimizes. Each loss is that of one of M rows: one step of one sequence, or one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Loss {
    /// `-sum(q log p)` with `p = softmax(z)` of the row's logits z `[C]`.
    CrossEntropy,
    /// The mean of `-y log p - (1 - y) log(1 - p)` with `p = sigmoid(z)` over the row's logits z `[N]`.
    BinaryCrossEntropy,
    /// The mean of `(z - y)²`.
    Mse,
    /// The mean of `|z - y|`.
    Mae,
    /// The mean of `(z - y)² / 2` where `|z - y|` is at most delta, else of `delta (|z - y| - delta / 2)`.
    Huber {
        /// Where the parabola ends.
        delta: f32,
    },
    /// Connectionist temporal classification over the logits of all steps of a sequence: [`ctc`](super::ctc), the mean over
    /// the sequences of the loss divided by the number of labels.
    Ctc {
        /// The class that stands for no label.
        blank: u32,
    },
}

/// The expected output of a network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Targets<'a, F> {
    /// A class of every row `[M]`; 0 or 1 of every logit `[M, N]` for [`Loss::BinaryCrossEntropy`].
    Classes(&'a [u32]),
    /// A number for every number of the output `[M, N]`; probabilities for the cross-entropies.
    Values(&'a [F]),
    /// The labels of each sequence `[B]`, any number of them, for [`Loss::Ctc`].
    Labels(&'a [Vec<u32>]),
}

/// What the sum of the weighted losses of all rows is divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// The sum of the weights, as PyTorch's `mean`: a class's weight counts where [`Loss::CrossEntropy`] has classes as
    /// targets. Where the sum is 0, so are the loss and its gradient.
    #[default]
    WeightedMean,
    /// The number of rows, those of weight 0 included, as Keras' `sum_over_batch_size`.
    Count,
}

/// Options of a loss; the default is none of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossOptions<'a, F> {
    /// ε: a target q becomes `(1 - ε) q + ε / C`, with 2 for C where a logit stands for two classes.
    pub label_smoothing: f32,
    /// A factor of each class's term `q log p`, `[C]`; `[2]` for [`Loss::BinaryCrossEntropy`]. With smoothing they are
    /// PyTorch's; Keras' are weights of rows.
    pub class_weights: Option<&'a [F]>,
    /// A factor of each row `[M]`. A row of weight 0 is masked: neither its output nor its target is read.
    pub sample_weights: Option<&'a [F]>,
    /// What the sum is divided by.
    pub reduction: Reduction,
}

/// How many answers are right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Right ones.
    pub correct: u64,
    /// All that count.
    pub counted: u64,
}

impl Counts {
    /// The share of right ones; 0 where none counts.
    #[must_use]
    pub fn share(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a share need not be exact")]
        let share = self.correct as f64 / self.counted.max(1) as f64;
        share
    }

    pub(super) fn add(&mut self, correct: bool) {
        self.correct += u64::from(correct);
        self.counted += 1;
    }
}

/// What [`loss`] finds.
#[derive(Clone, Debug, PartialEq)]
pub struct LossResult<F> {
    /// The loss.
    pub value: F,
    /// The gradient of the output `[M, N]`.
    pub d_output: Vec<F>,
    /// Rows of weight above 0 whose highest logit is the target's (the first of equals), or logits whose sign says the
    /// target; 0 of 0 for the other losses.
    pub counts: Counts,
}

/// The loss of `output` `[M, width]`, its gradient and the right answers.
///
/// # Errors
/// [`Error::LabelOutOfRange`] for a class that does not exist, [`Error::Shape`] for targets or weights of another size,
/// [`Error::Option`] for an option that the loss does not have or whose value is invalid.
pub fn loss<F: Real>(
    loss: Loss,
    output: &[F],
    width: usize,
    targets: Targets<'_, F>,
    options: &LossOptions<'_, F>,
) -> Result<LossResult<F>> {
    let mut d_output = Vec::new();
    let (value, counts) = loss_into(loss, output, width, targets, options, &mut d_output)?;
    Ok(LossResult { value, d_output, counts })
}

/// As [`loss`]; `d_output` becomes the gradient of the output.
pub(crate) fn loss_into<F: Real>(
    loss: Loss,
    output: &[F],
    width: usize,
    targets: Targets<'_, F>,
    options: &LossOptions<'_, F>,
    d_output: &mut Vec<F>,
) -> Result<(F, Counts)> {
    let rows = check(loss, output.len(), width, targets, options)?;
    let zero = F::default();
    let (mut sum, mut divisor, mut counts) = (zero, zero, Counts::default());
    d_output.clear();
    d_output.resize(output.len(), zero);
    for (row, (z, d_row)) in output.chunks_exact(width).zip(d_output.chunks_exact_mut(width)).enumerate() {
        let weight = options.sample_weights.map_or(F::ONE, |weights| weights[row]);
        if weight == zero {
            continue;
        }
        let (of_row, of_class) = match loss {
            Loss::CrossEntropy => cross_entropy(z, row, targets, options, d_row, &mut counts)?,
            Loss::BinaryCrossEntropy => (binary(z, row, targets, options, d_row, &mut counts)?, F::ONE),
            _ => (regression(loss, z, row, targets, d_row), F::ONE),
        };
        sum += weight * of_row;
        divisor += weight * of_class;
        for d in d_row {
            *d = *d * weight;
        }
    }
    if options.reduction == Reduction::Count {
        divisor = F::count(rows);
    }
    if divisor == zero {
        d_output.fill(zero);
        return Ok((zero, counts));
    }
    for d in d_output {
        *d = *d / divisor;
    }
    Ok((sum / divisor, counts))
}

/// How much each row of an output of `numbers` numbers counts in the loss, its weight divided as the loss is, `[M]`; and
/// how many answers count.
///
/// # Errors
/// As [`loss`].
pub fn row_factors<F: Real>(
    loss: Loss,
    numbers: usize,
    width: usize,
    targets: Targets<'_, F>,
    options: &LossOptions<'_, F>,
) -> Result<(Vec<F>, u64)> {
    let rows = check(loss, numbers, width, targets, options)?;
    let zero = F::default();
    let (mut factors, mut divisor, mut counted) = (vec![zero; rows], zero, 0);
    for (row, factor) in factors.iter_mut().enumerate() {
        *factor = options.sample_weights.map_or(F::ONE, |weights| weights[row]);
        if *factor == zero {
            continue;
        }
        let of_class = match (loss, targets) {
            (Loss::CrossEntropy, Targets::Classes(labels)) => {
                let class = class(labels, row, row, width)?;
                options.class_weights.map_or(F::ONE, |weights| weights[class])
            }
            (Loss::BinaryCrossEntropy, Targets::Classes(labels)) => {
                for at in row * width..(row + 1) * width {
                    class(labels, at, row, 2)?;
                }
                F::ONE
            }
            _ => F::ONE,
        };
        divisor += *factor * of_class;
        counted += match loss {
            Loss::CrossEntropy => 1,
            Loss::BinaryCrossEntropy => width as u64,
            _ => 0,
        };
    }
    if options.reduction == Reduction::Count {
        divisor = F::count(rows);
    }
    for factor in &mut factors {
        *factor = if divisor == zero { zero } else { *factor / divisor };
    }
    Ok((factors, counted))
}

/// The number of rows, if everything fits.
fn check<F: Real>(
    loss: Loss,
    numbers: usize,
    width: usize,
    targets: Targets<'_, F>,
    options: &LossOptions<'_, F>,
) -> Result<usize> {
    if width == 0 || !numbers.is_multiple_of(width) {
        return Err(Error::shape("output", format!("rows of {width} numbers"), numbers.to_string()));
    }
    let rows = numbers / width;
    let fits = |what: &str, expected: usize, got: usize| match expected == got {
        true => Ok(()),
        false => Err(Error::shape(what, expected.to_string(), got.to_string())),
    };
    let classes = match loss {
        Loss::CrossEntropy => Some(width),
        Loss::BinaryCrossEntropy => Some(2),
        Loss::Ctc { .. } => return Err(Error::option("loss", "one of rows; CTC is one of sequences", &"CTC")),
        _ => None,
    };
    match targets {
        Targets::Labels(_) => {
            return Err(Error::option("targets", "one for each row", &"labels of sequences, which CTC takes"));
        }
        Targets::Values(values) => fits("targets", numbers, values.len())?,
        Targets::Classes(_) if classes.is_none() => {
            return Err(Error::option("targets", "a number for every number of the output", &"classes"));
        }
        Targets::Classes(labels) => {
            fits("labels", if loss == Loss::CrossEntropy { rows } else { numbers }, labels.len())?;
        }
    }
    let smoothing = options.label_smoothing;
    if !(0.0..=1.0).contains(&smoothing) || (smoothing != 0.0 && classes.is_none()) {
        let expected = if classes.is_none() { "0 without classes" } else { "a number from 0 to 1" };
        return Err(Error::option("label_smoothing", expected, &smoothing));
    }
    if let Loss::Huber { delta } = loss
        && (delta.is_nan() || delta <= 0.0)
    {
        return Err(Error::option("delta", "a number above 0", &delta));
    }
    for (option, weights, expected) in [
        ("class_weights", options.class_weights, classes.unwrap_or(0)),
        ("sample_weights", options.sample_weights, rows),
    ] {
        let Some(weights) = weights else { continue };
        fits(option, expected, weights.len())?;
        if let Some(at) = weights.iter().position(|&x| !(x.to_f64() >= 0.0 && x.to_f64().is_finite())) {
            let got = format!("{} at {at}", weights[at]);
            return Err(Error::option(option, "finite numbers from 0 on", &got));
        }
    }
    Ok(rows)
}

/// The class that stands at `at`, if it is one of `classes`.
pub(super) fn class(labels: &[u32], at: usize, row: usize, classes: usize) -> Result<usize> {
    let label = labels[at];
    let class = usize::try_from(label).ok().filter(|&class| class < classes);
    class.ok_or(Error::LabelOutOfRange { label, row, classes })
}

/// The loss of a row and the weight of its class; `d_row` becomes its gradient.
fn cross_entropy<F: Real>(
    z: &[F],
    row: usize,
    targets: Targets<'_, F>,
    options: &LossOptions<'_, F>,
    d_row: &mut [F],
    counts: &mut Counts,
) -> Result<(F, F)> {
    let (zero, classes) = (F::default(), z.len());
    let class_weight = |class: usize| options.class_weights.map_or(F::ONE, |weights| weights[class]);
    let (target, of_class) = match targets {
        Targets::Classes(labels) => {
            let target = class(labels, row, row, classes)?;
            (target, class_weight(target))
        }
        Targets::Values(q) => (best(&q[row * classes..][..classes], None).unwrap_or(0), F::ONE),
        Targets::Labels(_) => return Ok((zero, zero)),
    };
    let hard = F::ONE - F::from_f32(options.label_smoothing);
    let soft = F::from_f32(options.label_smoothing) / F::count(classes);
    // Times the weight of the class.
    let q = |class: usize| {
        let q = match targets {
            Targets::Classes(_) if class == target => F::ONE,
            Targets::Classes(_) => zero,
            Targets::Values(q) => q[row * classes + class],
            Targets::Labels(_) => zero,
        };
        class_weight(class) * (hard * q + soft)
    };
    let found = most_probable(z);
    counts.add(found == Some(target));
    let highest = z.get(found.unwrap_or(0)).copied().unwrap_or_default();
    let (mut sum, mut of_q) = (zero, zero);
    for (class, (d, &z)) in d_row.iter_mut().zip(z).enumerate() {
        *d = (z - highest).exp();
        sum += *d;
        of_q += q(class);
    }
    let mut value = zero;
    for (class, (d, &z)) in d_row.iter_mut().zip(z).enumerate() {
        let q = q(class);
        // A logit of -inf has no part in a loss that does not ask for it.
        if q != zero {
            value += q * (sum.ln() - (z - highest));
        }
        *d = *d / sum * of_q - q;
    }
    Ok((value, of_class))
}

/// The loss of a row; `d_row` becomes its gradient.
fn binary<F: Real>(
    z: &[F],
    row: usize,
    targets: Targets<'_, F>,
    options: &LossOptions<'_, F>,
    d_row: &mut [F],
    counts: &mut Counts,
) -> Result<F> {
    let (zero, half, width) = (F::default(), F::from_f32(0.5), F::count(z.len()));
    let smoothing = F::from_f32(options.label_smoothing);
    let weight = |class: usize| options.class_weights.map_or(F::ONE, |weights| weights[class]);
    let mut sum = zero;
    let first = row * z.len();
    for (at, (&z, d)) in (first..).zip(z.iter().zip(d_row)) {
        let y = match targets {
            Targets::Classes(labels) => F::count(class(labels, at, row, 2)?),
            Targets::Values(values) => values[at],
            Targets::Labels(_) => zero,
        };
        counts.add((z > zero) == (y > half));
        let one = weight(1) * ((F::ONE - smoothing) * y + smoothing * half);
        let other = weight(0) * ((F::ONE - smoothing) * (F::ONE - y) + smoothing * half);
        sum += one * softplus(-z) + other * softplus(z);
        *d = (other * sigmoid(z) - one * sigmoid(-z)) / width;
    }
    Ok(sum / width)
}

/// The loss of a row; `d_row` becomes its gradient.
fn regression<F: Real>(loss: Loss, z: &[F], row: usize, targets: Targets<'_, F>, d_row: &mut [F]) -> F {
    let (zero, half, width) = (F::default(), F::from_f32(0.5), F::count(z.len()));
    let Targets::Values(values) = targets else { return zero };
    let mut sum = zero;
    for ((&z, &y), d) in z.iter().zip(&values[row * z.len()..]).zip(d_row) {
        let error = z - y;
        let sign = sign(error);
        let (value, slope) = match loss {
            Loss::Mae => (error.abs(), sign),
            Loss::Huber { delta } if error.abs() > F::from_f32(delta) => {
                let delta = F::from_f32(delta);
                (delta * (error.abs() - half * delta), delta * sign)
            }
            Loss::Huber { .. } => (half * error * error, error),
            _ => (error * error, error + error),
        };
        sum += value;
        *d = slope / width;
    }
    sum / width
}

/// The sign: 1 or -1; 0 for 0, NaN for NaN.
fn sign<F: Real>(x: F) -> F {
    if x > F::default() {
        F::ONE
    } else if x < F::default() {
        -F::ONE
    } else {
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: usize = 5;
    const WIDTH: usize = 4;

    struct Numbers {
        output: Vec<f64>,
        labels: Vec<u32>,
        bits: Vec<u32>,
        values: Vec<f64>,
        probabilities: Vec<f64>,
        class_weights: Vec<f64>,
        sample_weights: Vec<f64>,
    }

    fn numbers() -> Numbers {
        let mut random = fastrand::Rng::with_seed(7);
        let mut many = |count: usize, low: f64, high: f64| -> Vec<f64> {
            (0..count).map(|_| low + (high - low) * random.f64()).collect()
        };
        let (output, values) = (many(ROWS * WIDTH, -3.0, 3.0), many(ROWS * WIDTH, -3.0, 3.0));
        let mut probabilities = Vec::new();
        super::super::softmax(&many(ROWS * WIDTH, -1.0, 1.0), WIDTH, false, &mut probabilities);
        let (class_weights, mut sample_weights) = (many(WIDTH, 0.2, 1.2), many(ROWS, 0.1, 1.0));
        sample_weights[3] = 0.0;
        let labels = vec![2, 0, 3, 1, 2];
        let bits = (0..20).map(|at| u32::from(at % 3 == 1)).collect();
        Numbers { output, labels, bits, values, probabilities, class_weights, sample_weights }
    }

    const LOSSES: [Loss; 6] = [
        Loss::CrossEntropy,
        Loss::BinaryCrossEntropy,
        Loss::Mse,
        Loss::Mae,
        Loss::Huber { delta: 1.0 },
        Loss::Huber { delta: 0.3 },
    ];

    #[test]
    fn central_differences_agree() {
        let n = numbers();
        let mut seen = 0;
        for kind in LOSSES {
            let classes = matches!(kind, Loss::CrossEntropy | Loss::BinaryCrossEntropy);
            let dense = Targets::Values(if classes { &n.probabilities } else { &n.values });
            let labels = Targets::Classes(if kind == Loss::CrossEntropy { &n.labels } else { &n.bits });
            let weights = if kind == Loss::CrossEntropy { &n.class_weights } else { &n.class_weights[..2] };
            for targets in [dense, labels].into_iter().take(1 + usize::from(classes)) {
                for bits in 0..16 {
                    let on = |bit: u32| bits & (1 << bit) != 0;
                    if !classes && (on(0) || on(1)) {
                        continue;
                    }
                    let options = LossOptions {
                        label_smoothing: if on(0) { 0.125 } else { 0.0 },
                        class_weights: on(1).then_some(weights),
                        sample_weights: on(2).then_some(&n.sample_weights),
                        reduction: if on(3) { Reduction::Count } else { Reduction::WeightedMean },
                    };
                    let value = |at: usize, h: f64| {
                        let mut output = n.output.clone();
                        output[at] += h;
                        loss(kind, &output, WIDTH, targets, &options).expect("a loss").value
                    };
                    let got = loss(kind, &n.output, WIDTH, targets, &options).expect("a loss").d_output;
                    let expected: Vec<f64> =
                        (0..got.len()).map(|at| (value(at, 1e-6) - value(at, -1e-6)) / 2e-6).collect();
                    let largest = expected.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
                    let worst = |sign: f64| {
                        got.iter().zip(&expected).fold(0.0f64, |worst, (x, y)| worst.max((sign * x - y).abs()))
                            / largest
                    };
                    assert!(worst(1.0) < 1e-6, "{kind:?} {options:?}: {:e}", worst(1.0));
                    assert!(worst(-1.0) > 1.0, "a wrong sign passed");
                    if on(2) {
                        assert_eq!(got[3 * WIDTH..4 * WIDTH], [0.0; WIDTH], "the masked row");
                    }
                    seen += 1;
                }
            }
        }
        assert_eq!(seen, 4 * 16 + 4 * 4);
    }

    /// PyTorch's `cross_entropy(z, y, weight, label_smoothing)`, written out.
    #[test]
    fn weights_and_smoothing_are_pytorchs() {
        let n = numbers();
        let smoothing = 0.125;
        let options =
            LossOptions { label_smoothing: smoothing, class_weights: Some(&n.class_weights), ..Default::default() };
        let got = loss(Loss::CrossEntropy, &n.output, WIDTH, Targets::Classes(&n.labels), &options).expect("a loss");
        let smoothing = f64::from(smoothing);
        let (mut hard, mut soft, mut divisor) = (0.0, 0.0, 0.0);
        for (z, &y) in n.output.chunks_exact(WIDTH).zip(&n.labels) {
            let log_sum = z.iter().map(|z| z.exp()).sum::<f64>().ln();
            let y = usize::try_from(y).expect("a label");
            hard -= n.class_weights[y] * (z[y] - log_sum);
            soft -= z.iter().zip(&n.class_weights).map(|(z, weight)| weight * (z - log_sum)).sum::<f64>();
            divisor += n.class_weights[y];
        }
        let expected = ((1.0 - smoothing) * hard + smoothing / 4.0 * soft) / divisor;
        assert!((got.value - expected).abs() < 1e-12, "{} and {expected}", got.value);
        // Keras' way weighs the whole row.
        let weights: Vec<f64> = n.labels.iter().map(|&y| n.class_weights[y as usize]).collect();
        let options = LossOptions { label_smoothing: 0.125, sample_weights: Some(&weights), ..Default::default() };
        let keras = loss(Loss::CrossEntropy, &n.output, WIDTH, Targets::Classes(&n.labels), &options).expect("a loss");
        assert!((keras.value - expected).abs() > 1e-3, "both ways differ");
    }

    #[test]
    fn wide_logits_stay_finite() {
        let logits = [1e4f32, -1e4, 0.0, -1e4, 1e4, 0.0];
        let options = LossOptions::default();
        let wrong = loss(Loss::CrossEntropy, &logits, 3, Targets::Classes(&[1, 1]), &options).expect("a loss");
        assert_eq!((wrong.value, wrong.counts), (1e4, Counts { correct: 1, counted: 2 }));
        assert_eq!(wrong.d_output, [0.5, -0.5, 0.0, 0.0, 0.0, 0.0]);
        let bits = [1, 1, 1, 0, 0, 0];
        let got = loss(Loss::BinaryCrossEntropy, &logits, 6, Targets::Classes(&bits), &options).expect("a loss");
        assert!((got.value - (2e4 + 2.0 * 2f32.ln()) / 6.0).abs() < 1e-3, "{}", got.value);
        assert_eq!(got.d_output, [0.0, -1.0, -0.5, 0.0, 1.0, 0.5].map(|d| d / 6.0));
        assert_eq!(got.counts, Counts { correct: 3, counted: 6 });
        let far =
            loss(Loss::CrossEntropy, &[0.0, f64::NEG_INFINITY], 2, Targets::Classes(&[0]), &LossOptions::default());
        assert_eq!(far.expect("a loss").value, 0.0);
        let nan = loss(Loss::CrossEntropy, &[0.0, f64::NAN], 2, Targets::Classes(&[0]), &LossOptions::default());
        assert!(nan.expect("a loss").value.is_nan(), "NaN is not hidden");
    }

    #[test]
    fn a_masked_row_is_not_looked_at() {
        let output = [1.0, 2.0, f64::NAN, 0.0];
        let options = LossOptions { sample_weights: Some(&[2.0, 0.0]), ..Default::default() };
        let got = loss(Loss::CrossEntropy, &output, 2, Targets::Classes(&[1, u32::MAX]), &options).expect("a loss");
        let alone = loss(Loss::CrossEntropy, &output[..2], 2, Targets::Classes(&[1]), &LossOptions::default());
        let alone = alone.expect("a loss");
        assert_eq!(
            (got.value, &got.d_output[..2], &got.d_output[2..]),
            (alone.value, &alone.d_output[..], &[0.0; 2][..])
        );
        let options = LossOptions { sample_weights: Some(&[0.0, 0.0]), ..Default::default() };
        let got = loss(Loss::Mse, &output, 2, Targets::Values(&output), &options).expect("a loss");
        assert_eq!((got.value, got.d_output), (0.0, vec![0.0; 4]));
    }

    #[test]
    fn errors_name_what_was_given() {
        let text = |kind, targets: Targets<'_, f64>, options: &LossOptions<'_, f64>| {
            loss(kind, &[0.0; 6], 3, targets, options).expect_err("an error").to_string()
        };
        let none = LossOptions::default();
        let labels = Targets::Classes(&[2, 3]);
        assert_eq!(text(Loss::CrossEntropy, labels, &none), "label 3 at row 1: expected a class below 3");
        assert_eq!(text(Loss::CrossEntropy, Targets::Classes(&[1]), &none), "labels: expected 2, got 1");
        assert_eq!(text(Loss::Mse, Targets::Values(&[0.0; 3]), &none), "targets: expected 6, got 3");
        assert!(text(Loss::Mse, labels, &none).contains("got classes"));
        let bits = Targets::Classes(&[0, 1, 2, 0, 0, 0]);
        assert_eq!(text(Loss::BinaryCrossEntropy, bits, &none), "label 2 at row 0: expected a class below 2");
        let smoothed = LossOptions { label_smoothing: 1.5, ..none };
        assert!(text(Loss::CrossEntropy, labels, &smoothed).contains("label_smoothing"));
        let weighted = LossOptions { sample_weights: Some(&[1.0, -1.0]), ..none };
        assert!(text(Loss::CrossEntropy, labels, &weighted).contains("-1 at 1"));
        assert!(text(Loss::Huber { delta: 0.0 }, Targets::Values(&[0.0; 6]), &none).contains("delta"));
    }
}
