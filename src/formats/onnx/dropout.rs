//! The dropout of an ONNX graph: nothing that a run reads, but a training may go on with it.

use std::collections::BTreeSet;

use super::build::Build;
use super::expression::Expression;
use super::graph::OnnxNode;
use super::value::{Id, LayerDirection, Of, RecurrentPart, Value};
use super::walk::Walk;
use crate::base::error::Result;
use crate::network::{FileDropout, INPUT, LayerSpec};

/// A Dropout node.
pub struct DroppedValue {
    node: String,
    ratio: f32,
    of: Dropped,
}

enum Dropped {
    Expression(Id),
    /// The whole output of the recurrent layer with this index.
    Layer(usize),
    Other(&'static str),
}

impl Walk<'_> {
    /// What a Dropout node passes on, which is its input.
    pub fn dropout(&mut self, node: &OnnxNode) -> Result<Value> {
        node.allow(&["ratio", "seed", "is_test"])?;
        if self.used(node, 1) {
            return Err(node.unsupported("a dropout's mask"));
        }
        if self.number(node, "training_mode", 2)?.is_some_and(|training| training != 0.0) {
            return Err(node.unsupported("training_mode"));
        }
        // A ratio does not change the answer, so none is refused here.
        let ratio = self.number(node, "ratio", 1).map_or(f32::NAN, |ratio| ratio.unwrap_or(0.5));
        let value = self.value(node, 0)?;
        if ratio != 0.0
            && let Value::Tensor(tensor) = &value
        {
            let of = match &tensor.of {
                _ if !(0.0..1.0).contains(&ratio) => Dropped::Other("dropout of a ratio that is not from 0 to below 1"),
                Of::Directions { part: RecurrentPart::Y, rows } if self.is_whole(rows) => Dropped::Layer(rows[0].layer),
                Of::Tokens(_) | Of::Shifted(_) => Dropped::Other("dropout of an input"),
                _ => match self.settle(node, tensor) {
                    Ok(id) => Dropped::Expression(id),
                    Err(_) => Dropped::Other("dropout of a value that is no layer's output"),
                },
            };
            self.dropped.push(DroppedValue { node: node.label.clone(), ratio, of });
        }
        Ok(value)
    }

    /// Whether `rows` are all directions of one layer, in their order.
    fn is_whole(&self, rows: &[LayerDirection]) -> bool {
        let Some(&LayerDirection { layer, .. }) = rows.first() else { return false };
        let directions = self.build.layers[layer].spec.recurrent().map_or(1, |(_, spec)| spec.directions());
        rows.len() == directions
            && (0..directions).all(|direction| rows[direction] == LayerDirection { layer, direction })
    }
}

/// What the graph drops, once its layers are known.
pub fn dropouts(build: &Build, dropped: &[DroppedValue]) -> Vec<FileDropout> {
    let mut seen = BTreeSet::new();
    let layers = build.layers.iter().map(|layer| layer.spec.name()).collect::<BTreeSet<_>>();
    let of_node = |dropped: &DroppedValue| {
        let DroppedValue { node, ratio, of } = dropped;
        let layer = match of {
            Dropped::Layer(index) => build.layers[*index].spec.name(),
            Dropped::Expression(id) => match build.expressions.get(*id) {
                Expression::Layer(name) => name,
                _ => build.layer_made(*id).unwrap_or_default(),
            },
            Dropped::Other(_) => "",
        };
        let readers = || build.layers.iter().flat_map(|other| &other.reads).filter(|read| *read == layer).count();
        let other = match of {
            Dropped::Other(what) => what,
            _ if layer == INPUT => "dropout of an input",
            _ if !layers.contains(layer) => "dropout of a value that is no layer's output",
            _ if readers() > 1 => "dropout of a value that several layers read",
            _ if !seen.insert(layer) => "two dropouts of one value",
            _ => return FileDropout::Elements { layer: layer.to_owned(), rate: *ratio },
        };
        FileDropout::Other { layer: node.clone(), what: format!("ONNX {other}") }
    };
    dropped.iter().map(of_node).collect()
}

/// The same where `layers` are those of the network: some became a part of the layer before them.
pub fn in_network(dropouts: Vec<FileDropout>, layers: &[LayerSpec]) -> Vec<FileDropout> {
    let known = |dropout| match dropout {
        FileDropout::Elements { layer, .. } if !layers.iter().any(|known| known.name() == layer) => {
            FileDropout::Other { layer, what: "ONNX dropout of a part of a layer".into() }
        }
        other => other,
    };
    dropouts.into_iter().map(known).collect()
}
