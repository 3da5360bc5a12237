//! Values that no layer computes before it is known what they are for: exchanged axes, a missing axis, scores of attention.

use serde_json::Value;

use super::{KerasLowering, NodeOutput};
use crate::base::error::Result;
use crate::formats::keras::graph::NodeTensor;
use crate::formats::keras::layers::{Item, Shape};
use crate::formats::keras::products::Scores;
use crate::formats::keras::shapes::OPEN_STEPS;
use crate::network::{LayerSpec, NamedSpec, ReshapeSpec, TransposeSpec};

impl KerasLowering {
    /// The inputs of a layer, each in a shape that it may read.
    pub(super) fn realized(&mut self, index: usize, item: &Item<'_>, inputs: &[NodeOutput]) -> Result<Vec<NodeOutput>> {
        let mut realized = Vec::with_capacity(inputs.len());
        for (number, input) in inputs.iter().enumerate() {
            let name = format!("{}_input{number}", item.name);
            let (layer, shape) = match input.shape {
                Shape::Turned { steps, width } if !matches!(item.class, "Matmul" | "Transpose") => {
                    let steps = steps.ok_or_else(|| item.unsupported(&format!("{}: {OPEN_STEPS}", item.class)))?;
                    let layer = LayerSpec::Transpose(TransposeSpec { name, steps });
                    (layer, Shape::Sequence { steps: Some(width), width: steps })
                }
                Shape::Steps(_) if softmax_of_steps(item) => {
                    realized.push(*input);
                    continue;
                }
                Shape::Steps(steps) if !item.is_operation() && item.class != "Dot" => {
                    let steps = steps.ok_or_else(|| item.unsupported(&format!("{}: {OPEN_STEPS}", item.class)))?;
                    let layer = LayerSpec::Reshape(ReshapeSpec { name, in_steps: Some(steps), out_steps: None });
                    (layer, Shape::Row(steps))
                }
                _ => {
                    realized.push(*input);
                    continue;
                }
            };
            self.read(input.source);
            self.layers.push(layer);
            // Outputs that the graph does not know.
            let made = self.value(index, usize::MAX / 2 + number, item, (shape, false));
            realized.push(NodeOutput { origin: input.origin, ..made });
        }
        Ok(realized)
    }

    /// Products of two sequences, which layers compute once it is known what they are for.
    pub(in crate::formats::keras) fn scores(&mut self, index: usize, scores: Scores) -> NodeOutput {
        let source = NodeTensor { node: index, output: 0 };
        self.scores.insert(source, scores);
        NodeOutput { source, shape: Shape::Scores, masked: false, origin: None }
    }

    /// What such a value is.
    pub(in crate::formats::keras) fn scores_of(&self, value: NodeOutput) -> Option<Scores> {
        self.scores.get(&value.source).copied()
    }

    /// The name of a value of which all timesteps count.
    pub(in crate::formats::keras) fn unmasked_name(
        &mut self,
        item: &Item<'_>,
        value: NodeOutput,
        part: &str,
    ) -> String {
        if !value.masked {
            return self.name(value.source);
        }
        self.read(value.source);
        let name = format!("{}_{part}_unmask", item.name);
        self.layers.push(LayerSpec::Unmask(NamedSpec { name: name.clone() }));
        self.current = NodeTensor { node: usize::MAX, output: 0 };
        name
    }
}

/// Whether a layer is a softmax over the last axis.
pub(super) fn softmax_of_steps(item: &Item<'_>) -> bool {
    let softmax = |function: &Value| function == "softmax";
    match item.class {
        "Activation" => item.config.get("activation").is_some_and(softmax),
        "Softmax" => item.config.get("axis").is_none_or(|axis| matches!(axis.as_i64(), Some(-1 | 1))),
        _ => false,
    }
}
