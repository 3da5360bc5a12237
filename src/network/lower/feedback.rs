//! Layers that give what later ones were.

use super::{Change, LayerOutput, Lowering};
use crate::base::error::{Error, Result};
use crate::network::stage::{Source, StageKind};
use crate::network::{FeedbackSpec, LayerSpec, NetworkSpec};

impl Lowering {
    pub(super) fn feedback(&mut self, spec: &FeedbackSpec) -> Result<()> {
        let FeedbackSpec { name, num_features, .. } = spec;
        self.sequence(name)?;
        let mut inputs = vec![self.flow.source];
        if let Some(initial) = &spec.initial {
            let flow = self.find(initial, name)?;
            if flow.sequence || flow.tokens || flow.width != Some(*num_features) {
                return Err(Error::network(
                    name,
                    "initial",
                    format!("a layer that gives [B, {num_features}]"),
                    initial,
                ));
            }
            inputs.push(flow.source);
        }
        let change = Change {
            // Which stage that is, is known once all layers are.
            kind: StageKind::Feedback { from: 0 },
            in_features: *num_features,
            out_features: *num_features,
            sequence_out: true,
            keeps_time: true,
        };
        self.push_reading(name, change, inputs);
        Ok(())
    }

    /// Sets which stages are fed back.
    pub(super) fn feed_back(&mut self, spec: &NetworkSpec) -> Result<()> {
        for layer in &spec.layers {
            let LayerSpec::Feedback(feedback) = layer else { continue };
            let refused = |expected: &str| Err(Error::network(&feedback.name, "layer", expected, &feedback.layer));
            let Some(at) = self.stages.iter().position(|stage| stage.label == feedback.name) else { continue };
            let Some(LayerOutput { source: Source::Stage(from), width, sequence: true, .. }) =
                self.named.get(&feedback.layer).copied()
            else {
                return refused("a later layer whose output is a sequence [T, B, N]");
            };
            if from <= at || matches!(self.stages[from].kind, StageKind::Feedback { .. }) {
                return refused("a later layer that is no feedback");
            }
            if width != Some(feedback.num_features) {
                return refused(&format!("a layer of num_features = {} features", feedback.num_features));
            }
            self.stages[at].kind = StageKind::Feedback { from };
        }
        Ok(())
    }
}
