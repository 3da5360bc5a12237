//! Dropout inside recurrent layers, as Keras has it: of what a layer reads and of h, with masks that stay for all steps of a
//! row. And zoneout, whose units are drawn at every step.
//!
//! A mask that stays multiplies the columns of W or U just as well, so each row is run by the reference with weights of its
//! own. That is slower than the passes of the CPU device.

use serde::{Deserialize, Serialize};

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;

use super::dropout::{Draw, Drops};
use crate::base::Real;
use crate::base::error::{Error, Result};
use crate::data::state::{LayerState, State};
use crate::host::{StageBackward, StageRunner};
use crate::network::{Cell, LayerSpec, Network, RecurrentStage, Role, Stage, StageRounding};
use crate::plan::train::RecurrentSite;
use crate::reference::{
    DirectionWeights, LevelGradients, LevelShape, StageInput, StageWeights, ZoneoutMode, level, level_backward,
};

/// Dropout inside a recurrent layer, with one mask for all steps of a row (Gal & Ghahramani 2016). With a rate of the state
/// every gate has masks of its own, for h and for the input; without it all gates share that of the input (Keras' `dropout`
/// and `recurrent_dropout`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecurrentDropout {
    /// The layer's name.
    pub layer: String,
    /// The share of the input that is dropped, from 0 to below 1.
    pub input: f32,
    /// The share of h that is dropped before it is multiplied by U, from 0 to below 1. What a gate keeps of h is not.
    pub state: f32,
}

impl RecurrentDropout {
    /// Dropout of the input and of h in `layer`.
    pub fn new(layer: impl Into<String>, input: f32, state: f32) -> Self {
        Self { layer: layer.into(), input, state }
    }

    /// The layer's position among the recurrent layers of `network`.
    pub(super) fn position(&self, network: &Network) -> Result<usize> {
        if let Some(rate) = [self.input, self.state].into_iter().find(|rate| !(0.0..1.0).contains(rate)) {
            return Err(Error::network(&self.layer, "recurrent dropout", "a rate from 0 to below 1", &rate));
        }
        let position = recurrent_layer(network, &self.layer, "recurrent dropout")?;
        let cell = network.recurrent_layers().nth(position).map(|(cell, _)| cell);
        if cell == Some(Cell::Slstm) {
            let expected = "none in an sLSTM";
            return Err(Error::network(&self.layer, "recurrent dropout", expected, &self.input.max(self.state)));
        }
        if self.state > 0.0 && network.recurrent_layers().nth(position).is_some_and(|(cell, _)| cell.scans()) {
            let expected = "0, since the cell takes no product with h";
            return Err(Error::network(&self.layer, "recurrent dropout of the state", expected, &self.state));
        }
        Ok(position)
    }
}

/// The position of `layer` among the recurrent layers of `network`; `option` names the layer.
pub(super) fn recurrent_layer(network: &Network, layer: &str, option: &str) -> Result<usize> {
    let names: Vec<&str> =
        network.spec().layers.iter().filter(|layer| layer.recurrent().is_some()).map(LayerSpec::name).collect();
    names
        .iter()
        .position(|name| *name == layer)
        .ok_or_else(|| Error::network(layer, option, format!("a recurrent layer ({})", names.join(", ")), &layer))
}

/// Which of a level's two products a mask is of.
#[derive(Clone, Copy)]
enum Factor {
    Input,
    State,
}

/// Runs the levels that have a dropout or zoneout; all others `inner` runs, if there is one.
pub(super) struct MaskedLevels<'a, F> {
    inner: Option<&'a dyn StageRunner<F>>,
    network: &'a Network,
    drops: &'a Drops,
    /// Of the step.
    seed: u64,
    /// The layer's state before each level that was run.
    starts: RefCell<BTreeMap<usize, LayerState<F>>>,
}

impl<'a, F: Real> MaskedLevels<'a, F> {
    pub fn new(inner: Option<&'a dyn StageRunner<F>>, network: &'a Network, drops: &'a Drops, seed: u64) -> Self {
        Self { inner, network, drops, seed, starts: RefCell::default() }
    }

    fn of<'b>(&'b self, stage: &'b Stage) -> Option<(&'b RecurrentStage, Option<&'b RecurrentDropout>)> {
        let level = stage.recurrent()?;
        let dropout = self.drops.recurrent.iter().find(|(layer, _)| *layer == level.layer).map(|(_, dropout)| dropout);
        (dropout.is_some() || self.drops.zoneout && !level.zoneout.is_none()).then_some((level, dropout))
    }

    /// How zoneout chooses the units of a row of a stage.
    fn zoneout(&self, stage: usize, batch: usize, row: usize) -> ZoneoutMode {
        match self.drops.zoneout {
            true => ZoneoutMode::Drawn { seed: self.seed, stage, batch, row },
            false => ZoneoutMode::Mean,
        }
    }

    /// The masks of one row `[G, width]`.
    fn masks(
        &self,
        dropout: &RecurrentDropout,
        (index, direction, row): (usize, usize, usize),
        factor: Factor,
        [gates, width]: [usize; 2],
    ) -> Vec<F> {
        let rate = match factor {
            Factor::Input => dropout.input,
            Factor::State => dropout.state,
        };
        let of_gate = |gate: usize| if dropout.state > 0.0 { gate } else { 0 };
        let site = RecurrentSite::draws(index, direction, matches!(factor, Factor::State));
        let draw = Draw::new(self.seed, site, rate);
        let places = (0..gates).flat_map(|gate| (0..width).map(move |k| (row * gates + of_gate(gate)) * width + k));
        places.map(|place| F::from_f32(draw.factor(place))).collect()
    }

    /// The masks of a row for W and U, by direction.
    fn of_row(
        &self,
        dropout: &RecurrentDropout,
        (index, row): (usize, usize),
        stage: &Stage,
        level: &RecurrentStage,
    ) -> RowMasks<F> {
        let gates = level.cell().gates();
        let masks = |direction| {
            [(Factor::Input, stage.in_features), (Factor::State, level.state_size())]
                .map(|(factor, width)| self.masks(dropout, (index, direction, row), factor, [gates, width]))
        };
        RowMasks { gates, hidden: level.hidden_size, directions: (0..level.directions.len()).map(masks).collect() }
    }
}

/// The masks of one row.
struct RowMasks<F> {
    /// G
    gates: usize,
    /// H
    hidden: usize,
    /// By direction those of the input `[G, I]` and of h `[G, K]`.
    directions: Vec<[Vec<F>; 2]>,
}

impl<F: Real> RowMasks<F> {
    /// The weights of all directions as the row has them.
    fn weights(&self, directions: &[DirectionWeights<F>]) -> Vec<DirectionWeights<F>> {
        let masked = |(weights, [of_input, of_state]): (&DirectionWeights<F>, &[Vec<F>; 2])| {
            let mut weights = weights.clone();
            for (matrix, masks) in [(&mut weights.input, of_input), (&mut weights.recurrent, of_state)] {
                let inputs = masks.len() / self.gates;
                // `[K, G*H]`
                for (k, line) in matrix.chunks_exact_mut(self.gates * self.hidden).enumerate() {
                    let masked = line.iter_mut().enumerate();
                    masked.for_each(|(at, x)| *x = *x * masks[at / self.hidden * inputs + k]);
                }
            }
            weights
        };
        directions.iter().zip(&self.directions).map(masked).collect()
    }

    /// Makes the gradient of a tensor as the row has it one of the tensor.
    fn gradient(&self, direction: usize, role: Role, numbers: &mut [F]) {
        let [of_input, of_state] = &self.directions[direction];
        let masks = match role {
            Role::WeightIh => of_input,
            Role::WeightHh => of_state,
            _ => return,
        };
        let inputs = masks.len() / self.gates;
        // `[G*H, K]`
        for (line, masks) in numbers.chunks_exact_mut(self.hidden * inputs).zip(masks.chunks_exact(inputs)) {
            let masks = masks.iter().cycle();
            line.iter_mut().zip(masks).for_each(|(d, &mask)| *d = *d * mask);
        }
    }
}

/// The weights of all directions as a row has them.
fn weights_of_row<'a, F: Real>(
    masks: Option<&RowMasks<F>>,
    weights: &'a [DirectionWeights<F>],
) -> Cow<'a, [DirectionWeights<F>]> {
    masks.map_or(Cow::Borrowed(weights), |masks| Cow::Owned(masks.weights(weights)))
}

/// What one row of a batch has of numbers `[N, B, width]`.
fn row_of<T: Copy>(numbers: &[T], batch: usize, row: usize, width: usize) -> Vec<T> {
    let blocks = numbers.chunks_exact((batch * width).max(1));
    blocks.flat_map(|block| &block[row * width..][..width]).copied().collect()
}

/// The inverse of [`row_of`].
fn put_row<T: Copy>(numbers: &mut [T], batch: usize, row: usize, width: usize, of_row: &[T]) {
    let blocks = numbers.chunks_exact_mut((batch * width).max(1));
    for (block, of_row) in blocks.zip(of_row.chunks_exact(width.max(1))) {
        block[row * width..][..width].copy_from_slice(of_row);
    }
}

/// One row of what a level reads.
struct RowFlow<F> {
    input: Vec<F>,
    mask: Option<Vec<u32>>,
}

impl<F: Real> RowFlow<F> {
    fn new(flow: &StageInput<'_, F>, stage: &Stage, row: usize) -> Self {
        Self {
            input: row_of(flow.inputs[0], flow.batch, row, stage.in_features),
            mask: flow.mask.map(|mask| row_of(mask, flow.batch, row, 1)),
        }
    }

    fn shape<'a>(&'a self, stage: &'a Stage, steps: usize, zoneout: ZoneoutMode) -> LevelShape<'a> {
        LevelShape {
            label: &stage.label,
            steps,
            batch: 1,
            sequence_out: stage.sequence_out,
            mask: self.mask.as_deref(),
            rounding: StageRounding::default(),
            zoneout,
        }
    }
}

/// h and c of one row of a layer's state; empty where there is no c.
fn state_of<F: Real>(state: &LayerState<F>, batch: usize, row: usize) -> [Vec<F>; 2] {
    [0, 1].map(|at| state.parts.get(at).map_or(Vec::new(), |part| row_of(&part.data, batch, row, part.width())))
}

fn put_state<F: Real>(state: &mut LayerState<F>, batch: usize, row: usize, numbers: &[Vec<F>; 2]) {
    for (part, numbers) in state.parts.iter_mut().zip(numbers) {
        let width = part.width();
        put_row(&mut part.data, batch, row, width, numbers);
    }
}

impl<F: Real> StageRunner<F> for MaskedLevels<'_, F> {
    fn runs(&self, stage: &Stage) -> bool {
        // Where a row cannot be run the reference says why, for which it needs the weights.
        self.of(stage).is_none() && self.inner.is_some_and(|inner| inner.runs(stage))
    }

    fn forward(
        &self,
        index: usize,
        stage: &Stage,
        flow: &StageInput<'_, F>,
        state: &mut State<F>,
        output: &mut Vec<F>,
    ) -> bool {
        let Some((recurrent, dropout)) = self.of(stage) else {
            return self.inner.is_some_and(|inner| inner.forward(index, stage, flow, state, output));
        };
        let state = &mut state.layers[recurrent.layer];
        match self.masked_forward((index, stage, recurrent, dropout), flow, state) {
            Some(masked) => *output = masked,
            None => return false,
        }
        true
    }

    fn backward(&self, index: usize, stage: &Stage, flow: &StageInput<'_, F>, pass: &mut StageBackward<'_, F>) -> bool {
        let Some((recurrent, dropout)) = self.of(stage) else {
            return self.inner.is_some_and(|inner| inner.backward(index, stage, flow, pass));
        };
        let d_state = &mut pass.d_state.layers[recurrent.layer];
        let masked = self.masked_backward((index, stage, recurrent, dropout), flow, pass.d_output, d_state);
        let Some(LevelGradients { input, params }) = masked else { return false };
        if let Some(d_input) = &mut pass.d_input {
            d_input.iter_mut().zip(&input).for_each(|(to, &d)| *to += d);
        }
        for (direction, role, numbers) in params {
            if let Some(to) = stage.param(direction, role).and_then(|param| pass.params.place(param)) {
                to.copy_from_slice(&numbers);
            }
        }
        true
    }
}

/// A level with a dropout or zoneout: its position, its stage, and the dropout.
type MaskedLevel<'a> = (usize, &'a Stage, &'a RecurrentStage, Option<&'a RecurrentDropout>);

impl<F: Real> MaskedLevels<'_, F> {
    fn masked_forward(
        &self,
        (index, stage, recurrent, dropout): MaskedLevel<'_>,
        flow: &StageInput<'_, F>,
        state: &mut LayerState<F>,
    ) -> Option<Vec<F>> {
        self.starts.borrow_mut().insert(index, state.clone());
        let weights = StageWeights::new(self.network, stage);
        let steps = if stage.sequence_out { flow.steps } else { 1 };
        let mut output = vec![F::default(); steps * flow.batch * stage.out_features];
        for row in 0..flow.batch {
            let masks = dropout.map(|dropout| self.of_row(dropout, (index, row), stage, recurrent));
            let of_row = RowFlow::new(flow, stage, row);
            let mut of_state = state_of(state, flow.batch, row);
            let [h, c] = &mut of_state;
            let weights = weights_of_row(masks.as_ref(), weights.recurrent()?);
            let shape = of_row.shape(stage, flow.steps, self.zoneout(index, flow.batch, row));
            let out = level(shape, recurrent, &weights, &of_row.input, (h, c)).ok()?;
            put_row(&mut output, flow.batch, row, stage.out_features, &out);
            put_state(state, flow.batch, row, &of_state);
        }
        Some(output)
    }

    fn masked_backward(
        &self,
        (index, stage, recurrent, dropout): MaskedLevel<'_>,
        flow: &StageInput<'_, F>,
        d_output: &[F],
        d_state: &mut LayerState<F>,
    ) -> Option<LevelGradients<F>> {
        let start = self.starts.borrow_mut().remove(&index)?;
        let weights = StageWeights::new(self.network, stage);
        let mut sum = LevelGradients { input: vec![F::default(); flow.inputs[0].len()], params: Vec::new() };
        for row in 0..flow.batch {
            let masks = dropout.map(|dropout| self.of_row(dropout, (index, row), stage, recurrent));
            let of_row = RowFlow::new(flow, stage, row);
            let [h, c] = state_of(&start, flow.batch, row);
            let mut of_state = state_of(d_state, flow.batch, row);
            let [d_h, d_c] = &mut of_state;
            let weights = weights_of_row(masks.as_ref(), weights.recurrent()?);
            let d_output = row_of(d_output, flow.batch, row, stage.out_features);
            let shape = of_row.shape(stage, flow.steps, self.zoneout(index, flow.batch, row));
            let (start, d_start) = ((&h[..], &c[..]), (&mut d_h[..], &mut d_c[..]));
            let LevelGradients { input, mut params } =
                level_backward(shape, recurrent, &weights, &of_row.input, start, &d_output, d_start).ok()?;
            put_row(&mut sum.input, flow.batch, row, stage.in_features, &input);
            put_state(d_state, flow.batch, row, &of_state);
            if let Some(masks) = &masks {
                params.iter_mut().for_each(|(direction, role, numbers)| masks.gradient(*direction, *role, numbers));
            }
            if sum.params.is_empty() {
                sum.params = params;
                continue;
            }
            for ((.., sum), (.., more)) in sum.params.iter_mut().zip(&params) {
                sum.iter_mut().zip(more).for_each(|(sum, &more)| *sum += more);
            }
        }
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::data::input::{Checked, Input};
    use crate::host::{Gradients, Hooks, Reference};
    use crate::network::{Cell, FORMAT, NetworkSpec, RecurrentSpec, Tensor, expected_tensors};
    use crate::reference::exact::{ExactGolden, error};
    use crate::reference::{Loss, LossOptions, Targets, loss};

    const GOLDEN: &[u8] = include_bytes!("../../tests/goldens/recurrent_dropout.st");

    #[derive(Deserialize)]
    struct About {
        layer: LayerSpec,
        input_rate: f32,
        state_rate: f32,
        shape: [usize; 3],
        seed: String,
        value: f64,
    }

    fn spec(layer: LayerSpec) -> NetworkSpec {
        NetworkSpec { format: FORMAT, layers: vec![layer], text: None, labels: Vec::new() }
    }

    /// A run of one layer with dropout: what it reads, and what it should have answered.
    struct Case<'a> {
        dropout: Option<RecurrentDropout>,
        seed: u64,
        values: &'a [f32],
        shape: [usize; 3],
        lengths: Option<&'a [usize]>,
        target: &'a [f64],
    }

    impl Case<'_> {
        fn run(&self, network: &Network) -> (f64, Gradients<f64>) {
            let drops = Drops {
                recurrent: self.dropout.iter().map(|dropout| (0, dropout.clone())).collect(),
                zoneout: true,
                ..Drops::default()
            };
            let levels = MaskedLevels::new(None, network, &drops, self.seed);
            let hooks = Hooks { stages: Some(&levels), ..Hooks::default() };
            let input = Input::features(self.values, self.shape);
            let input = self.lengths.map_or(input, |lengths| input.with_lengths(lengths));
            let checked = Checked::new(network, input, None).expect("an input");
            let reference = Reference::<f64>::new(network);
            let forward = reference.forward_with(&checked, None, hooks).expect("a run");
            let (last, width) = (forward.stages.len() - 1, network.output_size());
            let output = &forward.stages[last];
            let loss =
                loss(Loss::Mse, output, width, Targets::Values(self.target), &LossOptions::default()).expect("a loss");
            let d_output = (last, &loss.d_output[..]);
            (loss.value, reference.gradients_with(&checked, None, &forward, d_output, hooks).expect("gradients"))
        }
    }

    /// From `tests/goldens/generate_recurrent_dropout.py`.
    #[test]
    fn keras_has_the_same_gradients() {
        let golden = ExactGolden::new(GOLDEN);
        let cases = golden.cases();
        assert_eq!(cases.len(), 9);
        for (name, about) in cases {
            let About { layer, input_rate, state_rate, shape, seed, value } = about;
            let given = golden.singles(&format!("{name}.given"));
            let golden = golden.doubles(&format!("{name}.gradients"));
            let (mut tensors, mut places, mut at) = (BTreeMap::new(), Vec::new(), 0);
            let spec = spec(layer);
            for (tensor, dims) in expected_tensors(&spec) {
                let range = at..at + dims.iter().product::<usize>();
                at = range.end;
                tensors.insert(tensor.clone(), Tensor::new(dims, given[range.clone()].to_vec()).expect("a tensor"));
                places.push((tensor, range));
            }
            let network = Network::new(spec, tensors).expect("a network");
            let values = at..at + shape.iter().product::<usize>();
            let target: Vec<f64> = given[values.end..].iter().copied().map(f64::from).collect();
            let case = Case {
                dropout: Some(RecurrentDropout::new("layer", input_rate, state_rate)),
                seed: seed.parse().expect("a seed"),
                values: &given[values.clone()],
                shape,
                lengths: None,
                target: &target,
            };
            let worst = |case: &Case<'_>| {
                let (got, gradients) = case.run(&network);
                let of_params =
                    places.iter().map(|(name, range)| error(&gradients.params[name], &golden[range.clone()]));
                let of_input = error(&gradients.input, &golden[values.clone()]);
                of_params.fold(of_input.max(error(&[got], &[value])), f64::max)
            };
            assert!(worst(&case) < 1e-9, "{name}: {:e}", worst(&case));
            // Negative control: the masks of another step.
            assert!(worst(&Case { seed: case.seed + 1, ..case }) > 1e-2, "{name}");
        }
    }

    /// Cells that Keras does not have, two levels, lengths.
    #[test]
    fn central_differences_agree() {
        let mut random = fastrand::Rng::with_seed(2);
        for cell in Cell::ALL {
            let layer = RecurrentSpec { num_layers: 2, bidirectional: true, ..RecurrentSpec::new("layer", 3, 4) };
            if cell == Cell::Slstm {
                let network = Network::random(spec(LayerSpec::of_cell(cell, layer)), 3).expect("a network");
                let refused = RecurrentDropout::new("layer", 0.2, 0.0).position(&network).expect_err("no dropout");
                assert!(refused.to_string().contains("none in an sLSTM"), "{refused}");
                continue;
            }
            // A normalization bends less with a larger eps.
            let eps = if cell.name().starts_with("layer_norm") { 0.1 } else { layer.layer_norm_eps };
            let proj_size = if cell == Cell::Lstm { 2 } else { 0 };
            let normalizes = cell.name().starts_with("layer_norm");
            let zoneout_h = if normalizes || cell.scans() { 0.0 } else { 0.4 };
            let zoneout_c = if cell == Cell::Lstm { 0.3 } else { 0.0 };
            let layer = RecurrentSpec { proj_size, layer_norm_eps: eps, zoneout_h, zoneout_c, ..layer };
            let network = Network::random(spec(LayerSpec::of_cell(cell, layer)), 3).expect("a network");
            let shape = [4, 2, 3];
            let values: Vec<f32> = (0..24).map(|_| random.f32() - 0.5).collect();
            let target: Vec<f64> = (0..8 * network.output_size()).map(|_| random.f64()).collect();
            let dropout = Some(RecurrentDropout::new("layer", 0.2, if cell.scans() { 0.0 } else { 0.3 }));
            let case = Case { dropout, seed: 7, values: &values, shape, lengths: Some(&[4, 2]), target: &target };
            let (_, gradients) = case.run(&network);
            for (name, tensor) in network.tensors() {
                let got = &gradients.params[name];
                let some: Vec<usize> = (0..5).map(|_| random.usize(..got.len())).collect();
                let slope = |&element: &usize| {
                    let value = |step: f32| {
                        let mut tensors = network.tensors().clone();
                        let mut data = tensor.data().to_vec();
                        data[element] += step;
                        let moved = f64::from(data[element]);
                        tensors.insert(name.clone(), Tensor::new(tensor.shape().to_vec(), data).expect("a tensor"));
                        (moved, case.run(&Network::new(network.spec().clone(), tensors).expect("a network")).0)
                    };
                    let ((left, low), (right, high)) = (value(-1.0 / 65_536.0), value(1.0 / 65_536.0));
                    (high - low) / (right - left)
                };
                let largest = got.iter().fold(1e-3f64, |most, g| most.max(g.abs()));
                for (element, slope) in some.iter().map(|element| (element, slope(element))) {
                    let error = (got[*element] - slope).abs() / largest;
                    assert!(error < 1e-6, "{cell:?}, {name} at {element}: {error:e}");
                }
            }
        }
    }

    /// While it is trained a unit has the h of the step before or the new one; a run takes the mean.
    #[test]
    fn zoneout_keeps_units_or_takes_the_mean() {
        let network = |zoneout_h, zoneout_c| {
            let layer = RecurrentSpec { zoneout_h, zoneout_c, ..RecurrentSpec::new("layer", 3, 50) };
            Network::random(spec(LayerSpec::Lstm(layer)), 3).expect("a network")
        };
        let values: Vec<f32> = (0..8 * 2 * 3u8).map(|x| f32::from(x % 11) / 5.0 - 1.0).collect();
        let output = |network: &Network, drawn: Option<u64>| {
            let drops = Drops { zoneout: drawn.is_some(), ..Drops::default() };
            let levels = MaskedLevels::new(None, network, &drops, drawn.unwrap_or_default());
            let hooks = Hooks { stages: Some(&levels), ..Hooks::default() };
            let checked = Checked::new(network, Input::features(&values, [8, 2, 3]), None).expect("an input");
            let mut forward = Reference::<f64>::new(network).forward_with(&checked, None, hooks).expect("a run");
            (forward.stages.remove(0), forward.state)
        };
        // Of h alone: what is kept is kept exactly.
        let kept = |numbers: &[f64]| (100..numbers.len()).filter(|&at| numbers[at] == numbers[at - 100]).count();
        let of_h = network(0.3, 0.0);
        let (drawn, _) = output(&of_h, Some(1));
        let share = kept(&drawn) as f64 / 700.0;
        assert!((share - 0.3).abs() < 0.06, "{share}");
        assert_eq!(drawn, output(&of_h, Some(1)).0);
        assert_ne!(drawn, output(&of_h, Some(2)).0);
        // A run keeps no unit wholly, and neither does a network without zoneout.
        let (mean, state) = output(&of_h, None);
        assert_eq!(kept(&mean), 0);
        assert_eq!(kept(&output(&network(0.0, 0.0), Some(1)).0), 0);
        // The first step from a state of 0: 0.7 of what there would be without zoneout; c as without it.
        let (plain, plain_state) = output(&network(0.0, 0.0), None);
        for (mean, plain) in mean[..100].iter().zip(&plain) {
            assert!((mean - (1.0 - f64::from(0.3f32)) * plain).abs() < 1e-12, "{mean} {plain}");
        }
        assert_ne!(state.layers[0].c(), plain_state.layers[0].c(), "its input is another after a step");
        // Of c alone.
        let (of_c, _) = output(&network(0.0, 0.4), None);
        assert_eq!(of_c[..100], plain[..100], "the first h is made from the whole c");
        assert_ne!(of_c[100..200], plain[100..200]);
    }

    #[test]
    fn mistakes_are_named() {
        let network = Network::random(spec(LayerSpec::Gru(RecurrentSpec::new("layer", 3, 4))), 3).expect("a network");
        let error = |dropout: RecurrentDropout| dropout.position(&network).expect_err("an error").to_string();
        assert!(error(RecurrentDropout::new("other", 0.1, 0.1)).contains("a recurrent layer (layer)"));
        assert!(error(RecurrentDropout::new("layer", 0.1, 1.0)).contains("below 1, got 1"));
        assert_eq!(RecurrentDropout::new("layer", 0.1, 0.1).position(&network).expect("a layer"), 0);
        let scan = Network::random(spec(LayerSpec::Sru(RecurrentSpec::new("layer", 3, 4))), 3).expect("a network");
        let error = RecurrentDropout::new("layer", 0.1, 0.1).position(&scan).expect_err("an error").to_string();
        assert!(error.contains("takes no product with h"), "{error}");
        assert_eq!(RecurrentDropout::new("layer", 0.1, 0.0).position(&scan).expect("a layer"), 0);
    }
}
