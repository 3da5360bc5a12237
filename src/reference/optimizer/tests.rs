//! Trajectories against `tests/goldens/generate_optimizers.py`, whose formulas are the frameworks' own.

use super::super::exact::ExactGolden;
use super::super::{Decay, Schedule};
use super::*;

const GOLDEN: &[u8] = include_bytes!("../../../tests/goldens/optimizers.st");
const P: usize = 24;

fn golden(name: &str) -> Vec<f64> {
    ExactGolden::new(GOLDEN).doubles(name)
}

fn cases() -> Vec<(String, Optimizer)> {
    let mut cases = Vec::new();
    for convention in [Convention::PyTorch, Convention::Keras] {
        let keras = convention == Convention::Keras;
        let sgd = if keras { Sgd::keras() } else { Sgd::default() };
        let adam = if keras { Adam::keras() } else { Adam::default() };
        let rms = if keras { RmsProp::keras() } else { RmsProp::default() };
        let adagrad = if keras { Adagrad::keras() } else { Adagrad::default() };
        let adamw = AdamW { weight_decay: 0.02, ..if keras { AdamW::keras() } else { AdamW::default() } };
        let momentum = Sgd { momentum: 0.9, ..sgd };
        let clipped = |clip, rule: Optimizer| Optimizer { clip: Some(clip), ..rule };
        let global = Clip::GlobalNorm { max: 1.0, convention };
        let all: [(&str, Optimizer); 16] = [
            ("sgd", sgd.into()),
            ("sgd_momentum", momentum.into()),
            ("sgd_nesterov", Sgd { nesterov: true, ..momentum }.into()),
            ("sgd_l2", Optimizer { l2: 0.03, ..momentum.into() }),
            ("adam", adam.into()),
            ("adam_l2", Optimizer { l2: 0.03, ..adam.into() }),
            ("adam_global_norm", clipped(global, adam.into())),
            ("sgd_global_norm", clipped(global, sgd.into())),
            ("sgd_norm", clipped(Clip::Norm { max: 0.8, convention }, sgd.into())),
            ("sgd_value", clipped(Clip::Value { max: 0.3 }, sgd.into())),
            ("adamw", adamw.into()),
            ("rmsprop", rms.into()),
            ("rmsprop_centered", RmsProp { centered: true, ..rms }.into()),
            ("rmsprop_momentum", RmsProp { momentum: 0.9, ..rms }.into()),
            ("rmsprop_both", RmsProp { momentum: 0.9, centered: true, ..rms }.into()),
            ("adagrad", adagrad.into()),
        ];
        let framework = if keras { "keras" } else { "pytorch" };
        cases.extend(all.map(|(name, optimizer)| (format!("{framework}.{name}"), optimizer)));
    }
    cases
}

fn parts() -> [Part; 3] {
    let biases = Part { rate: 2.0, decays: false, ..Part::new(12..18) };
    [Part::new(0..12), biases, Part { frozen: true, ..Part::new(18..P) }]
}

const SCHEDULE: Schedule = Schedule { warm_up: 4, then: Decay::Cosine { steps: 16, lowest: 0.1 } };

fn narrow<F: Real>(numbers: &[f64]) -> Vec<F> {
    numbers.iter().map(|&x| F::from_f64(x)).collect()
}

/// The largest difference from the golden relative to its largest number.
fn worst<F: Real>(case: &str, optimizer: &Optimizer) -> f64 {
    optimizer.check().expect("options that make sense");
    let expected = golden(case);
    let mut params: Vec<F> = narrow(&golden("start"));
    let mut state = optimizer.state(P);
    let mut path = Vec::new();
    for (step, gradient) in (0u64..).zip(golden("gradients").chunks_exact(P)) {
        let rate = SCHEDULE.learning_rate(0.05, step);
        optimizer.step(rate, &parts(), &mut params, &narrow(gradient), &mut state);
        if [0, 4, 19].contains(&step) {
            path.extend(params.iter().map(|x| x.to_f64()));
        }
    }
    assert_eq!((state.steps, path.len()), (20, expected.len()));
    let largest = expected.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
    path.iter().zip(&expected).fold(0.0f64, |worst, (x, y)| worst.max((x - y).abs())) / largest
}

#[test]
fn trajectories_are_the_frameworks() {
    for (case, optimizer) in cases() {
        let (wide, narrow) = (worst::<f64>(&case, &optimizer), worst::<f32>(&case, &optimizer));
        assert!(wide < 1e-12, "{case}: {wide:e}");
        let bound = if case.contains("rmsprop") { 1e-4 } else { 1e-5 };
        assert!(narrow < bound, "{case} in f32: {narrow:e}");
    }
}

#[test]
fn the_schedule_is_the_goldens() {
    for (step, expected) in (0u64..).zip(golden("rates")) {
        assert!((SCHEDULE.learning_rate(0.05, step) - expected).abs() < 1e-15, "step {step}");
    }
}

/// Each fault is one wrong option, with an error beyond the tolerance of f32. The exception is Keras' Adagrad: its eps of
/// 1e-7 is so small compared with a sum that starts at 0.1 that a wrong eps is detected in f64 only.
#[test]
fn wrong_formulas_fail() {
    let other = |convention| if convention == Convention::Keras { Convention::PyTorch } else { Convention::Keras };
    let mut seen = 0;
    for (case, optimizer) in cases() {
        let mut wrong = optimizer;
        match &mut wrong.rule {
            Rule::Adam(adam) => adam.convention = other(adam.convention),
            Rule::RmsProp(rms) => rms.convention = other(rms.convention),
            Rule::Adagrad(adagrad) => adagrad.convention = other(adagrad.convention),
            Rule::Sgd(sgd) if sgd.momentum > 0.0 => sgd.convention = other(sgd.convention),
            _ => continue,
        }
        let (error, least) = (worst::<f64>(&case, &wrong), if case == "keras.adagrad" { 1e-9 } else { 2e-4 });
        assert!(error > least, "{case}: {error:e}");
        seen += 1;
    }
    assert_eq!(seen, 2 * (3 + 4 + 4 + 1));
    let of = |rule: Optimizer, case: &str| worst::<f64>(case, &rule);
    assert!(of(Adam { eps: 1e-7, ..Adam::default() }.into(), "pytorch.adam") > 1e-3, "wrong eps");
    assert!(of(Adam::default().into(), "pytorch.adam_l2") > 1e-3, "no decay");
    assert!(of(Sgd::default().into(), "pytorch.sgd_norm") > 1e-3, "not clipped");
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing() {
    for (case, optimizer) in cases() {
        let start: Vec<f64> = golden("start");
        let mut params = start.clone();
        let mut state = optimizer.state(P);
        for bad in [f64::NAN, f64::INFINITY, 1e200] {
            let before = state.moments.clone();
            let mut gradient = vec![0.5; P];
            gradient[3] = bad;
            let report = optimizer.step(0.05, &parts(), &mut params, &gradient, &mut state);
            assert!(report.skipped && params == start && state.moments == before, "{case}");
        }
        assert_eq!((state.steps, state.skipped, state.skipped_in_a_row), (0, 3, 3));
        // The gradient of frozen parameters is not read.
        let mut gradient = vec![0.5; P];
        gradient[20] = f64::NAN;
        let report = optimizer.step(0.05, &parts(), &mut params, &gradient, &mut state);
        assert!(!report.skipped && (report.norm - (18.0f64 * 0.25).sqrt()).abs() < 1e-12, "{case}");
        assert_eq!((state.steps, state.skipped, state.skipped_in_a_row), (1, 3, 0));
        assert_eq!(params[18..], start[18..], "{case}");
    }
}

#[test]
fn a_gradient_of_zero_stays_finite() {
    for (case, optimizer) in cases() {
        let mut params = vec![0.5f32; P];
        let mut state = optimizer.state(P);
        let optimizer = Optimizer { weight_decay: 0.0, l2: 0.0, ..optimizer };
        for _ in 0..3 {
            optimizer.step(0.05, &parts(), &mut params, &[0.0; P], &mut state);
        }
        assert_eq!(params, [0.5; P], "{case}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let of = |rule: Optimizer| rule.check().expect_err("an error").to_string();
    assert!(of(Adam { beta2: 1.0, ..Adam::default() }.into()).contains("beta2"));
    assert!(of(Sgd { nesterov: true, ..Sgd::default() }.into()).contains("nesterov"));
    assert!(of(Sgd { learning_rate: f64::NAN, ..Sgd::default() }.into()).contains("learning_rate"));
    assert!(of(RmsProp { rho: -0.1, ..RmsProp::default() }.into()).contains("rho"));
    assert!(of(Adagrad { initial: -1.0, ..Adagrad::default() }.into()).contains("initial"));
    let clip = Some(Clip::Value { max: 0.0 });
    assert!(of(Optimizer { clip, ..Adam::default().into() }).contains("clip"));
}
