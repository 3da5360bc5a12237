//! CTC on the device against the f64 reference.

use std::collections::BTreeMap;

use fastrand::Rng;
use gatefold::network::{Activation, DenseSpec, Init, LayerSpec, RecurrentSpec};
use gatefold::train::{Batch, Loss, Sgd, Targets, TrainOptions, Trainer};
use gatefold::unstable::reference::{CtcInput, Real, Reference, ctc};
use gatefold::{Device, Input, Network, PlanLimits, RunShape};

use super::training_example::{TOLERANCE, errors};
use crate::common::{device, spec};

const INPUTS: usize = 3;

struct Case {
    network: Network,
    shape: [usize; 3],
    features: Vec<f32>,
    lengths: Vec<usize>,
    labels: Vec<Vec<u32>>,
    blank: u32,
}

impl Case {
    /// T, B, C and most labels of a row.
    fn new([steps, batch, classes]: [usize; 3], most: usize, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let dense = DenseSpec {
            name: "dense".into(),
            in_features: 8,
            out_features: classes,
            bias: true,
            activation: Activation::Linear,
        };
        let layers =
            vec![LayerSpec::Lstm(RecurrentSpec::new("cell", INPUTS, 8)), LayerSpec::Dense(dense), LayerSpec::Softmax];
        let network = Network::initialized(spec(layers), Init::PyTorch, seed).unwrap();
        let blank = rng.u32(..u32::try_from(classes).unwrap());
        let mut labels: Vec<Vec<u32>> = Vec::new();
        for row in 0..batch {
            // No labels at all, labels that fill all steps, labels that repeat.
            let count = if row == 0 { 0 } else { rng.usize(1..=most.min(steps)) };
            let all = u32::try_from(classes).unwrap();
            labels.push((0..count).map(|_| (blank + rng.u32(1..all)) % all).collect());
        }
        let least = |labels: &[u32]| labels.len() + labels.windows(2).filter(|pair| pair[0] == pair[1]).count();
        for labels in &mut labels {
            while least(labels) > steps {
                labels.pop();
            }
        }
        let lengths = labels.iter().map(|labels| rng.usize(least(labels)..=steps)).collect();
        let features = (0..steps * batch * INPUTS).map(|_| 4.0 * rng.f32() - 2.0).collect();
        Self { network, shape: [steps, batch, classes], features, lengths, labels, blank }
    }

    fn batch(&self) -> Batch<'_> {
        let [steps, batch, _] = self.shape;
        let input = Input::features(&self.features, [steps, batch, INPUTS]).with_lengths(&self.lengths);
        Batch { input, targets: Targets::Labels(&self.labels), weights: None }
    }

    fn trainer(&self, device: &Device) -> Trainer {
        let options = TrainOptions::new(Loss::Ctc { blank: self.blank });
        let options = options.optimizer(Sgd { learning_rate: 0.5, ..Sgd::default() });
        Trainer::new(device, &self.network, options).unwrap()
    }

    /// The loss and the gradients of the reference.
    fn exact<F: Real>(&self) -> (f64, BTreeMap<String, Vec<f64>>) {
        let reference = Reference::<F>::new(&self.network);
        let input = self.batch().input;
        let forward = reference.forward(input, None).unwrap();
        let from = forward.stages.len() - 2;
        let labels: Vec<&[u32]> = self.labels.iter().map(Vec::as_slice).collect();
        let logits = &forward.stages[from][..];
        let lengths = &self.lengths;
        let found = ctc(CtcInput { logits, shape: self.shape, lengths, labels: &labels, blank: self.blank }).unwrap();
        let gradients = reference.gradients(input, None, &forward, (from, &found.d_logits)).unwrap().params;
        let wide = |(name, numbers): (String, Vec<F>)| (name, numbers.into_iter().map(Real::to_f64).collect());
        (found.value.to_f64(), gradients.into_iter().map(wide).collect())
    }

    /// The largest error of a gradient as a multiple of the tolerance.
    fn worst(&self, exact: &BTreeMap<String, Vec<f64>>) -> f64 {
        let of_single = self.exact::<f32>().1;
        let single = errors(&self.exact::<f64>().1, |name| of_single[name].clone());
        let got = self.trainer(device()).gradients(&self.batch()).unwrap();
        let found = errors(exact, |name| got[name].data().iter().map(|&x| x.into()).collect());
        found.into_iter().map(|(name, error)| error / (8.0 * single[&name]).max(TOLERANCE)).fold(0.0, f64::max)
    }
}

#[test]
fn losses_and_gradients_agree() {
    let mut cases: Vec<Case> = (0..25)
        .map(|seed| {
            let mut rng = Rng::with_seed(seed);
            Case::new([rng.usize(1..=20), rng.usize(1..=5), rng.usize(2..=9)], 8, seed)
        })
        .collect();
    // More classes and places than a workgroup has invocations; more steps than a dispatch takes.
    cases.push(Case::new([150, 3, 100], 60, 100));
    cases.push(Case::new([400, 2, 3], 150, 101));
    for (index, case) in cases.iter().enumerate() {
        let (loss, exact) = case.exact::<f64>();
        let trainer = case.trainer(device());
        let measured = trainer.evaluate(&case.batch()).unwrap();
        assert!((measured.loss - loss).abs() <= 4e-6 * loss.abs().max(1.0), "case {index}: {measured:?}, {loss}");
        let of_cpu = case.trainer(&Device::cpu()).evaluate(&case.batch()).unwrap();
        assert_eq!(measured.counts, of_cpu.counts, "case {index}");
        let worst = case.worst(&exact);
        assert!(worst <= 1.0, "case {index}, {:?}: {worst} tolerances off", case.shape);
    }
    // Negative control: one label more.
    let mut other = Case::new([12, 3, 5], 4, 7);
    let (_, exact) = other.exact::<f64>();
    assert!(other.worst(&exact) <= 1.0);
    other.labels[0].push((other.blank + 1) % 5);
    other.lengths[0] = 12;
    assert!(other.worst(&exact) > 100.0);
}

#[test]
fn steps_are_those_of_the_cpu() {
    let case = Case::new([14, 4, 6], 4, 3);
    let on = |device: &Device| {
        let mut trainer = case.trainer(device);
        let steps: Vec<_> = (0..30).map(|_| trainer.step(&case.batch()).unwrap()).collect();
        (steps, trainer.evaluate(&case.batch()).unwrap())
    };
    let (cpu, gpu) = (on(&Device::cpu()), on(device()));
    for (a, b) in cpu.0.iter().zip(&gpu.0) {
        assert!((a.loss - b.loss).abs() < 1e-4 * a.loss.max(1.0), "{a:?} {b:?}");
    }
    assert!(gpu.1.loss < 0.7 * gpu.0[0].loss, "{:?} {:?}", gpu.0[0], gpu.1);
    assert_eq!(on(device()).0, gpu.0, "the same bits");
}

#[test]
fn a_plan_has_room_for_as_many_labels_as_steps() {
    let network = Case::new([5, 2, 4], 2, 1).network;
    let bytes = |steps| {
        let options = TrainOptions::new(Loss::Ctc { blank: 0 });
        options.plan(&network, RunShape::new(steps, 2), &PlanLimits::default()).unwrap().bytes()
    };
    // T times as many places as steps.
    assert!(bytes(1000) - bytes(500) > 2 * 4 * (1000 * 2001 - 500 * 1001));
}
