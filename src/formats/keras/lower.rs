//! A graph of Keras layers as gatefold's list of layers.

mod realize;

use std::collections::{BTreeMap, BTreeSet};

use self::realize::softmax_of_steps;
use super::activation::Version;
use super::dropout::dropouts;
use super::graph::{KerasGraph, KerasNode, NodeTensor};
use super::layers::{Item, Lowered, Shape, lower};
use super::masks::Masks;
use super::options::LayerOptions;
use super::parts::{PartWeights, Parts};
use super::products::Scores;
use super::recurrent::StackedCell;
use super::{attention, branched, convolution, join, operations, products, recurrent, reductions, slices, text};
use crate::base::error::{Error, Result};
use crate::network::{
    Activation, ActivationSpec, FORMAT, FileDropout, FromSpec, INPUT, InputKind, InputSpec, LayerSpec, MAX_INPUTS,
    NamedSpec, NetworkSpec, RecurrentOutput,
};

/// The output of a node, or of the node whose output it passes on unchanged.
#[derive(Clone, Copy)]
pub(super) struct NodeOutput {
    /// What computed it.
    pub source: NodeTensor,
    pub shape: Shape,
    /// Whether Keras passes a mask with it.
    pub masked: bool,
    /// The input of the model that its mask was made of, or would be.
    pub origin: Option<NodeTensor>,
}

pub(super) struct KerasLowering {
    pub layers: Vec<LayerSpec>,
    /// What the next layer reads unless it names its input.
    current: NodeTensor,
    /// The names by which later layers can refer to values.
    names: BTreeMap<NodeTensor, String>,
    /// Softmax layers, which have no names, by the value.
    unnamed: BTreeMap<NodeTensor, usize>,
    /// Places after which a layer must be inserted that only carries a name.
    name_bearers: BTreeMap<usize, String>,
    stacked: BTreeMap<String, StackedCell>,
    parts: BTreeMap<String, PartWeights>,
    /// Products of two sequences that no layer computes yet.
    scores: BTreeMap<NodeTensor, Scores>,
}

/// What a graph becomes.
pub(super) struct LoweredGraph {
    pub spec: NetworkSpec,
    /// Layers with the weights of another, by their names: a layer that is called several times.
    pub copies: BTreeMap<String, String>,
    /// Layers that are cells of one layer of the file, by their names.
    pub stacked: BTreeMap<String, StackedCell>,
    /// Layers that are parts of one layer of the file, by their names.
    pub parts: BTreeMap<String, PartWeights>,
    pub dropout: Vec<FileDropout>,
}

/// The description of the network that `graph` is.
pub(super) fn network(graph: &KerasGraph<'_>) -> Result<LoweredGraph> {
    let mut walk = KerasWalk::new(graph)?;
    for index in graph.order()? {
        walk.node(index)?;
    }
    walk.finish()
}

/// A graph whose nodes are read one by one, each after what it reads.
pub(super) struct KerasWalk<'g, 'a> {
    graph: &'g KerasGraph<'a>,
    lowering: KerasLowering,
    values: BTreeMap<NodeTensor, NodeOutput>,
    copies: BTreeMap<String, String>,
    /// Outputs that something reads.
    read: BTreeSet<NodeTensor>,
    readers_of_unmasked: BTreeMap<NodeTensor, BTreeSet<usize>>,
    masks: Masks<'g, 'a>,
}

impl<'g, 'a> KerasWalk<'g, 'a> {
    pub(super) fn new(graph: &'g KerasGraph<'a>) -> Result<Self> {
        Ok(Self {
            graph,
            lowering: KerasLowering::new(graph)?,
            values: BTreeMap::new(),
            copies: BTreeMap::new(),
            read: outputs_read(graph),
            readers_of_unmasked: BTreeMap::new(),
            masks: Masks::new(graph),
        })
    }

    /// Reads the node `index`.
    pub(super) fn node(&mut self, index: usize) -> Result<()> {
        let graph = self.graph;
        let KerasNode { item, inputs, states, mask, call, refused, .. } = &graph.nodes[index];
        if let Some(what) = refused {
            return Err(item.unsupported(what));
        }
        if item.is_mask_operation() && self.masks.operation(index)? {
            return Ok(());
        }
        let find = |tensors: &[NodeTensor]| -> Result<Vec<NodeOutput>> {
            let found = tensors.iter().map(|tensor| {
                let got = || item.unsupported(&format!("output {} of `{}`", tensor.output, name_of(graph, *tensor)));
                self.values.get(tensor).copied().ok_or_else(got)
            });
            found.collect()
        };
        let inputs = match inputs.as_slice() {
            [] => vec![self.lowering.input(graph, index, item)?],
            tensors => find(tensors)?,
        };
        let states = find(states)?;
        if item.class != "InputLayer" {
            for input in inputs.iter().filter(|input| !input.masked) {
                self.readers_of_unmasked.entry(input.source).or_default().insert(index);
            }
        }
        if let Some(mask) = *mask {
            // Of a layer of attention it is the value's.
            let masked = if attention::is_known(item.class) { inputs.get(1..2).unwrap_or_default() } else { &inputs };
            let origin = masked.first().and_then(|input| input.origin).map(|origin| origin.node);
            self.masks.check(item, mask, origin.filter(|_| masked.iter().all(|value| value.masked)))?;
        }
        let copy;
        let item = if *call == 0 {
            *item
        } else {
            copy = format!("{}_call{call}", item.name);
            self.copies.insert(copy.clone(), item.name.to_owned());
            Item { name: &copy, ..*item }
        };
        let mut made = self.lowering.node(graph, index, &item, (&inputs, &states), &self.read)?;
        // Masks come with the first input, or with the masked one.
        let origin = inputs.iter().find(|input| input.masked).or(inputs.first()).and_then(|input| input.origin);
        made.iter_mut().for_each(|output| output.origin = origin);
        if item.class == "Masking" && !graph.is_input(made[0].source) {
            return Err(item.unsupported("Masking that is not the first layer"));
        }
        self.masks.note(&item, origin.map(|origin| origin.node));
        self.values.extend((0..).zip(made).map(|(output, value)| (NodeTensor { node: index, output }, value)));
        Ok(())
    }

    /// The whole description, after all nodes.
    pub(super) fn finish(self) -> Result<LoweredGraph> {
        let graph = self.graph;
        // One that masks NaN masks nothing.
        let masks_steps = |layer: &LayerSpec| matches!(layer, LayerSpec::Masking(_));
        let any = self.lowering.layers.iter().any(masks_steps);
        let maskings = (0..graph.nodes.len()).filter(|&node| any && graph.nodes[node].item.class == "Masking");
        for masking in maskings {
            let masked = graph.nodes[masking].inputs.first().copied().unwrap_or(graph.outside());
            let source = self.values.get(&masked).map_or(masked, |value| value.source);
            if self.readers_of_unmasked.get(&source).is_some_and(|readers| readers.len() > 1) {
                let item = &graph.nodes[masking].item;
                return Err(item.unsupported("Masking while other layers read the unmasked input"));
            }
        }
        self.lowering.finish(graph, &self.values, self.copies)
    }
}

/// Every output of a node that something reads, or that is one of the model's.
fn outputs_read(graph: &KerasGraph<'_>) -> BTreeSet<NodeTensor> {
    let read = graph.nodes.iter().flat_map(|node| node.inputs.iter().chain(&node.states));
    read.chain(&graph.outputs).copied().collect()
}

fn name_of<'a>(graph: &KerasGraph<'a>, tensor: NodeTensor) -> &'a str {
    graph.nodes.get(tensor.node).map_or("", |node| node.item.name)
}

impl KerasGraph<'_> {
    /// What stands for the input of a Sequential model that leaves its input layer out.
    fn outside(&self) -> NodeTensor {
        NodeTensor { node: self.nodes.len(), output: 0 }
    }

    /// What stands for an input of the model.
    fn input_tensor(&self, node: usize) -> NodeTensor {
        if self.nodes[node].item.class == "InputLayer" { NodeTensor { node, output: 0 } } else { self.outside() }
    }

    pub(super) fn is_input(&self, tensor: NodeTensor) -> bool {
        self.inputs.iter().any(|&input| self.input_tensor(input) == tensor)
    }

    /// The shape of one of the model's inputs.
    fn shape_of_input(&self, node: usize) -> Result<Shape> {
        let item = &self.nodes[node].item;
        let stated = if self.inputs.first() == Some(&node) { self.input_shape } else { item.input_shape() };
        let text = |node: &KerasNode<'_>| text::is_text(node.item.class);
        if text(&self.nodes[node]) || self.readers(node).iter().any(|&reader| text(&self.nodes[reader])) {
            return Ok(Shape::Tokens(None));
        }
        let Some(shape) = stated else {
            return Err(item.unsupported("a model whose input has no stated shape"));
        };
        let shape = Shape::from_keras(item.name, shape)?;
        // Of `[B, n]` the layers that read it say whether it is token ids.
        let embeds = |node: &KerasNode<'_>| matches!(node.item.class, "Embedding" | "NotEqual");
        let embedded =
            embeds(&self.nodes[node]) || self.readers(node).iter().any(|&reader| embeds(&self.nodes[reader]));
        match shape {
            Shape::Tokens(Some(width)) if !embedded => Ok(Shape::Row(width)),
            other => Ok(other),
        }
    }

    /// The nodes that read a node, through the inputs of models within the model.
    fn readers(&self, node: usize) -> Vec<usize> {
        let (mut found, mut open) = (BTreeSet::new(), vec![node]);
        while let Some(node) = open.pop() {
            for (index, reader) in self.nodes.iter().enumerate() {
                if reader.inputs.iter().any(|input| input.node == node) && found.insert(index) {
                    let passes = ["InputLayer", "Dropout", "SpatialDropout1D"].contains(&reader.item.class);
                    open.extend(passes.then_some(index));
                }
            }
        }
        found.into_iter().collect()
    }
}

impl KerasLowering {
    fn new(graph: &KerasGraph<'_>) -> Result<Self> {
        let first = graph.inputs.first().map_or(graph.outside(), |&node| graph.input_tensor(node));
        let mut lowering = Self {
            layers: Vec::new(),
            current: first,
            names: BTreeMap::from([(first, INPUT.to_owned())]),
            unnamed: BTreeMap::new(),
            name_bearers: BTreeMap::new(),
            stacked: BTreeMap::new(),
            parts: BTreeMap::new(),
            scores: BTreeMap::new(),
        };
        let several = graph.inputs.len() > 1;
        if graph.inputs.len() > MAX_INPUTS {
            let what = format!("{} inputs (supported: {MAX_INPUTS})", graph.inputs.len());
            return Err(Error::Unsupported { place: "Keras model".into(), what });
        }
        for &node in &graph.inputs {
            let (kind, width) = match graph.shape_of_input(node)? {
                Shape::Tokens(_) => (InputKind::Tokens, 0),
                Shape::Sequence { width, .. } => (InputKind::Sequence, width),
                Shape::Row(width) => (InputKind::Row, width),
                other => return Err(graph.nodes[node].item.unsupported(&format!("an input that is {other}"))),
            };
            let name = if several { graph.nodes[node].item.name } else { "" };
            if several || kind == InputKind::Row {
                lowering.layers.push(LayerSpec::Input(InputSpec::named(name, kind, width)));
            }
            if several {
                let tensor = graph.input_tensor(node);
                lowering.names.insert(tensor, name.to_owned());
                lowering.current = tensor;
            }
        }
        Ok(lowering)
    }

    /// An input of the model.
    fn input(&self, graph: &KerasGraph<'_>, index: usize, item: &Item<'_>) -> Result<NodeOutput> {
        if !graph.inputs.contains(&index) {
            return Err(item.unsupported("an input that is not among the model's"));
        }
        let source = graph.input_tensor(index);
        Ok(NodeOutput { source, shape: graph.shape_of_input(index)?, masked: false, origin: Some(source) })
    }

    /// The outputs of a node.
    fn node(
        &mut self,
        graph: &KerasGraph<'_>,
        index: usize,
        item: &Item<'_>,
        (inputs, states): (&[NodeOutput], &[NodeOutput]),
        read: &BTreeSet<NodeTensor>,
    ) -> Result<Vec<NodeOutput>> {
        let node = &graph.nodes[index];
        let inputs = &self.realized(index, item, inputs)?[..];
        let first = inputs[0];
        if first.shape == Shape::Scores && !item.is_operation() && item.class != "Dot" {
            return Ok(vec![products::of_scores(self, index, item, (first, None))?]);
        }
        if matches!(first.shape, Shape::Steps(_)) && softmax_of_steps(item) {
            let layer = LayerSpec::TimeSoftmax(NamedSpec { name: item.name.to_owned() });
            return Ok(vec![self.append(index, item, first, vec![layer], (first.shape, false))]);
        }
        if item.class == "InputLayer" {
            input_layer(item)?;
            return Ok(vec![first]);
        }
        if slices::is_slice(item.class) {
            let Lowered { mut layers, shape } = slices::lower(item, node.slices, first.shape)?;
            // Keras drops the mask here.
            layers.extend((first.masked && is_sequence(shape)).then(|| unmask(item)));
            return Ok(vec![self.append(index, item, first, layers, (shape, false))]);
        }
        if item.is_operation() {
            return operations::lower(self, index, item, (inputs, &node.numbers, node.number_first));
        }
        if recurrent::is_recurrent(item) {
            // Keras 2 writes the initial state as further inputs.
            let states = if states.is_empty() { &inputs[1..] } else { states };
            return self.recurrent(index, item, first, states, read);
        }
        if text::is_text(item.class) {
            if !graph.is_input(first.source) {
                return Err(item.unsupported(&format!("{} that does not read an input of the model", item.class)));
            }
            return Ok(vec![NodeOutput { shape: text::shape(item)?, ..first }]);
        }
        if attention::is_known(item.class) {
            let scores = node.scores && read.contains(&NodeTensor { node: index, output: 1 });
            return attention::lower(self, index, item, (inputs, scores));
        }
        match inputs {
            [input] if reductions::is_normalization(item.class) => {
                Ok(vec![reductions::normalization(self, index, item, *input)?])
            }
            [input] if branched::is_known(item.class) => Ok(vec![branched::lower(self, index, item, *input)?]),
            [_] => {
                let Lowered { mut layers, shape } = lower(item, first.shape)?;
                let drops = matches!(item.class, "Reshape" | "Permute" | "Normalization")
                    || item.class == "Rescaling" && item.version != Version::Three;
                // Keras drops the mask here.
                layers.extend((first.masked && drops && is_sequence(shape)).then(|| unmask(item)));
                self.parts.extend(convolution::weights(item, &layers));
                let masked = mask_after(item, &layers, first.masked)?;
                if matches!(layers.first(), Some(LayerSpec::Masking(_))) {
                    // It acts on the network's input; its output stands for the network's input.
                    self.read(first.source);
                    self.layers.extend(layers);
                    return Ok(vec![NodeOutput { masked, ..first }]);
                }
                Ok(vec![self.append(index, item, first, layers, (shape, masked))])
            }
            several => Ok(vec![join::lower(self, index, item, (several, false))?]),
        }
    }

    /// A recurrent layer and, of its states, those that are read.
    fn recurrent(
        &mut self,
        index: usize,
        item: &Item<'_>,
        input: NodeOutput,
        states: &[NodeOutput],
        read: &BTreeSet<NodeTensor>,
    ) -> Result<Vec<NodeOutput>> {
        let Lowered { mut layers, shape } = lower(item, input.shape)?;
        let stacked = recurrent::stacked_cells(item);
        if !stacked.is_empty() && !states.is_empty() {
            return Err(item.unsupported("an initial state of StackedRNNCells"));
        }
        self.stacked.extend(stacked);
        let names: Vec<String> = states.iter().map(|state| self.name(state.source)).collect();
        let rows = states.iter().all(|state| matches!(state.shape, Shape::Row(_)));
        let before = recurrent::set_states(item, &mut layers, &names, rows)?;
        self.layers.extend(before);
        let masked = mask_after(item, &layers, input.masked)?;
        let spec = layers.iter().find_map(LayerSpec::recurrent).map(|(cell, spec)| (cell, spec.clone()));
        self.read_again(input.source, !names.is_empty());
        self.layers.extend(layers);
        let mut made = vec![self.value(index, 0, item, (shape, masked))];
        let Some((cell, spec)) = spec else { return Ok(made) };
        let extra = recurrent::further_outputs(item, cell, &spec, shape);
        for (output, (layer, shape)) in (1..).zip(extra) {
            let tensor = NodeTensor { node: index, output };
            if read.contains(&tensor) {
                // The halves of two directions are read from both, states from the layer itself.
                if !matches!(layer, LayerSpec::FinalState(_)) {
                    self.read(made[0].source);
                }
                self.layers.push(layer);
                let masked = masked && matches!(shape, Shape::Sequence { .. });
                made.push(self.value(index, output, item, (shape, masked)));
            } else {
                made.push(NodeOutput { source: tensor, shape, masked: false, origin: None });
            }
        }
        if let Some((half, shape)) = recurrent::first_half(item, &spec, shape) {
            self.read(made[0].source);
            self.layers.push(half);
            // From here on the layer's first output is its forward direction.
            made[0] = self.value(index, usize::MAX, item, (shape, masked));
        }
        Ok(made)
    }

    /// Layers that read `input`.
    pub(super) fn append(
        &mut self,
        index: usize,
        item: &Item<'_>,
        input: NodeOutput,
        layers: Vec<LayerSpec>,
        (shape, masked): (Shape, bool),
    ) -> NodeOutput {
        if layers.is_empty() {
            return NodeOutput { shape, masked, ..input };
        }
        self.read(input.source);
        self.layers.extend(layers);
        self.value(index, 0, item, (shape, masked))
    }

    /// As [`KerasLowering::append`], of layers whose weights are not those of a layer of their kind.
    pub(super) fn append_parts(
        &mut self,
        index: usize,
        item: &Item<'_>,
        parts: Parts,
        (input, shape, masked): (NodeOutput, Shape, bool),
    ) -> NodeOutput {
        self.parts.extend(parts.weights);
        self.append(index, item, input, parts.layers, (shape, masked))
    }

    /// Makes the next layer read a value.
    pub(super) fn read(&mut self, source: NodeTensor) {
        self.read_again(source, false);
    }

    /// As [`KerasLowering::read`], also where it is what the next layer reads anyhow, if `always`.
    fn read_again(&mut self, source: NodeTensor, always: bool) {
        if source != self.current || always {
            let layer = self.name(source);
            self.layers.push(LayerSpec::From(FromSpec { layer }));
        }
    }

    /// Records the output of the last layer.
    pub(super) fn value(
        &mut self,
        index: usize,
        output: usize,
        item: &Item<'_>,
        (shape, masked): (Shape, bool),
    ) -> NodeOutput {
        let source = NodeTensor { node: index, output };
        self.current = source;
        match self.layers.last().map(LayerSpec::name) {
            Some("") => {
                self.unnamed.insert(source, self.layers.len() - 1);
                self.names.insert(source, format!("{}_softmax", item.name));
            }
            last => {
                self.names.insert(source, last.unwrap_or(item.name).to_owned());
            }
        }
        NodeOutput { source, shape, masked, origin: None }
    }

    /// The name by which a later layer refers to a value.
    pub(super) fn name(&mut self, source: NodeTensor) -> String {
        let name = self.names.get(&source).cloned().unwrap_or_default();
        if let Some(&place) = self.unnamed.get(&source) {
            self.name_bearers.insert(place, name.clone());
        }
        name
    }

    /// The whole description.
    fn finish(
        mut self,
        graph: &KerasGraph<'_>,
        values: &BTreeMap<NodeTensor, NodeOutput>,
        copies: BTreeMap<String, String>,
    ) -> Result<LoweredGraph> {
        let first = graph.outputs[0];
        for (number, tensor) in graph.outputs.iter().enumerate().skip(1) {
            let output = output_of(graph, values, *tensor)?;
            let layer = self.name(output.source);
            let name = graph.output_names[number].clone();
            self.layers.push(LayerSpec::From(FromSpec { layer }));
            if graph.is_input(output.source) {
                let same = ActivationSpec { name: format!("{name}_same"), activation: Activation::Linear };
                self.layers.push(LayerSpec::Activation(same));
            }
            self.layers.push(LayerSpec::Output(NamedSpec { name }));
        }
        // The last layer's output is the network's.
        let item = &graph.nodes[first.node].item;
        let output = output_of(graph, values, first)?;
        if output.source != self.current || graph.outputs.len() > 1 {
            let layer = self.name(output.source);
            let name = format!("{}_output", item.name);
            self.layers.push(LayerSpec::From(FromSpec { layer }));
            self.layers.push(LayerSpec::Activation(ActivationSpec { name, activation: Activation::Linear }));
        }
        let dropout = dropouts(graph, values, &self.names);
        let Self { mut layers, name_bearers, stacked, parts, .. } = self;
        for (place, name) in name_bearers.into_iter().rev() {
            layers.insert(place + 1, LayerSpec::Activation(ActivationSpec { name, activation: Activation::Linear }));
        }
        // Layers that treat every width alike leave the input's open.
        if let [input] = graph.inputs[..]
            && let Shape::Sequence { width, .. } = graph.shape_of_input(input)?
        {
            let first = layers.iter().find(|layer| !matches!(layer, LayerSpec::Masking(_)));
            if first.is_some_and(|layer| !states_width(layer)) {
                layers.insert(0, LayerSpec::Input(InputSpec::sequence(width)));
            }
        }
        let spec = NetworkSpec { format: FORMAT, layers, text: None, labels: Vec::new() };
        Ok(LoweredGraph { spec, copies, stacked, parts, dropout })
    }
}

/// One of the model's outputs.
fn output_of(
    graph: &KerasGraph<'_>,
    values: &BTreeMap<NodeTensor, NodeOutput>,
    tensor: NodeTensor,
) -> Result<NodeOutput> {
    let item = &graph.nodes[tensor.node].item;
    let missing = || item.unsupported(&format!("{}: output {}, which it does not have", item.class, tensor.output));
    let output = values.get(&tensor).copied().ok_or_else(missing)?;
    match output.shape {
        Shape::Turned { .. } | Shape::Scores => Err(item.unsupported(&format!("an output that is {}", output.shape))),
        _ => Ok(output),
    }
}

/// The layer after which all timesteps of what `item` gives count.
pub(super) fn unmask(item: &Item<'_>) -> LayerSpec {
    LayerSpec::Unmask(NamedSpec { name: format!("{}_unmask", item.name) })
}

fn is_sequence(shape: Shape) -> bool {
    matches!(shape, Shape::Sequence { .. } | Shape::Steps(_))
}

fn states_width(layer: &LayerSpec) -> bool {
    layer.recurrent().is_some()
        || matches!(
            layer,
            LayerSpec::Dense(_) | LayerSpec::Conv1d(_) | LayerSpec::LayerNorm(_) | LayerSpec::BatchNorm(_)
        )
}

/// Whether Keras has a mask after the layers that `item` became; an error where we would treat
/// it in another way.
fn mask_after(item: &Item<'_>, layers: &[LayerSpec], masked: bool) -> Result<bool> {
    let mut masked = masked;
    for layer in layers {
        masked = match layer {
            LayerSpec::Embedding(e) => e.mask_zero,
            LayerSpec::Masking(_) => true,
            LayerSpec::Softmax | LayerSpec::TimeSoftmax(_) if masked && item.class == "Softmax" => {
                return Err(item.unsupported("Softmax layer of masked steps"));
            }
            LayerSpec::Conv1d(_)
            | LayerSpec::Pool1d(_)
            | LayerSpec::GlobalPool(_)
            | LayerSpec::Reshape(_)
            | LayerSpec::Repeat(_)
            | LayerSpec::Pad(_)
            | LayerSpec::Transpose(_)
            | LayerSpec::Unmask(_) => false,
            other => masked && other.recurrent().is_none_or(|(_, r)| r.output == RecurrentOutput::Sequence),
        };
    }
    Ok(masked)
}

fn input_layer(item: &Item<'_>) -> Result<()> {
    let options = LayerOptions::new(item.name, item.class, item.config);
    // Any number type; the shape is read with the graph.
    for key in ["dtype", "batch_shape", "optional", "batch_size"] {
        options.get(key);
    }
    options.none_of(&["sparse", "ragged"])?;
    options.nothing_left()
}
