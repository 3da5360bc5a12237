//! Masks that Keras 3 writes into functional models as computations of their own.
//!
//! They equal the masks that the layers pass on by themselves, as in gatefold. This
//! module checks that.

use std::collections::BTreeMap;

use serde_json::Value;

use super::graph::{KerasGraph, KerasNode};
use super::layers::{Item, Shape};
use crate::base::error::Result;

/// What an operation computes.
#[derive(Clone, Copy, PartialEq)]
enum MaskOperation {
    /// Which features of the input differ from a value.
    Features(f64),
    /// Which steps of the input differ from a value in any feature, in an array of any shape.
    Steps(f64),
    /// False throughout.
    False,
}

pub(super) struct Masks<'g, 'a> {
    graph: &'g KerasGraph<'a>,
    computed: BTreeMap<usize, MaskOperation>,
    /// The value that a Masking or Embedding layer masks.
    value: Option<f64>,
}

impl<'g, 'a> Masks<'g, 'a> {
    pub(super) fn new(graph: &'g KerasGraph<'a>) -> Self {
        Self { graph, computed: BTreeMap::new(), value: None }
    }

    /// Records a layer that makes a mask.
    pub(super) fn note(&mut self, item: &Item<'_>) {
        match item.class {
            "Masking" => self.value = Some(item.config.get("mask_value").and_then(Value::as_f64).unwrap_or(0.0)),
            "Embedding" => self.value = Some(0.0),
            _ => {}
        }
    }

    /// Demands that the mask computed by node `mask` is the one that `item` would get anyhow.
    pub(super) fn check(&self, item: &Item<'_>, mask: usize, masked: bool) -> Result<()> {
        match (self.computed.get(&mask), self.value) {
            (Some(MaskOperation::Steps(computed)), Some(value)) if masked && *computed == value => Ok(()),
            _ => Err(item.unsupported("call argument mask, other than the one of a Masking or Embedding layer")),
        }
    }

    /// Understands the operation of node `index`, whose operands were seen before.
    pub(super) fn operation(&mut self, index: usize) -> Result<()> {
        let KerasNode { item, inputs, .. } = &self.graph.nodes[index];
        let operands: Vec<Option<MaskOperation>> =
            inputs.iter().map(|input| self.computed.get(&input.node).copied()).collect();
        let last_axis = item.config.get("axis").is_some_and(|axis| axis.as_i64() == Some(-1));
        let kept = item.config.get("keepdims").is_some_and(|kept| *kept != Value::Bool(false));
        let kind = match (item.class, operands.as_slice()) {
            ("NotEqual", [None]) => self.differs(item, inputs[0].node),
            ("Any", [Some(MaskOperation::Features(value) | MaskOperation::Steps(value))]) if last_axis && !kept => {
                Some(MaskOperation::Steps(*value))
            }
            ("ExpandDims", [steps @ Some(MaskOperation::Steps(_))]) if last_axis => *steps,
            ("ZerosLike", [None]) => Some(MaskOperation::False),
            ("LogicalOr", [steps @ Some(MaskOperation::Steps(_)), Some(MaskOperation::False)]) => *steps,
            ("LogicalOr" | "Concatenate", [first @ Some(MaskOperation::Steps(_)), others @ ..])
                if others.iter().all(|other| other == first) =>
            {
                *first
            }
            _ => None,
        };
        let kind = kind.ok_or_else(|| item.unsupported(&format!("operation {}", item.class)))?;
        self.computed.insert(index, kind);
        Ok(())
    }

    /// `input != number`
    fn differs(&self, item: &Item<'_>, input: usize) -> Option<MaskOperation> {
        let number = item.value.pointer("/inbound_nodes/0/args/1")?.as_f64()?;
        let input = &self.graph.nodes[input].item;
        if input.class != "InputLayer" {
            return None;
        }
        match Shape::from_keras(input.name, input.input_shape()?).ok()? {
            Shape::Sequence { .. } => Some(MaskOperation::Features(number)),
            _ => Some(MaskOperation::Steps(number)),
        }
    }
}
