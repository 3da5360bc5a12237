//! Expressions to layers.

use std::collections::{BTreeMap, BTreeSet};

use super::expression::{Expression, Expressions};
use super::unsupported;
use super::value::Id;
use crate::base::error::Result;
use crate::network::{
    Activation, ActivationSpec, DenseSpec, FORMAT, FromSpec, INPUT, InputSpec, Join, JoinSpec, LayerSpec, Network,
    NetworkSpec, NormSpec, Tensor,
};

/// The layers so far, and the expressions over their outputs.
#[derive(Default)]
pub struct Build {
    pub expressions: Expressions,
    pub layers: Vec<LayerSpec>,
    pub tensors: BTreeMap<String, Tensor>,
    /// Layers that compute an expression.
    made: BTreeMap<Id, String>,
    /// Expressions that are the h or c of a recurrent layer after its last step.
    pub states: BTreeSet<Id>,
    /// Layer whose output the next one reads.
    current: String,
    names: BTreeSet<String>,
    /// Whether the network's input has its rows first.
    pub batch_first: bool,
    /// Channels of the network's input, where it is no token ids.
    pub input_size: Option<usize>,
}

impl Build {
    pub fn new(batch_first: bool) -> Self {
        Self { batch_first, current: INPUT.to_owned(), names: BTreeSet::from([INPUT.to_owned()]), ..Self::default() }
    }

    /// A name that no layer has yet.
    pub fn unique(&mut self, name: &str) -> String {
        let base = if name.is_empty() { "layer" } else { name };
        let mut name = base.to_owned();
        let mut count = 1;
        while !self.names.insert(name.clone()) {
            count += 1;
            name = format!("{base}_{count}");
        }
        name
    }

    pub fn tensor(&mut self, layer: &str, name: &str, shape: Vec<usize>, data: Vec<f32>) -> Result<()> {
        self.tensors.insert(format!("{layer}.{name}"), Tensor::new(shape, data)?);
        Ok(())
    }

    /// Appends a layer that reads `input`; its output as an expression.
    pub fn layer(&mut self, input: &str, name: &str, layer: LayerSpec, width: usize, sequence: bool) -> Result<Id> {
        self.read(input);
        self.layers.push(layer);
        name.clone_into(&mut self.current);
        let id = self.expressions.add(name, Expression::Layer(name.to_owned()), width, sequence)?;
        self.made.insert(id, name.to_owned());
        Ok(id)
    }

    fn read(&mut self, input: &str) {
        if self.current != input {
            self.layers.push(LayerSpec::From(FromSpec { layer: input.to_owned() }));
            input.clone_into(&mut self.current);
        }
    }

    /// The name of the layer that computes `id`, appended if it is not there.
    pub fn emit(&mut self, id: Id) -> Result<String> {
        if let Some(name) = self.made.get(&id) {
            return Ok(name.clone());
        }
        let name = self.emit_new(id)?;
        self.made.insert(id, name.clone());
        Ok(name)
    }

    fn emit_new(&mut self, id: Id) -> Result<String> {
        let facts = self.expressions.facts(id).clone();
        if let Some((function, x)) = self.expressions.recognised(id) {
            return self.function(id, function, x);
        }
        if let Some((x, eps)) = self.expressions.normalized(id) {
            return self.norm(id, x, eps, None);
        }
        if let Some((x, eps, scale, offset)) = self.expressions.normalized_apart(id) {
            return self.norm(id, x, eps, Some([&scale, &offset]));
        }
        let refuse = |what: &str| Err(unsupported(format!("node `{}`", facts.name), what));
        match self.expressions.get(id).clone() {
            Expression::Layer(name) => Ok(name),
            Expression::State(name) => Err(unsupported(format!("input `{name}`"), "a second input that is no state")),
            Expression::Function(function, x) => self.function(id, function, x),
            Expression::Affine { x, scale, offset } => self.affine(id, x, &scale, &offset),
            Expression::Product(x, _) => self.dense(id, x, id, None),
            Expression::Sub(a, b) => {
                let negative = self.expressions.affine(&facts.name, b, &[-1.0], &[0.0])?;
                self.join(id, Join::Add, &[a, negative])
            }
            Expression::Join(join, inputs) => {
                if join == Join::Mul
                    && let Some(name) = self.cell(id)?
                {
                    return Ok(name);
                }
                self.join(id, join, &inputs)
            }
            Expression::Channels { .. } => refuse("a part of the channels"),
            Expression::Div(..) => refuse("a quotient of two tensors that is no normalization"),
            Expression::Reciprocal(_) => refuse("1/x"),
            Expression::Above(..) => refuse("a comparison outside of a softplus"),
            Expression::Erf(_) => refuse("erf outside of a GELU"),
            Expression::RowMean(_) => refuse("the mean over the channels outside of a normalization"),
        }
    }

    fn function(&mut self, id: Id, activation: Activation, x: Id) -> Result<String> {
        let facts = self.expressions.facts(id).clone();
        let input = self.emit(x)?;
        let name = self.unique(&facts.name);
        let layer = LayerSpec::Activation(ActivationSpec { name: name.clone(), activation });
        self.layer(&input, &name, layer, facts.width, facts.sequence)?;
        Ok(name)
    }

    fn join(&mut self, id: Id, join: Join, inputs: &[Id]) -> Result<String> {
        let facts = self.expressions.facts(id).clone();
        let widths: Vec<usize> = inputs.iter().map(|&i| self.expressions.facts(i).width).collect();
        if join != Join::Concat && widths.iter().any(|&w| w != facts.width) {
            return Err(unsupported(format!("node `{}`", facts.name), format!("tensors {widths:?} wide")));
        }
        let inputs = inputs.iter().map(|&i| self.emit(i)).collect::<Result<Vec<_>>>()?;
        let name = self.unique(&facts.name);
        // A join names what it reads.
        self.current.clone_from(&inputs[0]);
        let read = self.current.clone();
        let layer = LayerSpec::Join(JoinSpec { name: name.clone(), inputs, join });
        self.layer(&read, &name, layer, facts.width, facts.sequence)?;
        Ok(name)
    }

    #[expect(clippy::cast_possible_truncation, reason = "constants were merged in f64 and are f32 in the file")]
    fn affine(&mut self, id: Id, x: Id, scale: &[f64], offset: &[f64]) -> Result<String> {
        let facts = self.expressions.facts(id).clone();
        if let Some((y, eps)) = self.expressions.normalized(x) {
            return self.norm(id, y, eps, Some([scale, offset]));
        }
        if let Expression::Product(y, _) = *self.expressions.get(x)
            && scale == [1.0]
        {
            return self.dense(id, y, x, Some(offset));
        }
        // An activation takes its width from the layer before it; the network's input has none yet.
        let first = matches!(self.expressions.get(x), Expression::Layer(name) if name == INPUT);
        if let ([scale], [offset], false) = (scale, offset, first) {
            let activation = match (*scale, *offset) {
                (1.0, 0.0) => return self.emit(x),
                (alpha, beta) => Activation::Affine { alpha: alpha as f32, beta: beta as f32 },
            };
            return self.function(id, activation, x);
        }
        let input = self.emit(x)?;
        let name = self.unique(&facts.name);
        let width = facts.width;
        for (tensor, numbers) in
            [("weight", scale), ("bias", offset), ("running_mean", &[0.0]), ("running_var", &[1.0])]
        {
            self.tensor(&name, tensor, vec![width], spread(numbers, width))?;
        }
        let spec = NormSpec { name: name.clone(), num_features: width, eps: 0.0, weight: true, bias: true };
        self.layer(&input, &name, LayerSpec::BatchNorm(spec), width, facts.sequence)?;
        Ok(name)
    }

    #[expect(clippy::cast_possible_truncation, reason = "constants were merged in f64 and are f32 in the file")]
    fn norm(&mut self, id: Id, x: Id, eps: f64, affine: Option<[&[f64]; 2]>) -> Result<String> {
        let facts = self.expressions.facts(id).clone();
        let input = self.emit(x)?;
        let name = self.unique(&facts.name);
        let given = affine.is_some();
        for (tensor, numbers) in ["weight", "bias"].into_iter().zip(affine.into_iter().flatten()) {
            self.tensor(&name, tensor, vec![facts.width], spread(numbers, facts.width))?;
        }
        let spec =
            NormSpec { name: name.clone(), num_features: facts.width, eps: eps as f32, weight: given, bias: given };
        self.layer(&input, &name, LayerSpec::LayerNorm(spec), facts.width, facts.sequence)?;
        Ok(name)
    }

    /// A dense layer that computes `id`, from the product `product` of `x` and a matrix.
    fn dense(&mut self, id: Id, x: Id, product: Id, bias: Option<&[f64]>) -> Result<String> {
        let facts = self.expressions.facts(id).clone();
        let Expression::Product(_, matrix) = self.expressions.get(product).clone() else { return self.emit(x) };
        let input = self.emit(x)?;
        let name = self.unique(&facts.name);
        let (in_features, out_features) = (matrix.shape[0], matrix.shape[1]);
        let numbers = matrix.as_floats().unwrap_or_default();
        let transposed = transpose(numbers, in_features, out_features);
        self.tensor(&name, "weight", vec![out_features, in_features], transposed)?;
        if let Some(bias) = bias {
            self.tensor(&name, "bias", vec![out_features], spread(bias, out_features))?;
        }
        let activation = Activation::Linear;
        let spec = DenseSpec { name: name.clone(), in_features, out_features, bias: bias.is_some(), activation };
        self.layer(&input, &name, LayerSpec::Dense(spec), out_features, facts.sequence)?;
        Ok(name)
    }

    /// The network whose output is `id`.
    pub fn finish(mut self, id: Id) -> Result<Network> {
        let name = self.emit(id)?;
        if self.current != name || self.layers.is_empty() {
            let end = self.unique("output");
            let activation = Activation::Linear;
            let facts = self.expressions.facts(id).clone();
            let layer = LayerSpec::Activation(ActivationSpec { name: end.clone(), activation });
            self.layer(&name, &end, layer, facts.width, facts.sequence)?;
        }
        let mut layers = fused(self.layers);
        // A reversal takes its width from the layer before it.
        if let (Some(LayerSpec::Reverse(_)), Some(input_size)) = (layers.first(), self.input_size) {
            layers.insert(0, LayerSpec::Input(InputSpec::sequence(input_size)));
        }
        Network::new(NetworkSpec { format: FORMAT, layers, text: None, labels: Vec::new() }, self.tensors)
    }
}

/// `[K, N]` as `[N, K]`.
pub fn transpose(numbers: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| numbers[r * columns + c])).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "constants were merged in f64 and are f32 in the file")]
fn spread(numbers: &[f64], width: usize) -> Vec<f32> {
    (0..width).map(|i| numbers[i % numbers.len()] as f32).collect()
}

/// Activations become part of the layer they follow, where nothing else reads it.
fn fused(layers: Vec<LayerSpec>) -> Vec<LayerSpec> {
    let mut read = BTreeSet::new();
    for layer in &layers {
        match layer {
            LayerSpec::From(from) => drop(read.insert(from.layer.clone())),
            LayerSpec::Join(join) => read.extend(join.inputs.iter().cloned()),
            _ => {}
        }
    }
    let mut fused: Vec<LayerSpec> = Vec::with_capacity(layers.len());
    for layer in layers {
        if let LayerSpec::Activation(spec) = &layer {
            let named = read.contains(&spec.name);
            match fused.last_mut() {
                Some(LayerSpec::Dense(dense))
                    if dense.activation == Activation::Linear && !read.contains(&dense.name) && !named =>
                {
                    dense.activation = spec.activation;
                    continue;
                }
                Some(LayerSpec::Conv1d(conv))
                    if conv.activation == Activation::Linear && !read.contains(&conv.name) && !named =>
                {
                    conv.activation = spec.activation;
                    continue;
                }
                // A softmax has no name, so a named layer follows it that distant readers can refer to.
                Some(LayerSpec::Softmax) if spec.activation == Activation::Linear && !named => continue,
                _ => {}
            }
        }
        fused.push(layer);
    }
    fused
}
