//! The dropout of a Keras model: nothing that a run reads, but a training may go on with it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::graph::{KerasGraph, KerasNode, NodeTensor};
use super::lower::NodeOutput;
use super::recurrent;
use crate::network::FileDropout;

/// What the layers of `graph` drop; `names` are those of the layers that compute its values.
pub(super) fn dropouts(
    graph: &KerasGraph<'_>,
    values: &BTreeMap<NodeTensor, NodeOutput>,
    names: &BTreeMap<NodeTensor, String>,
) -> Vec<FileDropout> {
    let mut found: Vec<FileDropout> = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let Some(value) = values.get(&NodeTensor { node: index, output: 0 }) else { continue };
        if recurrent::is_recurrent(&node.item) {
            found.extend(inside(node));
            continue;
        }
        let Some((kind, rate)) = of_output(node) else { continue };
        let other = |what: &str| FileDropout::Other { layer: node.item.name.into(), what: format!("Keras {what}") };
        let layer = names.get(&value.source).cloned().unwrap_or_default();
        let same = |one: &FileDropout| match one {
            FileDropout::Elements { layer: other, .. } | FileDropout::Channels { layer: other, .. } => *other == layer,
            _ => false,
        };
        found.push(match kind {
            Kind::Other(class) => other(class),
            _ if graph.is_input(value.source) => other("dropout of an input"),
            _ if !reads_all(graph, values, index, value.source) => {
                other("dropout of a value that other layers read without it")
            }
            _ if found.iter().any(same) => other("two dropouts of one value"),
            Kind::Elements => FileDropout::Elements { layer, rate },
            Kind::Channels => FileDropout::Channels { layer, rate },
        });
    }
    found
}

enum Kind<'a> {
    Elements,
    Channels,
    Other(&'a str),
}

/// What a layer without a recurrence drops of its input, if anything.
fn of_output<'a>(node: &KerasNode<'a>) -> Option<(Kind<'a>, f32)> {
    let (mut class, mut config) = (node.item.class, node.item.config);
    if class == "TimeDistributed" {
        let inner = config.get("layer")?;
        (class, config) = (inner.get("class_name")?.as_str()?, inner.get("config")?.as_object()?);
    }
    let kind = match class {
        "Dropout" if config.get("noise_shape").is_none_or(Value::is_null) => Kind::Elements,
        "Dropout" => Kind::Other("Dropout with a noise_shape"),
        "SpatialDropout1D" => Kind::Channels,
        "GaussianNoise" | "GaussianDropout" | "AlphaDropout" => Kind::Other(class),
        _ => return None,
    };
    let rate = if class == "GaussianNoise" { rate(config, "stddev") } else { rate(config, "rate") };
    (rate > 0.0).then_some((kind, rate))
}

/// Dropout of the input and of h of a recurrent layer, or of each cell of one.
fn inside(node: &KerasNode<'_>) -> Vec<FileDropout> {
    let item = &node.item;
    let of = |config: &Map<String, Value>| ["dropout", "recurrent_dropout"].map(|key| rate(config, key));
    let layer = if node.call == 0 { item.name.to_owned() } else { format!("{}_call{}", item.name, node.call) };
    let within = |layer: String, [input, state]: [f32; 2]| {
        (input > 0.0 || state > 0.0).then_some(FileDropout::Recurrent { layer, input, state })
    };
    if let Some(cells) = recurrent::cells_of_stack(item) {
        let rates = cells.iter().map(|cell| cell.get("config").and_then(Value::as_object).map_or([0.0; 2], of));
        let named =
            rates.enumerate().filter_map(|(number, rates)| within(recurrent::name_in_stack(&layer, number), rates));
        return named.collect();
    }
    // A layer of class RNN has a cell, which has the options.
    let of_layer = |config: &Map<String, Value>| {
        let cell = config.get("cell").and_then(|cell| cell.get("config")?.as_object());
        of(cell.unwrap_or(config))
    };
    let wrapped = |key: &str| item.config.get(key)?.get("config")?.as_object().map(of_layer);
    let rates = wrapped("layer").unwrap_or_else(|| of_layer(item.config));
    if wrapped("backward_layer").is_some_and(|backward| backward != rates) {
        let what = "dropout that differs from direction to direction".into();
        return vec![FileDropout::Other { layer, what }];
    }
    within(layer, rates).into_iter().collect()
}

fn rate(config: &Map<String, Value>, key: &str) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "a rate is an f32 here")]
    config.get(key).and_then(Value::as_f64).map_or(0.0, |rate| rate as f32)
}

/// Whether all layers that read what `source` is read it through the node `dropout`.
fn reads_all(
    graph: &KerasGraph<'_>,
    values: &BTreeMap<NodeTensor, NodeOutput>,
    dropout: usize,
    source: NodeTensor,
) -> bool {
    let is_source = |tensor: NodeTensor| values.get(&tensor).is_some_and(|value| value.source == source);
    let through = |mut tensor: NodeTensor| {
        while tensor.node != dropout {
            // Layers that become nothing pass their input on.
            match graph.nodes[tensor.node].inputs.first() {
                Some(&before) if tensor != source && is_source(before) => tensor = before,
                _ => return false,
            }
        }
        true
    };
    let readers = graph.nodes.iter().enumerate().filter(|(node, _)| {
        let own = NodeTensor { node: *node, output: 0 };
        values.contains_key(&own) && !is_source(own)
    });
    let read = readers.flat_map(|(_, node)| node.inputs.iter().chain(&node.states)).chain(&graph.outputs);
    read.copied().filter(|&tensor| is_source(tensor)).all(through)
}
