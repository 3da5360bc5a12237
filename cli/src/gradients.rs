//! `gatefold verify --gradients`: gradients as training takes them against the f64 reference, and that against
//! differences of the loss.

use std::collections::BTreeMap;

use gatefold::network::LayerSpec;
use gatefold::train::{Batch, Loss, Targets, TrainOptions, Trainer};
use gatefold::unstable::reference::{Forward, LossOptions, LossResult, Reference, loss, random};
use gatefold::{Device, DeviceChoice, Network, RandomInput, Tensor};

use crate::Result;
use crate::args::VerifyArgs;
use crate::report::{FAILED, Report};
use crate::source;
use crate::table::{Table, bad, bold, good, left, right};
use crate::units::{count, shape};
use crate::verify::{Drawn, random as drawn};

/// Largest error as a share of a tensor's largest gradient.
pub const TOLERANCE: f64 = 4e-6;
/// Numbers of a tensor whose gradient is compared with a difference: the largest, and others that are not 0.
const SAMPLE: u32 = 4;
/// Distances of the differences, of which the better counts, since one may cross a kink. Weights are f32.
const DISTANCES: [f32; 2] = [1.0 / 65_536.0, 1.0 / 524_288.0];
/// Gradients below it are too small for a difference in f64: its error is a share of this at least.
const LEAST: f64 = 1e-3;

/// An input with targets.
struct Case {
    input: RandomInput,
    /// What the input is.
    origin: String,
    loss: Loss,
    /// The stage that the loss reads, and its width.
    from: usize,
    width: usize,
    /// Of every row of the output, `[T, B]`; of one of the two kinds.
    classes: Vec<u32>,
    values: Vec<f32>,
}

impl Case {
    /// Random classes before a softmax, else random numbers.
    fn new(args: &VerifyArgs, network: &Network) -> Result<Self> {
        let Drawn { input, origin } = drawn(args, network)?;
        let stages = network.stages();
        let last = stages.len() - 1;
        let is_softmax = last > 0 && stages[last].is_softmax();
        let from = if is_softmax { last - 1 } else { last };
        let width = stages[from].out_features;
        let numbers = Reference::<f32>::new(network).forward(input.as_input(), None)?.stages[from].len();
        let draw = |at: usize| Ok::<u32, std::num::TryFromIntError>(random(args.seed, 1, u32::try_from(at)?));
        let (mut classes, mut values) = (Vec::new(), Vec::new());
        if is_softmax {
            let class = |at| Ok::<u32, std::num::TryFromIntError>(draw(at)? % u32::try_from(width)?);
            classes = (0..numbers / width).map(class).collect::<std::result::Result<_, _>>()?;
        } else {
            #[expect(clippy::cast_precision_loss, reason = "a random number")]
            let value = |at| Ok::<f32, std::num::TryFromIntError>(draw(at)? as f32 / 2_147_483_648.0 - 1.0);
            values = (0..numbers).map(value).collect::<std::result::Result<_, _>>()?;
        }
        let loss = if is_softmax { Loss::CrossEntropy } else { Loss::Mse };
        Ok(Self { input, origin, loss, from, width, classes, values })
    }

    /// The loss of the f64 reference, and its run.
    fn run(&self, reference: &Reference<f64>) -> Result<(Forward<f64>, LossResult<f64>)> {
        let forward = reference.forward(self.input.as_input(), None)?;
        let values: Vec<f64> = self.values.iter().copied().map(f64::from).collect();
        let targets =
            if values.is_empty() { Targets::Classes(&self.classes[..]) } else { Targets::Values(&values[..]) };
        let result = loss(self.loss, &forward.stages[self.from], self.width, targets, &LossOptions::default())?;
        Ok((forward, result))
    }

    fn exact(&self, network: &Network) -> Result<BTreeMap<String, Vec<f64>>> {
        let reference = Reference::<f64>::new(network);
        let (forward, result) = self.run(&reference)?;
        Ok(reference.gradients(self.input.as_input(), None, &forward, (self.from, &result.d_output))?.params)
    }

    /// As training takes them, with the targets in the order of the network's output.
    fn trained(&self, device: &Device, network: &Network) -> Result<BTreeMap<String, Tensor>> {
        let mut options = TrainOptions::new(self.loss);
        let norms = network.spec().layers.iter().filter(|layer| matches!(layer, LayerSpec::BatchNorm(_)));
        options.frozen = norms.map(|layer| layer.name().to_owned()).collect();
        let trainer = Trainer::new(device, network, options)?;
        let rows = self.classes.len().max(self.values.len() / self.width);
        let by_batch = network.batch_first() && network.output_is_sequence();
        let [outer, inner] = rows_of(&self.input);
        // `[B, T]` of `[T, B]`.
        let order: Vec<usize> = match by_batch && rows == outer * inner {
            true => (0..outer).flat_map(|row| (0..inner).map(move |step| step * outer + row)).collect(),
            false => (0..rows).collect(),
        };
        let classes: Vec<u32> = order.iter().filter_map(|&at| self.classes.get(at)).copied().collect();
        let values: Vec<f32> =
            order.iter().flat_map(|&at| self.values.chunks(self.width).nth(at)).flatten().copied().collect();
        let targets = if values.is_empty() { Targets::Classes(&classes[..]) } else { Targets::Values(&values[..]) };
        let input = self.input.as_input().with_axes(network.input_axes());
        Ok(trainer.gradients(&Batch { input, targets, weights: None })?)
    }

    /// The largest error of some numbers of `gradient`, as a share, against differences of the loss.
    fn difference(&self, network: &Network, name: &str, gradient: &[f64]) -> Result<f64> {
        let tensor = &network.tensors()[name];
        let most = largest(gradient).max(LEAST);
        let mut worst: f64 = 0.0;
        for index in sample(gradient) {
            let mut least = f64::INFINITY;
            for distance in DISTANCES {
                let end = |step: f32| -> Result<(f64, f64)> {
                    let mut data = tensor.data().to_vec();
                    data[index] += step * data[index].abs().max(1.0);
                    let place = data[index];
                    let mut tensors = network.tensors().clone();
                    tensors.insert(name.to_owned(), Tensor::new(tensor.shape().to_vec(), data)?);
                    let changed = Network::new(network.spec().clone(), tensors)?;
                    Ok((place.into(), self.run(&Reference::new(&changed))?.1.value))
                };
                let ((left, low), (right, high)) = (end(-distance)?, end(distance)?);
                least = least.min(((high - low) / (right - left) - gradient[index]).abs() / most);
            }
            worst = worst.max(least);
        }
        Ok(worst)
    }
}

/// Which numbers of a gradient are compared: most of an embedding's are 0 whatever is wrong.
fn sample(gradient: &[f64]) -> Vec<usize> {
    let used: Vec<usize> = (0..gradient.len()).filter(|&at| gradient[at] != 0.0).collect();
    let Some(most) = used.iter().copied().max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs())) else {
        return vec![0];
    };
    let others = (1..SAMPLE).map(|draw| used[random(u64::from(draw), 2, 0) as usize % used.len()]);
    std::iter::once(most).chain(others).collect()
}

fn largest(numbers: &[f64]) -> f64 {
    numbers.iter().fold(0.0, |most, g| most.max(g.abs()))
}

/// The largest error of a gradient; of one that is not a number, infinity.
fn largest_error(gradient: &[f32], exact: &[f64]) -> f64 {
    let errors = gradient.iter().zip(exact).map(|(&got, exact)| (f64::from(got) - exact).abs());
    errors.fold(0.0, |worst: f64, error| if error.is_nan() { f64::INFINITY } else { worst.max(error) })
}

/// The same as a share of the largest gradient.
pub fn share_of_largest(gradient: &[f32], exact: &[f64]) -> f64 {
    let error = largest_error(gradient, exact);
    if error == 0.0 { 0.0 } else { error / largest(exact) }
}

/// Compares the gradients of `network` with those of `reference`, which is the same but for a planted fault.
pub fn run(args: &VerifyArgs, choice: &DeviceChoice, network: &Network, reference: &Network) -> Result<Report> {
    let device = source::for_training(choice)?;
    let case = Case::new(args, network)?;
    let (trained, exact) = (case.trained(&device, network)?, case.exact(reference)?);
    let columns = ["shape", "largest", "max error", "of largest", "by differences"].map(right);
    let mut table = Table::new([left("gradient of")].into_iter().chain(columns).chain([left("result")]));
    let mut failed = 0;
    for (name, tensor) in &trained {
        let Some(exact) = exact.get(name) else { continue };
        let most = largest(exact);
        let error = largest_error(tensor.data(), exact);
        let share = share_of_largest(tensor.data(), exact);
        let difference = case.difference(reference, name, exact)?;
        let passed = share <= TOLERANCE && difference <= TOLERANCE;
        failed += usize::from(!passed);
        table.row([
            name.clone(),
            shape(tensor.shape()),
            format!("{most:.1e}"),
            format!("{error:.1e}"),
            format!("{share:.1e}"),
            format!("{difference:.1e}"),
            if passed { good("pass") } else { bad("FAIL") },
        ]);
    }
    let all = count(trained.len(), "tensor");
    let kind = if case.loss == Loss::CrossEntropy { "cross-entropy" } else { "mean squared error" };
    let origin = format!("{kind} of random targets, {}", case.origin);
    let verdict = match failed {
        0 => good(&format!("pass: the gradients of all of {all} within {TOLERANCE:.0e} of the largest of each")),
        _ => bad(&format!("FAIL: the gradients of {failed} of {all} beyond {TOLERANCE:.0e} of the largest of each")),
    };
    let name = source::name(args.model.as_deref());
    let on = device.info();
    let mut report = Report::new(format!("{} on {on}, {origin}\n\n{table}{verdict}\n", bold(&name)));
    if failed > 0 {
        report.code = FAILED;
    }
    Ok(report)
}

/// The two outer sizes of an input, the first of several.
fn rows_of(input: &RandomInput) -> [usize; 2] {
    match input {
        RandomInput::Tokens(_, shape) => *shape,
        RandomInput::Features(_, [outer, inner, _]) => [*outer, *inner],
        RandomInput::Rows(_, [batch, _]) => [*batch, 1],
        RandomInput::Several(first, _) => rows_of(first),
    }
}

#[cfg(test)]
mod tests {
    use gatefold::NetworkSpec;
    use gatefold::network::{FORMAT, RecurrentSpec};

    use super::*;

    /// Differences agree with the reference's gradients, and do not where a number of these is off by a thousandth.
    #[test]
    fn differences_see_a_wrong_gradient() -> Result<()> {
        let layers = vec![LayerSpec::Gru(RecurrentSpec::new("gru", 2, 3))];
        let network = Network::random(NetworkSpec { format: FORMAT, layers, text: None, labels: Vec::new() }, 1)?;
        let input = RandomInput::new(&network, 4, 2, 3)?;
        let values = (0..24u8).map(|at| f32::from(at) / 12.0 - 1.0).collect();
        let case =
            Case { input, origin: String::new(), loss: Loss::Mse, from: 0, width: 3, classes: Vec::new(), values };
        for (name, mut gradient) in case.exact(&network)? {
            assert!(case.difference(&network, &name, &gradient)? <= TOLERANCE, "{name}");
            let most = sample(&gradient)[0];
            gradient[most] *= 1.001;
            assert!(case.difference(&network, &name, &gradient)? > TOLERANCE, "{name}");
        }
        assert_eq!(sample(&[0.0, -2.0, 1.0, 0.0])[0], 1);
        assert_eq!(sample(&[0.0; 3]), [0]);
        Ok(())
    }
}
