//! Connectionist temporal classification (Graves et al. 2006): the loss of a sequence of labels that says nothing of their
//! times. All sums of probabilities are taken of logarithms, which are kept near 0: each step has its greatest one taken off, so
//! that f32 is as exact for long sequences as for short ones.

use super::loss::class;
use super::{Real, best};
use crate::base::error::{Error, Result};

/// What [`ctc`] reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CtcInput<'a, F> {
    /// Logits `[T, B, C]`.
    pub logits: &'a [F],
    /// T, B and C.
    pub shape: [usize; 3],
    /// Steps of each row that count, at most T, `[B]`.
    pub lengths: &'a [usize],
    /// The labels of each row, `[B]` of any number; none is the blank.
    pub labels: &'a [&'a [u32]],
    /// The class that stands for no label.
    pub blank: u32,
}

/// What [`ctc`] finds.
#[derive(Clone, Debug, PartialEq)]
pub struct CtcResult<F> {
    /// The mean over the rows of the loss divided by the number of labels, at least 1 (PyTorch's `mean`); a loss that is
    /// infinite counts as 0 (`zero_infinity`).
    pub value: F,
    /// The loss of each row `[B]`, infinite where its steps are too few for its labels.
    pub losses: Vec<F>,
    /// The gradient of `value` by the logits `[T, B, C]`; 0 where the loss is infinite and behind a row's length.
    pub d_logits: Vec<F>,
    /// Rows whose loss is infinite.
    pub infinite: usize,
}

/// The negative logarithm of the probability of each row's labels, over all ways to place them in its steps.
///
/// # Errors
/// [`Error::Shape`] for logits, lengths or labels of another size, [`Error::LabelOutOfRange`] for a label that is no class,
/// [`Error::Option`] for a blank that is no class or that is a label.
pub fn ctc<F: Real>(input: CtcInput<'_, F>) -> Result<CtcResult<F>> {
    let CtcInput { logits, shape: [steps, batch, classes], lengths, labels, blank } = input;
    let fits = |what: &str, expected: usize, got: usize| match expected == got {
        true => Ok(()),
        false => Err(Error::shape(what, expected.to_string(), got.to_string())),
    };
    fits("logits [T, B, C]", steps.saturating_mul(batch).saturating_mul(classes), logits.len())?;
    fits("lengths [B]", batch, lengths.len())?;
    fits("rows of labels [B]", batch, labels.len())?;
    if usize::try_from(blank).ok().is_none_or(|blank| blank >= classes) {
        return Err(Error::option("blank", &format!("a class below {classes}"), &blank));
    }
    let mut result = CtcResult {
        value: F::default(),
        losses: Vec::with_capacity(batch),
        d_logits: vec![F::default(); logits.len()],
        infinite: 0,
    };
    for (row, (&length, &labels)) in lengths.iter().zip(labels).enumerate() {
        if length > steps {
            return Err(Error::shape(format!("length of row {row}"), format!("at most {steps}"), length.to_string()));
        }
        let path = ctc_places(labels, (row, classes), blank)?;
        let of_step = |step: usize| (step * batch + row) * classes..(step * batch + row + 1) * classes;
        let log_p: Vec<Vec<F>> = (0..length).map(|step| log_softmax(&logits[of_step(step)])).collect();
        let lattice = Lattice { path: &path, log_p: &log_p };
        let (forward, taken_off) = lattice.forward();
        let loss = -(lattice.total(&forward) + taken_off);
        result.losses.push(loss);
        if loss.to_f64() == f64::INFINITY {
            result.infinite += 1;
            continue;
        }
        let share = F::count(batch) * F::count(labels.len().max(1));
        result.value += loss / share;
        let backward = lattice.backward();
        for (step, log_p) in log_p.iter().enumerate() {
            let d = &mut result.d_logits[of_step(step)];
            let through: Vec<F> = forward[step].iter().zip(&backward[step]).map(|(&x, &y)| x + y).collect();
            let all = log_sum(&through);
            for (&label, &through) in path.iter().zip(&through) {
                d[label] += -(through - all).exp();
            }
            for (d, &log_p) in d.iter_mut().zip(log_p) {
                *d = (*d + log_p.exp()) / share;
            }
        }
    }
    Ok(result)
}

/// The classes of a row's places: the blank, a label, the blank and so on.
pub(crate) fn ctc_places(labels: &[u32], (row, classes): (usize, usize), blank: u32) -> Result<Vec<usize>> {
    let of_blank = usize::try_from(blank).unwrap_or(usize::MAX);
    let mut path = vec![of_blank];
    for at in 0..labels.len() {
        if labels[at] == blank {
            return Err(Error::option("labels", "no blank", &format!("{blank} at {at} of row {row}")));
        }
        path.extend([class(labels, at, row, classes)?, of_blank]);
    }
    Ok(path)
}

/// Steps that a row needs for its labels: one each, and one for a blank between two that are equal.
#[must_use]
pub fn ctc_least_steps(labels: &[u32]) -> usize {
    labels.len() + labels.windows(2).filter(|pair| pair[0] == pair[1]).count()
}

/// The labels of each row `[B]` on its most probable path: the highest logit of each step (the first of equals), repetitions
/// taken once, without the blanks.
#[must_use]
pub fn ctc_best_path<F: Real>(
    logits: &[F],
    [_, batch, classes]: [usize; 3],
    lengths: &[usize],
    blank: u32,
) -> Vec<Vec<u32>> {
    let of_row = |(row, &length): (usize, &usize)| {
        let of_step = |step: usize| &logits[(step * batch + row) * classes..][..classes];
        let path = (0..length).map(|step| best(of_step(step), None).and_then(|class| u32::try_from(class).ok()));
        let mut labels: Vec<Option<u32>> = path.collect();
        labels.dedup();
        labels.into_iter().flatten().filter(|&label| label != blank).collect()
    };
    lengths.iter().enumerate().map(of_row).collect()
}

/// The places of one row: a blank, a label, a blank and so on, at each step.
struct Lattice<'a, F> {
    /// `[S]`, S = 2 labels + 1
    path: &'a [usize],
    /// `[T][C]`
    log_p: &'a [Vec<F>],
}

impl<F: Real> Lattice<'_, F> {
    /// Whether a label may follow another without the blank between them: only another label.
    fn skips(&self, place: usize) -> bool {
        place >= 2 && self.path[place] != self.path[0] && self.path[place] != self.path[place - 2]
    }

    /// `[T][S]`: the logarithm of the probability to be at a place after a step, that step included, without what was taken
    /// off in it and before; the second is that of all steps.
    fn forward(&self) -> (Vec<Vec<F>>, F) {
        let none = F::from_f32(f32::NEG_INFINITY);
        let (mut all, mut taken_off): (Vec<Vec<F>>, F) = (Vec::with_capacity(self.log_p.len()), F::default());
        for log_p in self.log_p {
            let at = |place: usize| {
                let Some(before) = all.last() else { return if place < 2 { F::default() } else { none } };
                let next = if place >= 1 { before[place - 1] } else { none };
                log_sum(&[before[place], next, if self.skips(place) { before[place - 2] } else { none }])
            };
            let mut now = (0..self.path.len()).map(|place| at(place) + log_p[self.path[place]]).collect::<Vec<F>>();
            taken_off += take_off(&mut now);
            all.push(now);
        }
        (all, taken_off)
    }

    /// `[T][S]`: the logarithm of the probability of all further steps from a place, this step left out, but for a number
    /// that all places of a step share.
    fn backward(&self) -> Vec<Vec<F>> {
        let none = F::from_f32(f32::NEG_INFINITY);
        let places = self.path.len();
        let end = |place: usize| if place + 2 >= places { F::default() } else { none };
        let mut now: Vec<F> = (0..places).map(end).collect();
        let mut all = vec![Vec::new(); self.log_p.len()];
        for step in (0..self.log_p.len()).rev() {
            let entered = |place: usize| now[place] + self.log_p[step][self.path[place]];
            let at = |place: usize| {
                let next = if place + 1 < places { entered(place + 1) } else { none };
                let skipped = place + 2 < places && self.skips(place + 2);
                log_sum(&[entered(place), next, if skipped { entered(place + 2) } else { none }])
            };
            let mut before = (0..places).map(at).collect::<Vec<F>>();
            take_off(&mut before);
            all[step] = std::mem::replace(&mut now, before);
        }
        all
    }

    /// The logarithm of the probability of all ways that end at the last label or the blank behind it.
    fn total(&self, forward: &[Vec<F>]) -> F {
        let none = F::from_f32(f32::NEG_INFINITY);
        match forward.last() {
            Some(last) => log_sum(&[last[last.len() - 1], if last.len() > 1 { last[last.len() - 2] } else { none }]),
            // Without a step there is one way to say nothing.
            None if self.path.len() == 1 => F::default(),
            None => none,
        }
    }
}

/// The greatest of logarithms, or NaN.
fn greatest<F: Real>(numbers: &[F]) -> F {
    let greater = |most: F, &x: &F| if x > most || x.to_f64().is_nan() { x } else { most };
    numbers.iter().fold(F::from_f32(f32::NEG_INFINITY), greater)
}

/// Takes the greatest off all and gives it; 0 where all are -inf.
fn take_off<F: Real>(numbers: &mut [F]) -> F {
    let most = greatest(numbers);
    if most.to_f64() == f64::NEG_INFINITY {
        return F::default();
    }
    numbers.iter_mut().for_each(|x| *x = *x - most);
    most
}

/// The logarithm of the sum of the exponentials; of -inf throughout -inf. NaN stays.
fn log_sum<F: Real>(numbers: &[F]) -> F {
    let most = greatest(numbers);
    if most.to_f64() == f64::NEG_INFINITY {
        return most;
    }
    most + numbers.iter().fold(F::default(), |sum, &x| sum + (x - most).exp()).ln()
}

/// The logarithm of the softmax of logits `[C]`.
fn log_softmax<F: Real>(logits: &[F]) -> Vec<F> {
    let most = greatest(logits);
    let sum = logits.iter().fold(F::default(), |sum, &x| sum + (x - most).exp()).ln();
    logits.iter().map(|&x| x - most - sum).collect()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::super::exact::{ExactGolden, error};
    use super::*;

    const GOLDEN: &[u8] = include_bytes!("../../tests/goldens/ctc.st");

    /// What the metadata say of a case.
    #[derive(Clone, Deserialize)]
    struct About {
        shape: [usize; 3],
        lengths: Vec<usize>,
        labels: Vec<Vec<u32>>,
        blank: u32,
    }

    #[derive(Clone)]
    struct Case {
        about: About,
        logits: Vec<f64>,
        /// PyTorch's
        value: f64,
        losses: Vec<f64>,
        d_logits: Vec<f64>,
    }

    fn cases() -> Vec<Case> {
        let golden = ExactGolden::new(GOLDEN);
        let case = |(name, about): (String, About)| {
            let of = |part: &str| golden.doubles(&format!("{name}.{part}"));
            Case { about, logits: of("logits"), value: of("value")[0], losses: of("losses"), d_logits: of("d_logits") }
        };
        golden.cases().into_iter().map(case).collect()
    }

    impl Case {
        fn run<F: Real>(&self, logits: &[F]) -> Result<CtcResult<F>> {
            let About { shape, lengths, labels, blank } = &self.about;
            let labels: Vec<&[u32]> = labels.iter().map(Vec::as_slice).collect();
            ctc(CtcInput { logits, shape: *shape, lengths, labels: &labels, blank: *blank })
        }
    }

    /// Labels that repeat, rows without labels, lengths, a blank that is not class 0, steps too few for the labels.
    #[test]
    fn pytorch_has_the_same() {
        let (mut infinite, cases) = (0, cases());
        assert_eq!(cases.len(), 7);
        for case in &cases {
            let got = case.run(&case.logits).expect("a loss");
            for (got, expected) in
                [(&got.losses, &case.losses), (&vec![got.value], &vec![case.value]), (&got.d_logits, &case.d_logits)]
            {
                assert!(error(got, expected) < 1e-12, "{:e}", error(got, expected));
            }
            let single: Vec<f32> = case.logits.iter().map(|x| x.to_f32()).collect();
            let of_single = case.run(&single).expect("a loss");
            let wide: Vec<f64> = of_single.d_logits.iter().copied().map(f64::from).collect();
            assert!(error(&wide, &case.d_logits) < 4e-6, "{:e}", error(&wide, &case.d_logits));
            assert_eq!(of_single.infinite, got.infinite);
            infinite += got.infinite;
            // Negative control: no labels.
            let mut other = case.clone();
            other.about.labels.iter_mut().for_each(Vec::clear);
            assert!(error(&other.run(&case.logits).expect("a loss").losses, &case.losses) > 1e-3);
        }
        assert_eq!(infinite, 2);
    }

    #[test]
    fn central_differences_agree() {
        for case in cases() {
            let got = case.run(&case.logits).expect("a loss").d_logits;
            let slope = |at: usize| {
                let value = |h: f64| {
                    let mut logits = case.logits.clone();
                    logits[at] += h;
                    case.run(&logits).expect("a loss").value
                };
                (value(1e-5) - value(-1e-5)) / 2e-5
            };
            let expected: Vec<f64> = (0..got.len()).map(slope).collect();
            assert!(error(&got, &expected) < 1e-6, "{:e}", error(&got, &expected));
        }
    }

    /// A row that cannot say its labels has an infinite loss and moves nothing; the others are as without it.
    #[test]
    fn an_infinite_loss_moves_nothing() {
        let logits: Vec<f64> = (0..3 * 2 * 3u8).map(|x| f64::from(x % 5)).collect();
        let input =
            CtcInput { logits: &logits, shape: [3, 2, 3], lengths: &[3, 3], labels: &[&[1, 1, 2], &[2]], blank: 0 };
        let got = ctc(input).expect("a loss");
        assert_eq!((got.infinite, got.losses[0]), (1, f64::INFINITY));
        assert!((got.value - got.losses[1] / 2.0).abs() < 1e-12);
        for (at, d) in got.d_logits.iter().enumerate() {
            assert_eq!(*d == 0.0, at / 3 % 2 == 0, "{at}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let input =
            CtcInput { logits: &[0.0f32; 12], shape: [2, 2, 3], lengths: &[2, 2], labels: &[&[1], &[2]], blank: 0 };
        let text = |input: CtcInput<'_, f32>| ctc(input).expect_err("an error").to_string();
        assert!(ctc(input).is_ok());
        assert!(text(CtcInput { logits: &[0.0; 11], ..input }).contains("expected 12, got 11"));
        assert!(text(CtcInput { lengths: &[2, 3], ..input }).contains("at most 2, got 3"));
        assert!(text(CtcInput { lengths: &[2], ..input }).contains("expected 2, got 1"));
        assert!(text(CtcInput { labels: &[&[1]], ..input }).contains("expected 2, got 1"));
        assert!(text(CtcInput { labels: &[&[1], &[3]], ..input }).contains("label 3 at row 1"));
        assert!(text(CtcInput { labels: &[&[1], &[0]], ..input }).contains("no blank"));
        assert!(text(CtcInput { blank: 3, ..input }).contains("a class below 3, got 3"));
    }
}
