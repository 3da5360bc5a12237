//! A network of several inputs, of which one is read step by step and the others once: a part that reads those, and a decoder
//! that attends to what it made of them.

use std::collections::{BTreeMap, BTreeSet};

use super::input::{InputKind, InputSpec};
use super::stage::{MaskReach, StageKind};
use super::{
    Activation, ActivationSpec, FromSpec, HiddenOrCell, INPUT, LayerSpec, NamedSpec, Network, NetworkSpec,
    expected_tensors,
};
use crate::base::error::{Error, Result};

/// Both parts of a network.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Division {
    /// Reads the other inputs; its outputs are what the decoder attends to and starts from.
    pub reader: Network,
    /// Reads one input step by step. Its other inputs are what it attends to.
    pub decoder: Network,
    /// Of the decoder's inputs beside the first, in their order.
    pub banks: Vec<BankSource>,
    /// What its recurrent layers and feedbacks start from.
    pub starts: Vec<StartSource>,
}

/// Where the numbers of an input that is attended to come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BankSource {
    /// Position among the reader's outputs.
    pub output: usize,
    /// The reader's input whose mask fits its timesteps, if one does.
    pub mask: Option<usize>,
    /// The inputs of the decoder, by their position here, that have as many timesteps.
    pub values: Vec<usize>,
}

/// A part of a state that the reader gives: of a recurrent layer `[B, D*H]`, of a feedback `[B, N]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StartSource {
    /// Position among the reader's outputs.
    pub output: usize,
    /// Position of the decoder's layer among those that keep something.
    pub layer: usize,
    /// Position of the part in its layer.
    pub part: usize,
}

/// A layer, what it reads and on which inputs of the network it depends.
struct Node<'a> {
    layer: &'a LayerSpec,
    /// The layer whose output flows in, where it reads that.
    flow: Option<usize>,
    /// Other layers that it reads, by their names.
    named: Vec<(&'a str, usize)>,
    /// Bits of the inputs.
    inputs: u32,
}

/// The layers of a description as a graph.
struct Graph<'a> {
    nodes: Vec<Node<'a>>,
    /// Of each input of the network, the layer that it is; none of the first where no layer is.
    inputs: Vec<usize>,
    /// Stands for an `input` layer of the first input where there is none.
    first: LayerSpec,
}

impl Network {
    /// Divides the network at what its decoder attends to.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the name of a layer, if no input can be read step by step.
    pub(crate) fn divided(&self) -> Result<Division> {
        let kind = self.inputs[0].kind;
        let name = if self.inputs[0].name == INPUT { String::new() } else { self.inputs[0].name.clone() };
        let input_size = if kind == InputKind::Tokens { 0 } else { self.inputs[0].width };
        let graph = Graph::new(&self.spec, LayerSpec::Input(InputSpec { name, kind, input_size }));
        let mut refused = None;
        for (number, input) in self.inputs.iter().enumerate() {
            if input.kind == InputKind::Row {
                continue;
            }
            match self.divided_at(&graph, number) {
                Ok(division) => return Ok(division),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or_else(|| unsupported("network", "a stream without an input over time")))
    }

    fn divided_at(&self, graph: &Graph<'_>, number: usize) -> Result<Division> {
        let mut decoder = graph.decoder(1 << number)?;
        let read: Vec<&str> =
            decoder.banks.iter().chain(decoder.starts.iter().map(|start| &start.2)).copied().collect();
        let reader = self.part(graph.reader(&read)?)?;
        let output = |name: &str| reader.outputs.iter().position(|output| output.name == name).unwrap_or(0);
        let mut banks: Vec<BankSource> = decoder
            .banks
            .iter()
            .map(|name| BankSource { output: output(name), mask: None, values: Vec::new() })
            .collect();
        for (keys, values, attention) in &decoder.attends {
            let at = |name: &str| decoder.banks.iter().position(|bank| *bank == name).unwrap_or(0);
            let (keys, values) = (at(keys), at(values));
            banks[keys].values.push(values);
            let is_it =
                |stage: &&super::Stage| matches!(stage.kind, StageKind::Attention(_)) && stage.label == *attention;
            if let Some(MaskReach::Fits(input)) = self.stages.iter().find(is_it).map(|stage| stage.mask_reach) {
                banks[keys].mask = reader.inputs.iter().position(|known| known.name == self.inputs[input].name);
            }
        }
        let mut layers = std::mem::take(&mut decoder.layers);
        for (name, bank) in decoder.banks.iter().zip(&banks) {
            let name = bank_name(name);
            let input = layers.iter_mut().skip(1).find(|layer| layer.name() == name);
            if let Some(LayerSpec::Input(input)) = input {
                input.input_size = reader.stages[reader.outputs[bank.output].stage].out_features;
            }
        }
        let starts = std::mem::take(&mut decoder.starts);
        let decoder = self.part(layers)?;
        decoder.cut()?;
        let kept = |layer: &str| decoder.kept.iter().position(|kept| kept.name == layer).unwrap_or(0);
        let start = |(layer, part, name)| StartSource { output: output(name), layer: kept(layer), part };
        let starts = starts.into_iter().map(start).collect();
        Ok(Division { reader, decoder, banks, starts })
    }

    /// Some of the network's layers with their weights.
    fn part(&self, layers: Vec<LayerSpec>) -> Result<Self> {
        let spec = NetworkSpec { format: self.spec.format, layers, text: None, labels: Vec::new() };
        let named = expected_tensors(&spec).into_iter().map(|(name, _)| name);
        let tensors = named.filter_map(|name| self.tensors.get(&name).map(|tensor| (name.clone(), tensor.clone())));
        let tensors = tensors.collect();
        Self::new(spec, tensors)
    }
}

/// The layers of a decoder, and what it reads of other layers.
struct DecoderLayers<'a> {
    layers: Vec<LayerSpec>,
    /// Names of what it attends to.
    banks: Vec<&'a str>,
    /// Name of a layer, part of its state, name of what that starts from.
    starts: Vec<(&'a str, usize, &'a str)>,
    /// Keys, values and name of each attention.
    attends: Vec<(&'a str, &'a str, &'a str)>,
}

/// Layers in order, with `from` where the layer in front is not the one that is read.
struct Emitted {
    layers: Vec<LayerSpec>,
    flow: Option<usize>,
}

impl Emitted {
    fn push(&mut self, index: usize, node: &Node<'_>, layer: LayerSpec, graph: &Graph<'_>) -> Result<()> {
        if let Some(flow) = node.flow.filter(|&flow| self.flow != Some(flow)) {
            let name = graph.layer_of(flow).name();
            let name = if name.is_empty() && graph.inputs[0] == flow { INPUT } else { name };
            if name.is_empty() {
                return Err(unsupported(
                    layer.name(),
                    "a stream that divides the network behind a layer without a name",
                ));
            }
            self.layers.push(LayerSpec::From(FromSpec { layer: name.to_owned() }));
        }
        self.layers.push(layer);
        self.flow = Some(index);
        Ok(())
    }
}

impl<'a> Graph<'a> {
    /// `first` stands for the first input where no layer does. The returned graph has it as its first layer.
    fn new(spec: &'a NetworkSpec, first: LayerSpec) -> Graph<'a> {
        let mut graph = Self { nodes: Vec::new(), inputs: Vec::new(), first };
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        let mut flow = 0;
        for (index, layer) in spec.layers.iter().enumerate() {
            if index == 0 && !matches!(layer, LayerSpec::Input(_)) {
                // The layer itself is only a place holder here: `layer_of` gives `first`.
                graph.nodes.push(Node { layer, flow: None, named: Vec::new(), inputs: 1 });
                graph.inputs.push(0);
                names.insert(INPUT, 0);
            }
            let reads: Vec<&str> = match layer {
                LayerSpec::Input(_) => {
                    let number = graph.inputs.len();
                    graph.inputs.push(graph.nodes.len());
                    flow = graph.nodes.len();
                    names.insert(if layer.name().is_empty() { INPUT } else { layer.name() }, flow);
                    graph.nodes.push(Node { layer, flow: None, named: Vec::new(), inputs: 1 << number });
                    continue;
                }
                LayerSpec::From(from) => {
                    flow = names.get(&from.layer[..]).copied().unwrap_or(flow);
                    continue;
                }
                LayerSpec::Output(_) => continue,
                LayerSpec::Join(join) => join.inputs.iter().map(String::as_str).collect(),
                LayerSpec::FinalState(state) => vec![&state.layer],
                LayerSpec::Attention(attention) => {
                    std::iter::once(&attention.keys).chain(&attention.values).map(String::as_str).collect()
                }
                LayerSpec::Feedback(feedback) => feedback.initial.iter().map(String::as_str).collect(),
                _ => match layer.recurrent() {
                    Some((_, spec)) => spec.initial_h.iter().chain(&spec.initial_c).map(String::as_str).collect(),
                    None => Vec::new(),
                },
            };
            let named: Vec<(&str, usize)> =
                reads.into_iter().filter_map(|name| Some((name, *names.get(name)?))).collect();
            let reads_flow = !matches!(layer, LayerSpec::Join(_) | LayerSpec::FinalState(_));
            let flow_in = reads_flow.then_some(flow);
            let inputs = named.iter().map(|&(_, at)| at).chain(flow_in).fold(0, |all, at| all | graph.nodes[at].inputs);
            flow = graph.nodes.len();
            if !layer.name().is_empty() {
                names.insert(layer.name(), flow);
            }
            graph.nodes.push(Node { layer, flow: flow_in, named, inputs });
        }
        graph
    }

    /// The description of a layer of the graph.
    fn layer_of(&self, index: usize) -> &LayerSpec {
        let implied = index == 0 && !matches!(self.nodes[0].layer, LayerSpec::Input(_));
        if implied { &self.first } else { self.nodes[index].layer }
    }

    /// The layers that depend on the input of this bit.
    fn decoder(&self, bit: u32) -> Result<DecoderLayers<'a>> {
        let mut found =
            DecoderLayers { layers: Vec::new(), banks: Vec::new(), starts: Vec::new(), attends: Vec::new() };
        let mut emitted = Emitted { layers: Vec::new(), flow: None };
        for (index, node) in self.nodes.iter().enumerate() {
            if node.inputs & bit == 0 {
                continue;
            }
            let mut layer = self.layer_of(index).clone();
            let streamed = |at: usize| self.nodes[at].inputs & bit > 0;
            if node.flow.is_some_and(|flow| !streamed(flow)) {
                return Err(unsupported(
                    layer.name(),
                    "a stream through a layer that reads another input of the network",
                ));
            }
            let others: Vec<&str> =
                node.named.iter().filter(|&&(_, at)| !streamed(at)).map(|&(name, _)| name).collect();
            if let LayerSpec::Attention(attention) = &mut layer {
                if others.len() < node.named.len() {
                    return Err(unsupported(&attention.name, "a stream through attention to all timesteps"));
                }
                let (keys, values) = (others[0], others[others.len() - 1]);
                found.attends.push((keys, values, node.layer.name()));
                attention.keys = bank_name(keys);
                attention.values = attention.values.as_ref().map(|_| bank_name(values));
                for name in others {
                    if !found.banks.contains(&name) {
                        found.banks.push(name);
                        let input = InputSpec { name: bank_name(name), kind: InputKind::Sequence, input_size: 1 };
                        emitted.layers.push(LayerSpec::Input(input));
                        emitted.flow = None;
                    }
                }
            } else if let Some((_, spec)) = layer.recurrent_mut() {
                for (part, name) in [(HiddenOrCell::H, &mut spec.initial_h), (HiddenOrCell::C, &mut spec.initial_c)] {
                    if let Some(&other) = others.iter().find(|other| Some(**other) == name.as_deref()) {
                        found.starts.push((node.layer.name(), part.place(), other));
                        *name = None;
                    }
                }
            } else if let LayerSpec::Feedback(feedback) = &mut layer {
                found.starts.extend(others.iter().map(|&other| (node.layer.name(), 0, other)));
                feedback.initial = None;
            } else if !others.is_empty() {
                return Err(unsupported(
                    layer.name(),
                    "a stream through a layer that reads another input of the network",
                ));
            }
            emitted.push(index, node, layer, self)?;
        }
        if found.attends.is_empty() && found.starts.is_empty() {
            return Err(unsupported("network", &format!("a stream of {} inputs", self.inputs.len())));
        }
        found.layers = emitted.layers;
        Ok(found)
    }

    /// The layers that these need, each of these an output; what is an input passes a layer that changes nothing.
    fn reader(&self, names: &[&str]) -> Result<Vec<LayerSpec>> {
        let of = |name: &str| {
            let found = (0..self.nodes.len()).rev().find(|&at| self.layer_of(at).name() == name);
            found.or_else(|| self.inputs.first().copied().filter(|_| name == INPUT))
        };
        let mut needed = BTreeSet::new();
        let mut open: Vec<usize> = names.iter().filter_map(|name| of(name)).collect();
        let wanted: BTreeSet<usize> = open.iter().copied().collect();
        while let Some(at) = open.pop() {
            if needed.insert(at) {
                open.extend(self.nodes[at].flow.into_iter().chain(self.nodes[at].named.iter().map(|named| named.1)));
            }
        }
        let mut emitted = Emitted { layers: Vec::new(), flow: None };
        for &index in &needed {
            let (node, layer) = (&self.nodes[index], self.layer_of(index).clone());
            let is_input = matches!(layer, LayerSpec::Input(_));
            let name = if layer.name().is_empty() { INPUT } else { layer.name() }.to_owned();
            emitted.push(index, node, layer, self)?;
            if !wanted.contains(&index) {
                continue;
            }
            if is_input {
                let activation = ActivationSpec { name: format!("{name} read"), activation: Activation::Linear };
                emitted.layers.push(LayerSpec::Activation(activation));
            }
            emitted.layers.push(LayerSpec::Output(NamedSpec { name }));
            if is_input {
                emitted.flow = None;
            }
        }
        Ok(emitted.layers)
    }
}

/// The name of the decoder's input that is a bank.
fn bank_name(layer: &str) -> String {
    if layer == INPUT { "first input".into() } else { layer.into() }
}

fn unsupported(layer: &str, what: &str) -> Error {
    let place = if layer == "network" { layer.to_owned() } else { format!("layer `{layer}`") };
    Error::Unsupported { place, what: what.into() }
}
