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
    /// Which features of an input (its node) differ from a value.
    Features(f64, usize),
    /// Which steps of an input differ from a value in any feature, in an array of any shape.
    Steps(f64, usize),
    /// False throughout.
    False,
    /// True for some part of every step.
    True,
}

pub(super) struct Masks<'g, 'a> {
    graph: &'g KerasGraph<'a>,
    computed: BTreeMap<usize, MaskOperation>,
    /// The value of each input that a Masking or Embedding layer masks.
    values: BTreeMap<usize, f64>,
}

impl<'g, 'a> Masks<'g, 'a> {
    pub(super) fn new(graph: &'g KerasGraph<'a>) -> Self {
        Self { graph, computed: BTreeMap::new(), values: BTreeMap::new() }
    }

    /// Records a layer that makes a mask of the input with this node.
    pub(super) fn note(&mut self, item: &Item<'_>, input: Option<usize>) {
        let value = match item.class {
            "Masking" => item.config.get("mask_value").and_then(Value::as_f64).unwrap_or(0.0),
            "Embedding" => 0.0,
            _ => return,
        };
        self.values.extend(input.map(|input| (input, value)));
    }

    /// Demands that the mask computed by node `mask` is the one that `item` would get anyhow: that of this input of the
    /// model, or none.
    pub(super) fn check(&self, item: &Item<'_>, mask: usize, input: Option<usize>) -> Result<()> {
        match self.computed.get(&mask) {
            Some(MaskOperation::Steps(value, of)) if input == Some(*of) && self.values.get(of) == Some(value) => Ok(()),
            Some(MaskOperation::True) if input.is_none() => Ok(()),
            _ => Err(item.unsupported("call argument mask, other than the one of a Masking or Embedding layer")),
        }
    }

    /// Reads the operation of node `index`, whose operands were seen before. False for one that joins no masks.
    pub(super) fn operation(&mut self, index: usize) -> Result<bool> {
        let KerasNode { item, inputs, .. } = &self.graph.nodes[index];
        let operands: Vec<Option<MaskOperation>> =
            inputs.iter().map(|input| self.computed.get(&input.node).copied()).collect();
        if matches!(item.class, "Concatenate" | "ExpandDims") && operands.iter().all(Option::is_none) {
            return Ok(false);
        }
        let last_axis = item.config.get("axis").is_some_and(|axis| axis.as_i64() == Some(-1));
        let kept = item.config.get("keepdims").is_some_and(|kept| *kept != Value::Bool(false));
        let kind = match (item.class, operands.as_slice()) {
            ("NotEqual", [None]) => self.differs(item, inputs[0].node),
            ("Any", [Some(MaskOperation::Features(value, of) | MaskOperation::Steps(value, of))])
                if last_axis && !kept =>
            {
                Some(MaskOperation::Steps(*value, *of))
            }
            ("Any", [Some(MaskOperation::True)]) if last_axis && !kept => Some(MaskOperation::True),
            ("ExpandDims", [steps @ Some(MaskOperation::Steps(..))]) if last_axis => *steps,
            ("ZerosLike", [None]) => Some(MaskOperation::False),
            ("OnesLike", [None]) => Some(MaskOperation::True),
            // The mask of what is joined with tensors without one.
            ("Concatenate", masks)
                if last_axis && !masks.contains(&None) && masks.contains(&Some(MaskOperation::True)) =>
            {
                Some(MaskOperation::True)
            }
            ("LogicalOr", [steps @ Some(MaskOperation::Steps(..)), Some(MaskOperation::False)]) => *steps,
            ("LogicalOr" | "Concatenate", [first @ Some(MaskOperation::Steps(..)), others @ ..])
                if others.iter().all(|other| other == first) =>
            {
                *first
            }
            _ => None,
        };
        let kind = kind.ok_or_else(|| item.unsupported(&format!("operation {}", item.class)))?;
        self.computed.insert(index, kind);
        Ok(true)
    }

    /// `input != number`
    fn differs(&self, item: &Item<'_>, input: usize) -> Option<MaskOperation> {
        let number = item.value.pointer("/inbound_nodes/0/args/1")?.as_f64()?;
        // Through the inputs of models within the model.
        let mut node = input;
        while let ("InputLayer", [outer]) = (self.graph.nodes[node].item.class, &self.graph.nodes[node].inputs[..]) {
            node = outer.node;
        }
        let input = &self.graph.nodes[node].item;
        if input.class != "InputLayer" {
            return None;
        }
        match Shape::from_keras(input.name, input.input_shape()?).ok()? {
            Shape::Sequence { .. } => Some(MaskOperation::Features(number, node)),
            _ => Some(MaskOperation::Steps(number, node)),
        }
    }
}
