//! A model's configuration as a graph of layers: Sequential and functional models. A model that is a layer of another is
//! replaced by its layers.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::activation::Version;
use super::call::Call;
use super::layers::Item;
use super::malformed;
use super::options::brief;
use crate::base::error::{Error, Result};

/// The most layers a model may have; gatefold's networks have no more.
const MAX_LAYERS: usize = 1024;

/// How deep models may be layers of each other.
const MAX_DEPTH: usize = 16;

/// A model: its layers, and which layers each of them reads.
pub(super) struct KerasGraph<'a> {
    pub nodes: Vec<KerasNode<'a>>,
    /// The node that the model's input goes to.
    input: usize,
    /// The node whose output is the model's.
    pub output: usize,
    /// The name of each layer's group in Keras 3's weights: its class, numbered in the order of the model; the groups of a model
    /// within the model lie in that model's.
    pub groups: BTreeMap<String, String>,
    /// The shape of the input, with the batch, if a layer states it.
    pub input_shape: Option<&'a Value>,
}

pub(super) struct KerasNode<'a> {
    pub item: Item<'a>,
    /// The nodes it reads; none for the input.
    pub inputs: Vec<usize>,
    /// The node that computes the mask it is called with.
    pub mask: Option<usize>,
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
                what: format!("class {} (supported: Sequential, Functional)", class.unwrap_or("that is not stated")),
            }),
        }
    }

    /// Nodes in an order in which each comes after its inputs, and the output last. Nodes that
    /// the output does not need are left out.
    pub(super) fn order(&self) -> Result<Vec<usize>> {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Done,
        }
        let mut marks = vec![Mark::New; self.nodes.len()];
        let mut order = Vec::with_capacity(self.nodes.len());
        let mut stack = vec![self.output];
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
                    let KerasNode { inputs, mask, .. } = &self.nodes[node];
                    for &input in inputs.iter().chain(mask).rev() {
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
        let stated =
            first.input_shape().or_else(|| model.get("build_input_shape").filter(|_| first.class != "InputLayer"));
        let mut expanded = Expanded::default();
        for item in items {
            expanded.push(item, version, depth)?;
        }
        for index in 1..expanded.places.len() {
            let before = expanded.places[index - 1].output;
            expanded.nodes[expanded.places[index].input].inputs = vec![before];
        }
        let Expanded { nodes, places, groups, input_shape, .. } = expanded;
        let [input, output] = [places[0].input, places[places.len() - 1].output];
        Ok(Self { nodes, input, output, groups, input_shape: stated.or(input_shape) })
    }

    fn functional(options: &'a Map<String, Value>, (version, depth): (Version, usize)) -> Result<Self> {
        let layers = list(options, "layers")?;
        bounded(layers.len())?;
        let items = layers.iter().map(|layer| item(layer, version)).collect::<Result<Vec<_>>>()?;
        let mut expanded = Expanded::default();
        for &item in &items {
            if item.value.get("name").is_none() || !item.config.contains_key("name") {
                return Err(malformed(
                    &format!("layer `{}`", item.name),
                    "a name, in its config and beside it",
                    &"one",
                ));
            }
            expanded.push(item, version, depth)?;
        }
        let Expanded { mut nodes, places, groups, .. } = expanded;
        let by_name: BTreeMap<&str, Ends> = items.iter().map(|item| item.name).zip(places.iter().copied()).collect();
        let find = |name: &str| {
            let expected = "the name of one of the model's layers";
            by_name.get(name).copied().ok_or_else(|| malformed("Keras configuration", expected, &format!("`{name}`")))
        };
        let input = find(only_end(options, "input_layers")?)?.input;
        let output = find(only_end(options, "output_layers")?)?.output;
        for (item, ends) in items.iter().zip(&places) {
            let call = Call::new(item)?;
            let node = &mut nodes[ends.input];
            node.inputs = call.inputs.into_iter().map(|name| Ok(find(name)?.output)).collect::<Result<Vec<_>>>()?;
            node.mask = call.mask.map(|name| Ok::<usize, Error>(find(name)?.output)).transpose()?;
            if is_model(item.class) && (node.inputs.len() > 1 || node.mask.is_some()) {
                return Err(item.unsupported("a model called with more than one tensor"));
            }
        }
        let graph = Self { input_shape: nodes[input].item.input_shape(), nodes, input, output, groups };
        for index in graph.order()? {
            let node = &graph.nodes[index];
            if node.inputs.is_empty() && index != input {
                return Err(node.item.unsupported(&format!("{} as a second input", node.item.class)));
            }
        }
        Ok(graph)
    }
}

/// Where the input of a layer goes, and where its output is: one node, or two of a model's.
#[derive(Clone, Copy)]
struct Ends {
    input: usize,
    output: usize,
}

/// Layers, with the layers of models in the place of models.
#[derive(Default)]
struct Expanded<'a> {
    nodes: Vec<KerasNode<'a>>,
    /// Of every layer.
    places: Vec<Ends>,
    groups: BTreeMap<String, String>,
    /// How many groups each class has, less one.
    counts: BTreeMap<String, usize>,
    /// The input shape of the first layer, if it is a model that states it.
    input_shape: Option<&'a Value>,
}

impl<'a> Expanded<'a> {
    fn push(&mut self, item: Item<'a>, version: Version, depth: usize) -> Result<()> {
        let group = (!item.is_operation()).then(|| self.group(item.class));
        let first = self.nodes.len();
        if !is_model(item.class) {
            self.groups.extend(group.map(|group| (item.name.to_owned(), group)));
            self.nodes.push(KerasNode { item, inputs: Vec::new(), mask: None });
            self.places.push(Ends { input: first, output: first });
            return Ok(());
        }
        let Some(depth) = depth.checked_sub(1) else {
            return Err(item.unsupported(&format!("models within models more than {MAX_DEPTH} deep")));
        };
        let inner = KerasGraph::nested(item.value, version, depth)?;
        bounded(first + inner.nodes.len())?;
        if first == 0 {
            self.input_shape = inner.input_shape;
        }
        let within = |(name, inner): (String, String)| {
            let outer = group.as_deref().unwrap_or_default();
            (name, format!("{outer}/layers/{inner}"))
        };
        self.groups.extend(inner.groups.into_iter().map(within));
        self.nodes.extend(inner.nodes.into_iter().map(|node| KerasNode {
            inputs: node.inputs.into_iter().map(|input| first + input).collect(),
            mask: node.mask.map(|mask| first + mask),
            ..node
        }));
        self.places.push(Ends { input: first + inner.input, output: first + inner.output });
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

/// The one name in `input_layers` or `output_layers`: `[name, 0, 0]` or a list of one of these.
fn only_end<'a>(options: &'a Map<String, Value>, key: &str) -> Result<&'a str> {
    let ends = list(options, key)?;
    let parts = match ends.as_slice() {
        [Value::Array(parts)] => parts,
        [Value::String(_), ..] => ends,
        _ => {
            let names: Vec<String> = ends.iter().map(|end| brief(end.get(0).unwrap_or(end))).collect();
            let what = format!("{} {key} ({}; supported: 1)", ends.len(), names.join(", "));
            return Err(Error::Unsupported { place: "Keras model".into(), what });
        }
    };
    match parts.as_slice() {
        [Value::String(name), _, output] if output.as_u64() == Some(0) => Ok(name),
        _ => Err(Error::Unsupported {
            place: "Keras model".into(),
            what: format!("{key} {}", brief(&Value::Array(parts.clone()))),
        }),
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
