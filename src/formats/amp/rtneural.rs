//! RTNeural's files, which its Python scripts write from Keras models, and AIDA-X', which are the same with gains and a skip
//! connection. Arrays are in Keras' shapes and order of gates.
//!
//! The output of an AIDA-X model is `out_gain * (network(in_gain * x) + in_gain * x)` with `in_skip` 1, the gains in dB.

use serde_json::Value;

use super::Amp;
use super::layers::{JsonPlace, Layers};
use crate::base::error::Result;
use crate::formats::transpose::transpose;
use crate::network::{
    Activation, ActivationSpec, Cell, Conv1dSpec, FromSpec, INPUT, Join, JoinSpec, LayerSpec, NormSpec, Padding,
    RecurrentSpec,
};

/// The most layers that are read; published networks have fewer than ten.
const MOST_LAYERS: usize = 64;

pub(super) fn read(file: &str, value: &Value) -> Result<Amp> {
    let file = JsonPlace::new(file, value);
    let inputs = last(&file.field("in_shape")?)?;
    let mut layers = Layers::default();
    let gain =
        |key: &str| -> Result<f64> { file.get(key).map_or(Ok(1.0), |gain| Ok(10f64.powf(gain.number()? / 20.0))) };
    let (in_gain, out_gain) = (gain("in_gain")?, gain("out_gain")?);
    let mut source = INPUT;
    if in_gain != 1.0 {
        source = "in_gain";
        // The gain is for the sample alone, not for knobs behind it.
        let factors = (0..inputs).map(|feature| if feature == 0 { single(in_gain) } else { 1.0 }).collect();
        layers.scale(source, factors)?;
    }
    let list = file.field("layers")?;
    let mut width = inputs;
    if list.count()? > MOST_LAYERS {
        return Err(list.wrong(&format!("at most {MOST_LAYERS} layers"), &list.count()?.to_string()));
    }
    for (number, layer) in list.items()?.enumerate() {
        width = AmpLayer::new(&layer, number, width)?.read(&mut layers)?;
    }
    if let Some(skip) = file.get("in_skip") {
        match skip.number()? {
            0.0 => {}
            1.0 if width == 1 => layers.add_feature(source, inputs),
            other => return Err(skip.unsupported(format!("{other} with {width} outputs (0, or 1 with 1 output, is)"))),
        }
    }
    if out_gain != 1.0 {
        layers.scale("out_gain", vec![single(out_gain); width])?;
    }
    if layers.layers.is_empty() {
        return Err(list.wrong("at least one layer", "none"));
    }
    let metadata = file.get("metadata");
    let rate = metadata.as_ref().and_then(|metadata| metadata.get("samplerate")).or_else(|| file.get("samplerate"));
    let sample_rate = rate.map(|rate| rate.rate()).transpose()?;
    let name = metadata.and_then(|metadata| metadata.get("name")?.value.as_str()).map(str::to_owned);
    Ok(Amp { network: layers.network(&file)?, sample_rate, name })
}

#[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
fn single(x: f64) -> f32 {
    x as f32
}

/// The last number of a shape `[null, null, 8]`.
fn last(shape: &JsonPlace<'_>) -> Result<usize> {
    match shape.count()? {
        0 => Err(shape.wrong("at least one axis", "none")),
        axes => shape.item(axes - 1)?.size(),
    }
}

/// A layer of the file.
struct AmpLayer<'a> {
    place: &'a JsonPlace<'a>,
    kind: &'a str,
    /// What it is called: its kind and its number.
    name: String,
    inputs: usize,
    outputs: usize,
}

impl<'a> AmpLayer<'a> {
    fn new(place: &'a JsonPlace<'a>, number: usize, inputs: usize) -> Result<Self> {
        let kind = place.field("type")?.text()?;
        let outputs = place.get("shape").map_or(Ok(inputs), |shape| last(&shape))?;
        Ok(Self { place, kind, name: format!("{}_{number}", kind.replace('-', "_")), inputs, outputs })
    }

    /// Appends it; the width of its output.
    fn read(&self, layers: &mut Layers) -> Result<usize> {
        match self.kind {
            "dense" | "time-distributed-dense" => self.dense(layers)?,
            "lstm" => self.recurrent(layers, Cell::Lstm)?,
            "gru" => self.recurrent(layers, Cell::Gru)?,
            "conv1d" => self.convolution(layers)?,
            "batchnorm" => self.same_width()?.normalization(layers)?,
            "prelu" => self.same_width()?.prelu(layers)?,
            "activation" => {
                let spec = ActivationSpec { name: self.name.clone(), activation: self.same_width()?.activation()? };
                layers.layers.push(LayerSpec::Activation(spec));
            }
            other => return Err(self.place.unsupported(format!("layer type `{other}`"))),
        }
        Ok(self.outputs)
    }

    fn same_width(&self) -> Result<&Self> {
        match self.outputs == self.inputs {
            true => Ok(self),
            false => Err(self
                .place
                .wrong(&format!("{} features, as before the layer", self.inputs), &self.outputs.to_string())),
        }
    }

    fn weights(&self, index: usize, shape: &[usize]) -> Result<Vec<f32>> {
        self.place.field("weights")?.item(index)?.numbers(shape)
    }

    fn bias(&self, index: usize) -> Result<Option<Vec<f32>>> {
        let has = self.place.field("weights")?.count()? > index;
        has.then(|| self.weights(index, &[self.outputs])).transpose()
    }

    fn activation(&self) -> Result<Activation> {
        let Some(place) = self.place.get("activation") else { return Ok(Activation::Linear) };
        Ok(match place.text()? {
            "" | "linear" => Activation::Linear,
            "tanh" => Activation::Tanh,
            "relu" => Activation::Relu,
            "sigmoid" => Activation::Sigmoid,
            "elu" => Activation::Elu { alpha: 1.0 },
            other => return Err(place.unsupported(format!("activation `{other}`"))),
        })
    }

    fn dense(&self, layers: &mut Layers) -> Result<()> {
        let sizes = [self.inputs, self.outputs];
        let kernel = self.weights(0, &sizes)?;
        let weight = transpose(&kernel, self.inputs, self.outputs);
        layers.dense(&self.name, sizes, (weight, self.bias(1)?), self.activation()?)
    }

    /// Kernel `[I, G*H]`, recurrent kernel `[H, G*H]`, bias `[G*H]`, of a GRU `[2, 3H]`. An LSTM's gates are i, f, g, o, a
    /// GRU's z, r, n.
    fn recurrent(&self, layers: &mut Layers, cell: Cell) -> Result<()> {
        let (hidden, rows) = (self.outputs, cell.gates() * self.outputs);
        if !matches!(self.activation()?, Activation::Linear | Activation::Tanh) {
            return Err(self.place.field("activation")?.unsupported("another function of a recurrent layer than tanh"));
        }
        let in_order = |mut numbers: Vec<f32>| {
            if cell == Cell::Gru {
                let gate = numbers.len() / 3;
                let (update, others) = numbers.split_at_mut(gate);
                update.swap_with_slice(&mut others[..gate]);
            }
            numbers
        };
        let mut put = |tensor: &str, shape: &[usize], numbers: Vec<f32>| {
            layers.tensor(format!("{}.{tensor}_l0", self.name), shape, in_order(numbers))
        };
        let matrix = |index, columns: usize| {
            Ok::<_, crate::Error>(transpose(&self.weights(index, &[columns, rows])?, columns, rows))
        };
        put("weight_ih", &[rows, self.inputs], matrix(0, self.inputs)?)?;
        put("weight_hh", &[rows, hidden], matrix(1, hidden)?)?;
        let (of_inputs, of_state) = match cell {
            Cell::Gru => {
                let mut both = self.weights(2, &[2, rows])?;
                let of_state = both.split_off(rows);
                (both, of_state)
            }
            _ => (self.weights(2, &[rows])?, vec![0.0; rows]),
        };
        put("bias_ih", &[rows], of_inputs)?;
        put("bias_hh", &[rows], of_state)?;
        let spec = RecurrentSpec { batch_first: true, ..RecurrentSpec::new(&self.name, self.inputs, hidden) };
        layers.layers.push(LayerSpec::of_cell(cell, spec));
        Ok(())
    }

    /// A convolution that sees the past alone, of a kernel `[K, I / groups, N]`.
    fn convolution(&self, layers: &mut Layers) -> Result<()> {
        let option = |key: &str| match self.place.get(key) {
            Some(place) if place.value.is_array() => last(&place),
            Some(place) => place.size(),
            None => Ok(1),
        };
        let (kernel_size, dilation, groups, stride) =
            (option("kernel_size")?, option("dilation")?, option("groups")?, option("strides")?);
        if stride != 1 {
            return Err(self.place.unsupported(format!("strides {stride}")));
        }
        if !self.inputs.is_multiple_of(groups) {
            return Err(self.place.wrong(&format!("groups that divide {} features", self.inputs), &groups.to_string()));
        }
        let seen = self.inputs / groups;
        let kernel = self.weights(0, &[kernel_size, seen, self.outputs])?;
        // [K, I, N] to [N, I, K]
        let at = |n: usize, i: usize, k: usize| kernel[(k * seen + i) * self.outputs + n];
        let weight =
            (0..self.outputs).flat_map(|n| (0..seen).flat_map(move |i| (0..kernel_size).map(move |k| at(n, i, k))));
        layers.tensor(format!("{}.weight", self.name), &[self.outputs, seen, kernel_size], weight.collect())?;
        let bias = self.bias(1)?;
        let spec = Conv1dSpec {
            name: self.name.clone(),
            in_channels: self.inputs,
            out_channels: self.outputs,
            kernel_size,
            stride,
            padding: Padding::Zeros { left: (kernel_size - 1).saturating_mul(dilation), right: 0 },
            dilation,
            groups,
            bias: bias.is_some(),
            activation: self.activation()?,
        };
        if let Some(bias) = bias {
            layers.tensor(format!("{}.bias", self.name), &[self.outputs], bias)?;
        }
        layers.layers.push(LayerSpec::Conv1d(spec));
        Ok(())
    }

    /// gamma, beta, mean, variance; or mean and variance alone.
    fn normalization(&self, layers: &mut Layers) -> Result<()> {
        let affine = match self.place.field("weights")?.count()? {
            4 => true,
            2 => false,
            other => return Err(self.place.wrong("4 or 2 lists of weights", &other.to_string())),
        };
        let tensors = ["weight", "bias", "running_mean", "running_var"];
        for (index, tensor) in tensors[if affine { 0 } else { 2 }..].iter().enumerate() {
            layers.tensor(format!("{}.{tensor}", self.name), &[self.inputs], self.weights(index, &[self.inputs])?)?;
        }
        let eps = single(self.place.get("epsilon").map_or(Ok(1e-3), |epsilon| epsilon.number())?);
        let spec = NormSpec { name: self.name.clone(), num_features: self.inputs, eps, weight: affine, bias: affine };
        layers.layers.push(LayerSpec::BatchNorm(spec));
        Ok(())
    }

    /// `max(x, 0) + alpha min(x, 0)`, with an alpha for all features or one for each.
    fn prelu(&self, layers: &mut Layers) -> Result<()> {
        let given = self.place.field("weights")?.item(0)?;
        let alphas = [1, self.inputs].iter().find_map(|&n| {
            let shapes = [vec![n], vec![1, n], vec![1, 1, n]];
            shapes.iter().find_map(|shape| given.numbers(shape).ok())
        });
        let Some(alphas) = alphas else {
            return Err(given.wrong(
                &format!("1 or {} numbers", self.inputs),
                &given.value.to_string().chars().take(40).collect::<String>(),
            ));
        };
        let before = layers.layers.last().map_or(INPUT.to_owned(), |layer| layer.name().to_owned());
        let of = |part: &str| format!("{}_{part}", self.name);
        let function = |name, activation| LayerSpec::Activation(ActivationSpec { name, activation });
        layers.layers.push(function(of("above"), Activation::Relu));
        layers.layers.push(LayerSpec::From(FromSpec { layer: before }));
        layers.layers.push(function(of("below"), Activation::Clip { alpha: f32::MIN, beta: 0.0 }));
        let alphas = if alphas.len() == self.inputs { alphas } else { vec![alphas[0]; self.inputs] };
        layers.scale(&of("alpha"), alphas)?;
        let inputs = vec![of("above"), of("alpha")];
        layers.layers.push(LayerSpec::Join(JoinSpec { name: self.name.clone(), inputs, join: Join::Add }));
        Ok(())
    }
}
