//! Expressions to layers.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::array::Array;
use super::expression::{Expression, Expressions};
use super::unsupported;
use super::value::Id;
use crate::base::error::Result;
use crate::formats::transpose::transpose;
use crate::network::{
    Activation, ActivationSpec, ChannelsSpec, DenseSpec, FORMAT, FinalStateSpec, FromSpec, HiddenOrCell, INPUT,
    InputKind, InputSpec, Join, JoinSpec, LayerSpec, MaskingSpec, NamedSpec, Network, NetworkSpec, NormSpec, Tensor,
};

/// A layer, and the names of those that it reads.
pub struct BuiltLayer {
    pub spec: LayerSpec,
    /// Its name; one of its own where its spec has none.
    name: String,
    pub reads: Vec<String>,
}

/// The layers so far, and the expressions over their outputs.
#[derive(Default)]
pub struct Build {
    pub expressions: Expressions,
    pub layers: Vec<BuiltLayer>,
    pub tensors: BTreeMap<String, Tensor>,
    /// Layers that compute an expression.
    made: BTreeMap<Id, String>,
    /// Expressions that are the h or c of a recurrent layer after its last step.
    pub states: BTreeMap<Id, (String, HiddenOrCell)>,
    /// States of the caller, and the layers that start from them.
    pub given: Vec<(Id, String, HiddenOrCell)>,
    names: BTreeSet<String>,
    /// Whether the network's input has its rows first.
    pub batch_first: bool,
    /// Whether the axes of the network's input are taken to be timesteps of one row.
    pub one_row: bool,
    /// The number that an input is at timesteps that masked layers skip: the network's first input, 0, and others of token
    /// ids by their numbers.
    pub masks: BTreeMap<usize, f32>,
    /// Layers that skip them, and the input whose mask they read.
    pub masked: BTreeMap<String, usize>,
    /// Channels of the network's input, where it is no token ids.
    pub input_size: Option<usize>,
}

impl Build {
    pub fn new(batch_first: bool) -> Self {
        Self { batch_first, names: BTreeSet::from([INPUT.to_owned()]), ..Self::default() }
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
    pub fn layer(&mut self, input: &str, name: &str, spec: LayerSpec, width: usize, sequence: bool) -> Result<Id> {
        self.layer_of(vec![input.to_owned()], name, spec, width, sequence)
    }

    pub fn layer_of(
        &mut self,
        reads: Vec<String>,
        name: &str,
        spec: LayerSpec,
        width: usize,
        sequence: bool,
    ) -> Result<Id> {
        self.layers.push(BuiltLayer { spec, name: name.to_owned(), reads });
        let id = self.expressions.add(name, Expression::Layer(name.to_owned()), width, sequence)?;
        self.made.insert(id, name.to_owned());
        Ok(id)
    }

    /// What the layer `name` reads, if it is a reversal.
    pub fn reversal_of(&self, name: &str) -> Option<String> {
        let layer = self.layers.iter().find(|layer| layer.name == name)?;
        matches!(layer.spec, LayerSpec::Reverse(_)).then(|| layer.reads.first().cloned()).flatten()
    }

    /// Another input of the network.
    pub fn other_input(&mut self, name: &str, kind: InputKind, width: usize) -> Result<Id> {
        let name = self.unique(name);
        let size = if kind == InputKind::Tokens { 0 } else { width };
        let spec = LayerSpec::Input(InputSpec::named(name.clone(), kind, size));
        self.layer_of(Vec::new(), &name, spec, width, kind != InputKind::Row)
    }

    /// Makes `id` an output of the network, beside its last layer's.
    pub fn other_output(&mut self, name: &str, id: Id) -> Result<()> {
        let mut read = self.emit(id)?;
        let computes = |layer: &BuiltLayer| layer.name == read && !matches!(layer.spec, LayerSpec::Input(_));
        if !self.layers.iter().any(computes) {
            let facts = self.expressions.facts(id).clone();
            let same = self.unique(&format!("{name}.same"));
            let spec = ActivationSpec { name: same.clone(), activation: Activation::Linear };
            self.layer(&read, &same, LayerSpec::Activation(spec), facts.width, facts.sequence)?;
            read = same;
        }
        // An output has its name in the file, also where a layer is called the same.
        let spec = LayerSpec::Output(NamedSpec { name: name.to_owned() });
        let name = self.unique(name);
        self.layers.push(BuiltLayer { spec, name, reads: vec![read] });
        Ok(())
    }

    /// Makes all timesteps count of what the layer with this index reads at `place`.
    pub fn unmask(&mut self, index: usize, place: usize) {
        let read = self.layers[index].reads[place].clone();
        let name = self.unique(&format!("{}.unmask", self.layers[index].name));
        let spec = LayerSpec::Unmask(NamedSpec { name: name.clone() });
        if let LayerSpec::Attention(attention) = &mut self.layers[index].spec {
            attention.keys.clone_from(&name);
        }
        self.layers[index].reads[place].clone_from(&name);
        self.layers.insert(index, BuiltLayer { spec, name, reads: vec![read] });
    }

    /// Has the embedding of an input of token ids mask those that are 0.
    pub fn mask_tokens(&mut self, tokens: &str, mask_value: f32) -> Result<()> {
        if mask_value != 0.0 {
            return Err(unsupported("ONNX model", format!("a mask of the token id {mask_value}")));
        }
        for layer in self.layers.iter_mut().filter(|layer| layer.reads.iter().any(|read| read == tokens)) {
            if let LayerSpec::Embedding(spec) = &mut layer.spec {
                spec.mask_zero = true;
            }
        }
        Ok(())
    }

    /// h or c of a direction of a recurrent layer after its last step.
    pub fn final_state(&mut self, layer: &str, part: HiddenOrCell, direction: usize, width: usize) -> Result<Id> {
        let letter = if part == HiddenOrCell::C { "c" } else { "h" };
        let name = self.unique(&format!("{layer}.{letter}{direction}"));
        let spec = FinalStateSpec { name: name.clone(), layer: layer.to_owned(), part, level: None, direction };
        self.layer(layer, &name, LayerSpec::FinalState(spec), width, false)
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

    /// The layer that computes an expression, if one does so far.
    pub fn layer_made(&self, id: Id) -> Option<&str> {
        self.made.get(&id).map(String::as_str)
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
            Expression::Sub(a, b) => self.join(id, Join::Sub, &[a, b]),
            Expression::Join(join, inputs) => {
                if join == Join::Mul
                    && let Some(name) = self.cell(id)?
                {
                    return Ok(name);
                }
                self.join(id, join, &inputs)
            }
            Expression::Channels { x, start, count } => {
                let read = self.emit(x)?;
                let name = self.unique(&facts.name);
                let layer = LayerSpec::Channels(ChannelsSpec { name: name.clone(), start, count });
                self.layer(&read, &name, layer, facts.width, facts.sequence)?;
                Ok(name)
            }
            Expression::Div(a, b) => {
                let of_b = self.expressions.facts(b).clone();
                let inverse =
                    self.expressions.add(&facts.name, Expression::Reciprocal(b), of_b.width, of_b.sequence)?;
                self.join(id, Join::Mul, &[a, inverse])
            }
            Expression::Min(a, b) => {
                let mut turned = [a, b];
                for side in &mut turned {
                    *side = self.expressions.affine(&facts.name, *side, &[-1.0], &[0.0])?;
                }
                let largest = Expression::Join(Join::Max, turned.to_vec());
                let largest = self.expressions.add(&facts.name, largest, facts.width, facts.sequence)?;
                self.affine(id, largest, &[-1.0], &[0.0])
            }
            Expression::Masked(..) | Expression::MaskedSum(..) => refuse("a mask outside of a mean over time"),
            Expression::Hidden(..) => refuse("hidden timesteps outside of a softmax over time"),
            Expression::Reciprocal(x) => self.function(id, Activation::Reciprocal, x),
            Expression::Above(..) => refuse("a comparison outside of a softplus"),
            Expression::Erf(_) => refuse("erf outside of a GELU"),
            Expression::RowMean(x) => {
                let width = self.expressions.facts(x).width;
                #[expect(clippy::cast_precision_loss, reason = "a number of channels")]
                let shares = Array::floats(vec![width, 1], vec![1.0 / width as f32; width]);
                let product = Expression::Product(x, Rc::new(shares));
                let product = self.expressions.add(&facts.name, product, 1, facts.sequence)?;
                self.emit(product)
            }
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
        if join != Join::Concat && widths.iter().any(|&w| w != facts.width && w != 1) {
            return Err(unsupported(format!("node `{}`", facts.name), format!("tensors {widths:?} wide")));
        }
        let inputs = inputs.iter().map(|&i| self.emit(i)).collect::<Result<Vec<_>>>()?;
        let name = self.unique(&facts.name);
        let layer = LayerSpec::Join(JoinSpec { name: name.clone(), inputs: inputs.clone(), join });
        self.layer_of(inputs, &name, layer, facts.width, facts.sequence)?;
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
        // One number becomes several.
        if facts.width > 1 && self.expressions.facts(x).width == 1 {
            let matrix = Rc::new(Array::floats(vec![1, facts.width], spread(scale, facts.width)));
            let product =
                self.expressions.add(&facts.name, Expression::Product(x, matrix), facts.width, facts.sequence)?;
            return self.dense(id, x, product, Some(offset));
        }
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
        if self.layers.last().is_none_or(|last| last.name != name) {
            let end = self.unique("output");
            let activation = Activation::Linear;
            let facts = self.expressions.facts(id).clone();
            let layer = LayerSpec::Activation(ActivationSpec { name: end.clone(), activation });
            self.layer(&name, &end, layer, facts.width, facts.sequence)?;
        }
        let mut layers = fused(in_order(std::mem::take(&mut self.layers)));
        if let Some(&mask_value) = self.masks.get(&0).filter(|_| self.input_size.is_some()) {
            let name = self.unique("masking");
            layers.insert(0, LayerSpec::Masking(MaskingSpec { name, mask_value }));
        }
        // These take their width from the layer before them.
        let has_width = |layer: &LayerSpec| {
            use LayerSpec::{BatchNorm, Conv1d, Dense, Embedding, LayerNorm};
            layer.recurrent().is_some()
                || matches!(layer, Dense(_) | Conv1d(_) | Embedding(_) | LayerNorm(_) | BatchNorm(_))
        };
        let first = layers.iter().find(|layer| !matches!(layer, LayerSpec::Masking(_)));
        // Layers of another input may come before those of the first.
        let other = matches!(first, Some(LayerSpec::Input(_)));
        match self.input_size {
            Some(input_size) if other || !first.is_some_and(has_width) => {
                layers.insert(0, LayerSpec::Input(InputSpec::sequence(input_size)));
            }
            None if other => layers.insert(0, LayerSpec::Input(InputSpec::named("", InputKind::Tokens, 0))),
            _ => {}
        }
        let used: BTreeSet<String> =
            layers.iter().flat_map(LayerSpec::params).map(|param| param.name.clone()).collect();
        self.tensors.retain(|name, _| used.contains(name));
        Network::new(NetworkSpec { format: FORMAT, layers, text: None, labels: Vec::new() }, self.tensors)
    }
}

/// The layers that the last one or a recurrent layer depends on, each behind what it reads. Recurrent layers stay
/// because their states may be asked for.
fn in_order(layers: Vec<BuiltLayer>) -> Vec<LayerSpec> {
    let mut live = BTreeSet::new();
    live.extend(layers.last().map(|layer| layer.name.clone()));
    for layer in layers.iter().rev() {
        let stays = layer.spec.recurrent().is_some() || matches!(layer.spec, LayerSpec::Output(_));
        if live.contains(&layer.name) || stays {
            live.insert(layer.name.clone());
            live.extend(layer.reads.iter().cloned());
        }
    }
    let mut current = INPUT.to_owned();
    let mut ordered = Vec::with_capacity(layers.len());
    for layer in layers.into_iter().filter(|layer| live.contains(&layer.name)) {
        let joins = matches!(layer.spec, LayerSpec::Join(_) | LayerSpec::FinalState(_));
        if let Some(read) = layer.reads.first().filter(|read| **read != current && !joins) {
            ordered.push(LayerSpec::From(FromSpec { layer: read.clone() }));
        }
        current = layer.name;
        ordered.push(layer.spec);
    }
    ordered
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
            LayerSpec::FinalState(state) => drop(read.insert(state.layer.clone())),
            LayerSpec::Attention(attention) => {
                read.extend([&attention.keys].into_iter().chain(&attention.values).cloned());
            }
            other => {
                if let Some((_, spec)) = other.recurrent() {
                    read.extend([&spec.initial_h, &spec.initial_c].into_iter().flatten().cloned());
                }
            }
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
