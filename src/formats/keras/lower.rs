//! A graph of Keras layers as gatefold's list of layers.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::{KerasGraph, KerasNode};
use super::layers::{Item, Lowered, Shape, lower};
use super::masks::Masks;
use super::options::LayerOptions;
use crate::base::error::{Error, Result};
use crate::network::{
    Activation, ActivationSpec, FORMAT, FromSpec, INPUT, InputSpec, Join, JoinSpec, LayerSpec, NetworkSpec,
    RecurrentOutput,
};

/// The output of a node, or of the node whose output it passes on unchanged.
#[derive(Clone, Copy)]
struct NodeOutput {
    /// The node that computed it.
    source: usize,
    shape: Shape,
    /// Whether Keras passes a mask with it.
    masked: bool,
}

struct KerasLowering {
    layers: Vec<LayerSpec>,
    /// What the next layer reads unless it names its input.
    current: usize,
    /// The names by which later layers can refer to values.
    names: BTreeMap<usize, String>,
    /// Softmax layers, which have no names, by the node.
    unnamed: BTreeMap<usize, usize>,
    /// Places after which a layer must be inserted that only carries a name.
    name_bearers: BTreeMap<usize, String>,
}

/// The description of the network that `graph` is.
pub(super) fn network(graph: &KerasGraph<'_>) -> Result<NetworkSpec> {
    let order = graph.order()?;
    let mut values: BTreeMap<usize, NodeOutput> = BTreeMap::new();
    // A Sequential model may leave its input layer out.
    let outside = graph.nodes.len();
    let mut lowering = KerasLowering {
        layers: Vec::new(),
        current: outside,
        names: BTreeMap::from([(outside, INPUT.to_owned())]),
        unnamed: BTreeMap::new(),
        name_bearers: BTreeMap::new(),
    };
    let mut readers_of_input = BTreeSet::new();
    let mut masks = Masks::new(graph);
    for index in order {
        let KerasNode { item, inputs, mask } = &graph.nodes[index];
        if item.is_operation() {
            masks.operation(index)?;
            continue;
        }
        let input = || -> Result<NodeOutput> {
            let Some(shape) = graph.input_shape else {
                return Err(item.unsupported("a model whose input has no stated shape"));
            };
            Ok(NodeOutput { source: outside, shape: Shape::from_keras(item.name, shape)?, masked: false })
        };
        let read: Vec<NodeOutput> = match inputs.as_slice() {
            [] => vec![input()?],
            _ => inputs.iter().filter_map(|input| values.get(input).copied()).collect(),
        };
        if read.iter().any(|value| value.source == outside && !value.masked) && item.class != "InputLayer" {
            readers_of_input.insert(index);
        }
        if let Some(mask) = *mask {
            masks.check(item, mask, read.iter().all(|value| value.masked))?;
        }
        let value = match read.as_slice() {
            [value] if item.class == "InputLayer" => {
                input_layer(item)?;
                *value
            }
            [value] => lowering.single(index, item, *value)?,
            _ => lowering.join(index, item, &read)?,
        };
        if item.class == "Masking" && value.source != outside {
            return Err(item.unsupported("Masking that is not the first layer"));
        }
        masks.note(item);
        values.insert(index, value);
    }
    lowering.end_with(values.get(&graph.output), &graph.nodes[graph.output].item);
    let masking = readers_of_input.iter().find(|&&reader| graph.nodes[reader].item.class == "Masking");
    if let Some(&masking) = masking.filter(|_| readers_of_input.len() > 1) {
        return Err(graph.nodes[masking].item.unsupported("Masking while other layers read the unmasked input"));
    }
    let KerasLowering { mut layers, name_bearers, .. } = lowering;
    for (place, name) in name_bearers.into_iter().rev() {
        layers.insert(place + 1, LayerSpec::Activation(ActivationSpec { name, activation: Activation::Linear }));
    }
    if !layers.iter().any(|layer| layer.recurrent().is_some()) {
        let what = "a model without a recurrent layer";
        return Err(Error::Unsupported { place: "Keras model".into(), what: what.into() });
    }
    // Layers that treat every width alike leave the input's open.
    if let Some(Shape::Sequence(input_size)) =
        graph.input_shape.map(|shape| Shape::from_keras("input", shape)).transpose()?
    {
        let first = layers.iter().find(|layer| !matches!(layer, LayerSpec::Masking(_)));
        if first.is_some_and(|layer| !states_width(layer)) {
            layers.insert(0, LayerSpec::Input(InputSpec::sequence(input_size)));
        }
    }
    Ok(NetworkSpec { format: FORMAT, layers, text: None, labels: Vec::new() })
}

fn states_width(layer: &LayerSpec) -> bool {
    layer.recurrent().is_some()
        || matches!(
            layer,
            LayerSpec::Dense(_) | LayerSpec::Conv1d(_) | LayerSpec::LayerNorm(_) | LayerSpec::BatchNorm(_)
        )
}

impl KerasLowering {
    /// Makes sure that the last layer's output is the network's output.
    fn end_with(&mut self, output: Option<&NodeOutput>, item: &Item<'_>) {
        let Some(output) = output.filter(|output| output.source != self.current) else { return };
        let layer = self.name(output.source);
        let name = format!("{}_output", item.name);
        self.layers.push(LayerSpec::From(FromSpec { layer }));
        self.layers.push(LayerSpec::Activation(ActivationSpec { name, activation: Activation::Linear }));
    }

    fn single(&mut self, index: usize, item: &Item<'_>, input: NodeOutput) -> Result<NodeOutput> {
        let Lowered { layers, shape } = lower(item, input.shape)?;
        let masked = mask_after(item, &layers, input.masked)?;
        if layers.is_empty() {
            return Ok(NodeOutput { shape, masked, ..input });
        }
        if matches!(layers[0], LayerSpec::Masking(_)) {
            // It acts on the network's input; its output stands for the network's input.
            self.layers.extend(layers);
            return Ok(NodeOutput { masked, ..input });
        }
        if input.source != self.current {
            let layer = self.name(input.source);
            self.layers.push(LayerSpec::From(FromSpec { layer }));
        }
        self.layers.extend(layers);
        Ok(self.value(index, item, shape, masked))
    }

    fn join(&mut self, index: usize, item: &Item<'_>, inputs: &[NodeOutput]) -> Result<NodeOutput> {
        let options = LayerOptions::new(item.name, item.class, item.config);
        let join = match item.class {
            "Concatenate" => Join::Concat,
            "Add" => Join::Add,
            "Multiply" => Join::Mul,
            "Average" => Join::Average,
            "Maximum" => Join::Max,
            other => return Err(item.unsupported(&format!("layer class {other} with {} inputs", inputs.len()))),
        };
        let mut widths = Vec::with_capacity(inputs.len());
        for input in inputs {
            match (input.shape, inputs[0].shape) {
                (Shape::Sequence(width), Shape::Sequence(_)) | (Shape::Row(width), Shape::Row(_)) => widths.push(width),
                _ => return Err(options.unsupported("inputs with and without a time dimension, or token ids")),
            }
        }
        if join == Join::Concat {
            options.last_axis("axis", if matches!(inputs[0].shape, Shape::Row(_)) { 2 } else { 3 })?;
        } else if widths.iter().any(|&width| width != widths[0]) {
            return Err(options.unsupported(&format!("inputs of different widths {widths:?}")));
        }
        options.finish()?;
        let masked = inputs[0].masked;
        if inputs.iter().any(|input| input.masked != masked) {
            return Err(options.unsupported("inputs of which only some are masked"));
        }
        let width = match join {
            Join::Concat => widths.iter().fold(0, |sum: usize, &width| sum.saturating_add(width)),
            _ => widths[0],
        };
        let inputs_named = inputs.iter().map(|input| self.name(input.source)).collect();
        self.layers.push(LayerSpec::Join(JoinSpec { name: item.name.to_owned(), inputs: inputs_named, join }));
        let shape = match inputs[0].shape {
            Shape::Row(_) => Shape::Row(width),
            _ => Shape::Sequence(width),
        };
        Ok(self.value(index, item, shape, masked))
    }

    /// Records the output of the last layer.
    fn value(&mut self, index: usize, item: &Item<'_>, shape: Shape, masked: bool) -> NodeOutput {
        self.current = index;
        match self.layers.last().map(LayerSpec::name) {
            Some("") => {
                self.unnamed.insert(index, self.layers.len() - 1);
                self.names.insert(index, format!("{}_softmax", item.name));
            }
            last => {
                self.names.insert(index, last.unwrap_or(item.name).to_owned());
            }
        }
        NodeOutput { source: index, shape, masked }
    }

    /// The name by which a later layer refers to what node `source` computed.
    fn name(&mut self, source: usize) -> String {
        let name = self.names.get(&source).cloned().unwrap_or_default();
        if let Some(&place) = self.unnamed.get(&source) {
            self.name_bearers.insert(place, name.clone());
        }
        name
    }
}

/// Whether Keras has a mask after the layers that `item` became; an error where we would treat
/// it in another way.
fn mask_after(item: &Item<'_>, layers: &[LayerSpec], masked: bool) -> Result<bool> {
    let mut masked = masked;
    for layer in layers {
        masked = match layer {
            LayerSpec::Embedding(e) => e.mask_zero,
            LayerSpec::Masking(_) => true,
            LayerSpec::Softmax if masked && item.class == "Softmax" => {
                return Err(item.unsupported("Softmax layer of masked steps"));
            }
            LayerSpec::Conv1d(_) | LayerSpec::Pool1d(_) | LayerSpec::GlobalPool(_) => false,
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
