//! A model's configuration as a graph of layers: Sequential and functional models. A model that is a layer of another is
//! replaced by its layers.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::activation::Version;
use super::call::{Call, CallTensor};
use super::layers::{EACH_STEP, Item};
use super::malformed;
use super::options::brief;
use crate::base::error::{Error, Result};

/// The most layers a model may have; gatefold's networks have no more.
pub(super) const MAX_LAYERS: usize = 1024;

/// How deep models may be layers of each other.
const MAX_DEPTH: usize = 16;

/// A model: the calls of its layers, and which of their outputs each of them reads.
pub(super) struct KerasGraph<'a> {
    pub nodes: Vec<KerasNode<'a>>,
    /// The nodes that the model's inputs go to, in its order.
    pub inputs: Vec<usize>,
    /// The model's outputs.
    pub outputs: Vec<NodeTensor>,
    /// What Keras calls them: their keys, or the layers that compute them.
    pub output_names: Vec<String>,
    /// The name of each layer's group in Keras 3's weights: its class, numbered in the order of the model; the groups of a model
    /// within the model lie in that model's.
    pub groups: BTreeMap<String, String>,
    /// In legacy files, where the weights of a layer within a model are.
    pub owners: BTreeMap<String, Owner>,
    /// The shape of the first input, with the batch, if a layer states it.
    pub input_shape: Option<&'a Value>,
}

/// Where a legacy file has the weights of a layer within a model.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    /// The group: the outermost model's, or that of the TimeDistributed around it.
    pub group: String,
    /// The model.
    pub model: String,
}

/// An output of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeTensor {
    pub node: usize,
    pub output: usize,
}

/// A call of a layer.
pub(super) struct KerasNode<'a> {
    pub item: Item<'a>,
    /// Which of the layer's calls it is, from 0; the weights of all are the same.
    pub call: usize,
    /// What it reads; nothing if it is an input.
    pub inputs: Vec<NodeTensor>,
    /// What a recurrent layer starts from.
    pub states: Vec<NodeTensor>,
    /// The node that computes the mask it is called with.
    pub mask: Option<usize>,
    /// The places of a slice, one for each axis.
    pub slices: Option<&'a Vec<Value>>,
    /// The numbers among the arguments of an operation.
    pub numbers: Vec<f64>,
    /// Whether a number is the first argument.
    pub number_first: bool,
    /// Whether a layer of attention gives the shares of the timesteps too.
    pub scores: bool,
    /// What about the call is not supported.
    pub refused: Option<String>,
}

impl<'a> KerasGraph<'a> {
    /// From the configuration of a whole model.
    pub(super) fn new(model: &'a Value, version: Version) -> Result<Self> {
        Self::nested(model, version, MAX_DEPTH)
    }

    /// From that of a model in which models may be nested `depth` deep.
    fn nested(model: &'a Value, version: Version, depth: usize) -> Result<Self> {
        let item = model.get("class_name").and_then(Value::as_str);
        let Some(config) = model.get("config") else {
            return Err(malformed("Keras configuration", "a model with class_name and config", &brief(model)));
        };
        match (item, config) {
            (Some("Sequential"), Value::Array(layers)) => Self::sequential(layers, config, (version, depth)),
            (Some("Sequential"), Value::Object(options)) => {
                known(options, &["name", "trainable", "dtype", "layers", "build_input_shape"])?;
                Self::sequential(list(options, "layers")?, config, (version, depth))
            }
            (Some("Functional" | "Model"), Value::Object(options)) => {
                known(options, &["name", "trainable", "dtype", "layers", "input_layers", "output_layers"])?;
                Self::functional(options, (version, depth))
            }
            (class, _) => Err(Error::Unsupported {
                place: "Keras model".into(),
                what: format!(
                    "class {} (supported: Sequential, Functional; export a model of another class to ONNX)",
                    class.unwrap_or("that is not stated")
                ),
            }),
        }
    }

    /// Nodes in an order in which each comes after its inputs, and the first output last. Nodes that no output needs are left
    /// out.
    pub(super) fn order(&self) -> Result<Vec<usize>> {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Done,
        }
        let mut marks = vec![Mark::New; self.nodes.len()];
        let mut order = Vec::with_capacity(self.nodes.len());
        // What is pushed last is visited first: the first output comes last.
        let mut stack: Vec<usize> = self.outputs.iter().map(|output| output.node).collect();
        while let Some(&node) = stack.last() {
            match marks[node] {
                Mark::Done => {
                    stack.pop();
                }
                Mark::Open => {
                    marks[node] = Mark::Done;
                    order.push(node);
                    stack.pop();
                }
                Mark::New => {
                    marks[node] = Mark::Open;
                    let KerasNode { inputs, states, mask, .. } = &self.nodes[node];
                    let read = inputs.iter().chain(states).map(|tensor| tensor.node).chain(*mask);
                    for input in read.collect::<Vec<_>>().into_iter().rev() {
                        match marks[input] {
                            Mark::New => stack.push(input),
                            Mark::Done => {}
                            Mark::Open => {
                                let name = self.nodes[input].item.name;
                                return Err(malformed("Keras configuration", "no cycle", &format!("`{name}` in one")));
                            }
                        }
                    }
                }
            }
        }
        Ok(order)
    }

    fn sequential(layers: &'a [Value], model: &'a Value, (version, depth): (Version, usize)) -> Result<Self> {
        bounded(layers.len())?;
        let items = layers.iter().map(|layer| item(layer, version)).collect::<Result<Vec<_>>>()?;
        let Some(first) = items.first() else {
            return Err(malformed("Keras configuration", "at least one layer", &"none"));
        };
        if let Some(later) = items.iter().skip(1).find(|item| item.class == "InputLayer") {
            return Err(later.unsupported("InputLayer after another layer"));
        }
        let states = |item: &&Item<'_>| item.config.get("return_state") == Some(&Value::Bool(true));
        if let Some(item) = items.iter().find(states) {
            return Err(item.unsupported(&format!("{}: option `return_state` in a Sequential model", item.class)));
        }
        let apart = |item: &&Item<'_>| item.config.get("merge_mode").is_some_and(Value::is_null);
        if let Some(item) = items.iter().find(apart) {
            return Err(item.unsupported(&format!("{}: option `merge_mode` None in a Sequential model", item.class)));
        }
        let stated =
            first.input_shape().or_else(|| model.get("build_input_shape").filter(|_| first.class != "InputLayer"));
        let mut expanded = Expanded::default();
        for item in &items {
            expanded.push(*item, version, depth)?;
        }
        for (index, item) in items.iter().enumerate().skip(1) {
            let before = expanded.places[index - 1].outputs.clone();
            let next = &expanded.places[index].inputs;
            if before.len() > 1 || next.len() > 1 {
                return Err(item.unsupported("several tensors in a Sequential model"));
            }
            expanded.nodes[next[0]].inputs = before;
        }
        let Expanded { nodes, places, groups, owners, input_shape, .. } = expanded;
        let (inputs, outputs) = (places[0].inputs.clone(), places[places.len() - 1].outputs.clone());
        let output_names = output_names(&nodes, &outputs, &Value::Null);
        Ok(Self { nodes, inputs, outputs, output_names, groups, owners, input_shape: stated.or(input_shape) })
    }

    fn functional(options: &'a Map<String, Value>, (version, depth): (Version, usize)) -> Result<Self> {
        let layers = list(options, "layers")?;
        bounded(layers.len())?;
        let items = layers.iter().map(|layer| item(layer, version)).collect::<Result<Vec<_>>>()?;
        let mut expanded = Expanded::default();
        // The places of every call of each layer.
        let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut calls = Vec::new();
        for &item in &items {
            if item.value.get("name").is_none() || item.value.pointer("/config/name").is_none() {
                return Err(malformed(
                    &format!("layer `{}`", item.name),
                    "a name, in its config and beside it",
                    &"one",
                ));
            }
            let mut made = Call::all(&item)?;
            if made.is_empty() {
                made.push(Call::default());
            }
            let group = expanded.next_group(&item);
            for (number, call) in made.into_iter().enumerate() {
                expanded.push_call(item, version, depth, (group.as_deref(), number))?;
                by_name.entry(item.name).or_default().push(calls.len());
                calls.push((item, call));
            }
        }
        let Expanded { mut nodes, places, groups, owners, .. } = expanded;
        let find = |tensor: CallTensor<'_>| -> Result<NodeTensor> {
            let expected = "an output of one of the model's layers";
            let got = format!("output {} of call {} of `{}`", tensor.output, tensor.call, tensor.name);
            let missing = || malformed("Keras configuration", expected, &got);
            let of_name = by_name.get(tensor.name).ok_or_else(missing)?;
            // Keras 2 counts the making of a model within the model as its first call.
            let counted_from = match of_name.first() {
                Some(&first) if places[first].is_model && version == Version::Two => 1,
                _ => 0,
            };
            let place = tensor.call.checked_sub(counted_from).and_then(|call| of_name.get(call)).ok_or_else(missing)?;
            let Ends { outputs, is_model, .. } = &places[*place];
            match (is_model, outputs.get(tensor.output), outputs.first()) {
                (true, Some(output), _) => Ok(*output),
                (false, _, Some(first)) => Ok(NodeTensor { node: first.node, output: tensor.output }),
                _ => Err(missing()),
            }
        };
        let found = |tensors: &[CallTensor<'_>]| tensors.iter().map(|&tensor| find(tensor)).collect::<Result<Vec<_>>>();
        for ((item, call), ends) in calls.into_iter().zip(&places) {
            let (inputs, states) = (found(&call.inputs)?, found(&call.states)?);
            let mask = call.mask.map(|mask| Ok::<usize, Error>(find(mask)?.node)).transpose()?;
            if !ends.is_model {
                let node = &mut nodes[ends.inputs[0]];
                (node.inputs, node.states, node.mask, node.slices) = (inputs, states, mask, call.slices);
                (node.numbers, node.scores, node.refused) = (call.numbers, call.scores, call.refused);
                node.number_first = call.number_first;
                continue;
            }
            if let Some(what) = call.refused {
                return Err(item.unsupported(&what));
            }
            if mask.is_some() || inputs.len() != ends.inputs.len() && !inputs.is_empty() {
                return Err(item.unsupported(&format!("a model of {} inputs called with others", ends.inputs.len())));
            }
            for (&node, tensor) in ends.inputs.iter().zip(inputs) {
                nodes[node].inputs = vec![tensor];
            }
        }
        let ends = |key: &str| -> Result<Vec<NodeTensor>> { found(&ends_of(options, key)?) };
        let inputs: Vec<usize> = ends("input_layers")?.into_iter().map(|tensor| tensor.node).collect();
        // Keras 3 counts the making of a functional model within the model here, and nowhere else.
        let mut stated = ends_of(options, "output_layers")?;
        bounded(stated.len())?;
        for end in stated.iter_mut().filter(|_| version == Version::Three) {
            let functional =
                items.iter().any(|item| item.name == end.name && matches!(item.class, "Functional" | "Model"));
            end.call = end.call.saturating_sub(usize::from(functional));
        }
        let outputs = found(&stated)?;
        let Some(&first) = inputs.first() else {
            return Err(malformed("Keras configuration: input_layers", "at least one", &"none"));
        };
        if outputs.is_empty() {
            return Err(malformed("Keras configuration: output_layers", "at least one", &"none"));
        }
        let input_shape = nodes[first].item.input_shape();
        let output_names = output_names(&nodes, &outputs, options.get("output_layers").unwrap_or(&Value::Null));
        let graph = Self { nodes, inputs, outputs, output_names, groups, owners, input_shape };
        for index in graph.order()? {
            let node = &graph.nodes[index];
            if node.inputs.is_empty() && !graph.inputs.contains(&index) {
                return Err(node.item.unsupported(&format!("{} that is no input of the model", node.item.class)));
            }
        }
        Ok(graph)
    }
}

/// The names of a model's outputs, which `stated` may give keys.
fn output_names(nodes: &[KerasNode<'_>], outputs: &[NodeTensor], stated: &Value) -> Vec<String> {
    if let Some(keys) = stated.as_object().filter(|keys| keys.len() == outputs.len()) {
        return keys.keys().cloned().collect();
    }
    let name = |tensor: &NodeTensor| nodes.get(tensor.node).map_or("", |node| node.item.name);
    let numbered = |(number, tensor): (usize, &NodeTensor)| {
        let used = outputs[..number].iter().filter(|other| name(other) == name(tensor)).count();
        if used == 0 { name(tensor).to_owned() } else { format!("{}_{used}", name(tensor)) }
    };
    outputs.iter().enumerate().map(numbered).collect()
}

/// Where the inputs of a call of a layer go, and where its outputs are: one node, or those of a model.
#[derive(Clone)]
struct Ends {
    inputs: Vec<usize>,
    outputs: Vec<NodeTensor>,
    is_model: bool,
}

/// Layers, with the layers of models in the place of models.
#[derive(Default)]
struct Expanded<'a> {
    nodes: Vec<KerasNode<'a>>,
    /// Of every layer.
    places: Vec<Ends>,
    groups: BTreeMap<String, String>,
    owners: BTreeMap<String, Owner>,
    /// How many groups each class has, less one.
    counts: BTreeMap<String, usize>,
    /// The input shape of the first layer, if it is a model that states it.
    input_shape: Option<&'a Value>,
}

impl<'a> Expanded<'a> {
    fn push(&mut self, item: Item<'a>, version: Version, depth: usize) -> Result<()> {
        let group = self.next_group(&item);
        self.push_call(item, version, depth, (group.as_deref(), 0))
    }

    /// The name of the group of a layer that has one.
    fn next_group(&mut self, item: &Item<'_>) -> Option<String> {
        (!item.is_operation()).then(|| self.group(item.class))
    }

    /// A call of a layer whose weights are in `group`.
    fn push_call(
        &mut self,
        item: Item<'a>,
        version: Version,
        depth: usize,
        (group, call): (Option<&str>, usize),
    ) -> Result<()> {
        let first = self.nodes.len();
        bounded(first + 1)?;
        let (model, within_group) = match each_step(&item)? {
            Some(model) => (Some(model), "/layer/layers"),
            None => (is_model(item.class).then_some(item.value), "/layers"),
        };
        let Some(model) = model else {
            self.groups.extend(group.map(|group| (item.name.to_owned(), group.to_owned())));
            self.nodes.push(KerasNode {
                item,
                call,
                inputs: Vec::new(),
                states: Vec::new(),
                mask: None,
                slices: None,
                numbers: Vec::new(),
                number_first: false,
                scores: false,
                refused: None,
            });
            let outputs = vec![NodeTensor { node: first, output: 0 }];
            self.places.push(Ends { inputs: vec![first], outputs, is_model: false });
            return Ok(());
        };
        let Some(depth) = depth.checked_sub(1) else {
            return Err(item.unsupported(&format!("models within models more than {MAX_DEPTH} deep")));
        };
        let inner = KerasGraph::nested(model, version, depth)?;
        bounded(first + inner.nodes.len())?;
        if first == 0 {
            self.input_shape = inner.input_shape;
        }
        let each_step = item.class == "TimeDistributed";
        let name = model.get("config").and_then(|config| config.get("name")).and_then(Value::as_str);
        let owner = Owner { group: item.name.to_owned(), model: name.unwrap_or(item.name).to_owned() };
        self.owners.extend(inner.groups.keys().map(|name| (name.clone(), owner.clone())));
        let within = |(name, inner): (String, String)| {
            let outer = group.unwrap_or_default();
            (name, format!("{outer}{within_group}/{inner}"))
        };
        self.groups.extend(inner.groups.into_iter().map(within));
        let moved = |tensor: NodeTensor| NodeTensor { node: first + tensor.node, ..tensor };
        let all = |tensors: Vec<NodeTensor>| tensors.into_iter().map(moved).collect::<Vec<_>>();
        self.nodes.extend(inner.nodes.into_iter().map(|node| KerasNode {
            item: Item { each_step: each_step || node.item.each_step, ..node.item },
            call: node.call + call,
            inputs: all(node.inputs),
            states: all(node.states),
            mask: node.mask.map(|mask| first + mask),
            ..node
        }));
        let inputs = inner.inputs.iter().map(|input| first + input).collect();
        self.places.push(Ends { inputs, outputs: all(inner.outputs), is_model: !each_step });
        Ok(())
    }

    /// The name of the next group of a class.
    fn group(&mut self, class: &str) -> String {
        let class = snake_case(class);
        let count = self.counts.entry(class.clone()).and_modify(|count| *count += 1).or_insert(0);
        if *count == 0 { class } else { format!("{class}_{count}") }
    }
}

fn is_model(class: &str) -> bool {
    matches!(class, "Functional" | "Model" | "Sequential")
}

/// The model that a TimeDistributed applies to each timestep, if it is one: its layers do the same to a sequence.
fn each_step<'a>(item: &Item<'a>) -> Result<Option<&'a Value>> {
    let inner = item.config.get("layer").filter(|_| item.class == "TimeDistributed");
    let class = |layer: &Value| layer.get("class_name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let Some(model) = inner.filter(|inner| is_model(&class(inner))) else { return Ok(None) };
    let layers = model.get("config").and_then(|config| config.get("layers").or(Some(config))).and_then(Value::as_array);
    let joins = |layer: &Value| match class(layer).as_str() {
        "Add" | "Subtract" | "Multiply" | "Average" | "Maximum" | "Minimum" => true,
        // Another axis would be that of time.
        "Concatenate" => layer.get("config").and_then(|config| config.get("axis")).and_then(Value::as_i64) == Some(-1),
        _ => false,
    };
    for layer in layers.into_iter().flatten() {
        let class = class(layer);
        let is_one = EACH_STEP.contains(&class.as_str()) && class != "Flatten";
        if class != "InputLayer" && !is_one && !joins(layer) {
            return Err(item.unsupported(&format!("a model with a layer of class {class} inside")));
        }
    }
    Ok(Some(model))
}

fn bounded(layers: usize) -> Result<()> {
    if layers <= MAX_LAYERS {
        return Ok(());
    }
    Err(Error::TooLarge {
        what: "Keras model".into(),
        needed: layers as u64,
        limit: MAX_LAYERS as u64,
        limit_name: "layers".into(),
    })
}

/// What the layers of a model, and of models within it, are refused with by themselves.
pub(super) fn refused_layers(model: &Value, version: Version) -> Vec<String> {
    let mut open = vec![model];
    let mut refusals = Vec::new();
    while let Some(model) = open.pop() {
        let config = model.get("config");
        let layers = config.and_then(|config| config.get("layers").or(Some(config))).and_then(Value::as_array);
        for layer in layers.into_iter().flatten().take(MAX_LAYERS) {
            let class = layer.get("class_name").and_then(Value::as_str);
            if class.is_some_and(is_model) {
                open.push(layer);
            } else if let Err(error) = item(layer, version) {
                refusals.push(error.to_string());
            }
        }
    }
    refusals
}

/// A layer. It is an error if its description has something that gatefold would ignore.
fn item(value: &Value, version: Version) -> Result<Item<'_>> {
    const KNOWN: [&str; 9] = [
        "module",
        "class_name",
        "config",
        "registered_name",
        "build_config",
        "compile_config",
        "name",
        "inbound_nodes",
        "shared_object_id",
    ];
    let item = Item::new(value, version)?;
    match value.as_object().and_then(|object| object.keys().find(|key| !KNOWN.contains(&key.as_str()))) {
        Some(key) => Err(item.unsupported(&format!("entry `{key}`"))),
        None => Ok(item),
    }
}

/// The outputs in `input_layers` or `output_layers`: `[name, 0, 0]`, a list of these, or names by which they are called.
fn ends_of<'a>(options: &'a Map<String, Value>, key: &str) -> Result<Vec<CallTensor<'a>>> {
    let value = options.get(key).unwrap_or(&Value::Null);
    let wrong =
        |value: &Value| malformed(&format!("Keras configuration: {key}"), "[name, call, output]", &brief(value));
    let end = |value: &'a Value| {
        let parts = value.as_array().map_or(&[][..], Vec::as_slice);
        let [Value::String(name), call, output] = parts else { return Err(wrong(value)) };
        let number = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok());
        let (Some(call), Some(output)) = (number(call), number(output)) else { return Err(wrong(value)) };
        Ok(CallTensor { name, call, output })
    };
    match value {
        Value::Array(ends) if matches!(ends.first(), Some(Value::String(_))) => Ok(vec![end(value)?]),
        Value::Array(ends) => ends.iter().map(end).collect(),
        Value::Object(named) => named.values().map(end).collect(),
        other => Err(malformed(&format!("Keras configuration: {key}"), "a list", &brief(other))),
    }
}

fn list<'a>(options: &'a Map<String, Value>, key: &str) -> Result<&'a Vec<Value>> {
    let value = options.get(key).unwrap_or(&Value::Null);
    value.as_array().ok_or_else(|| malformed(&format!("Keras configuration: {key}"), "a list", &brief(value)))
}

fn known(options: &Map<String, Value>, keys: &[&str]) -> Result<()> {
    match options.iter().find(|(key, value)| !keys.contains(&key.as_str()) && !value.is_null()) {
        Some((key, value)) => {
            Err(Error::Unsupported { place: "Keras model".into(), what: format!("option `{key}` = {}", brief(value)) })
        }
        None => Ok(()),
    }
}

/// `SimpleRNN` to `simple_rnn`, `Conv1D` to `conv1d`: an underscore before a capital that a small
/// letter follows (and that is not the first), and between a small letter and a capital.
fn snake_case(class: &str) -> String {
    let letters: Vec<char> = class.chars().collect();
    let mut snake = String::with_capacity(class.len() + 4);
    for (index, letter) in letters.iter().enumerate() {
        let before = index.checked_sub(1).map(|i| letters[i]);
        let word_starts = letter.is_ascii_uppercase()
            && before.is_some_and(|before| {
                before.is_ascii_lowercase() || letters.get(index + 1).is_some_and(char::is_ascii_lowercase)
            });
        if word_starts {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::snake_case;

    #[test]
    fn classes_become_keras_group_names() {
        for (class, group) in [
            ("LSTM", "lstm"),
            ("GRU", "gru"),
            ("SimpleRNN", "simple_rnn"),
            ("Conv1D", "conv1d"),
            ("TimeDistributed", "time_distributed"),
            ("GlobalAveragePooling1D", "global_average_pooling1d"),
            ("PReLU", "p_re_lu"),
            ("LeakyReLU", "leaky_re_lu"),
            ("BatchNormalization", "batch_normalization"),
        ] {
            assert_eq!(snake_case(class), group);
        }
    }
}
