//! Layers that read several others.

use super::{Change, LayerOutput, Lowering};
use crate::base::error::{Error, Result};
use crate::network::stage::{MaskReach, StageKind};
use crate::network::{Attention, AttentionSpec, Join, JoinSpec, MAX_DIMENSION, Rearrange};

impl Lowering {
    pub(super) fn join(&mut self, spec: &JoinSpec) -> Result<()> {
        let mut flows = spec.inputs.iter().map(|name| self.find(name, &spec.name)).collect::<Result<Vec<_>>>()?;
        let mut widths = Vec::with_capacity(flows.len());
        for (flow, name) in flows.iter().zip(&spec.inputs) {
            let Some(width) = flow.width.filter(|_| !flow.tokens) else {
                return Err(Error::network(&spec.name, "inputs", "layers with vectors", name));
            };
            widths.push(width);
        }
        let widest = widths.iter().copied().max().unwrap_or(0);
        if spec.join != Join::Concat && widths.iter().any(|&width| width != widest && width != 1) {
            return Err(Error::network(
                &spec.name,
                "inputs",
                "layers of one width, or of width 1",
                &format!("{widths:?}"),
            ));
        }
        let joined = if spec.join == Join::Concat {
            widths.iter().fold(0, |sum: usize, &w| sum.saturating_add(w))
        } else {
            widest
        };
        if joined > MAX_DIMENSION {
            return Err(Error::network(&spec.name, "inputs", format!("at most {MAX_DIMENSION} features"), &joined));
        }
        let like = flows.iter().copied().find(|flow| flow.sequence);
        for (index, flow) in flows.iter_mut().enumerate() {
            if spec.join != Join::Concat {
                *flow = self.widened(*flow, &format!("{}.widen{index}", spec.name), widest);
            }
            if let Some(like) = like.filter(|_| !flow.sequence) {
                *flow = self.expanded(*flow, &format!("{}.expand{index}", spec.name), like);
            }
        }
        let out_features = joined;
        let reaches = || flows.iter().map(|flow| flow.mask_reach);
        let resized = reaches().find(|&reach| reach == MaskReach::Resized);
        let mut fits: Vec<MaskReach> = reaches().filter(|reach| matches!(reach, MaskReach::Fits(_))).collect();
        fits.dedup();
        // The masks of two inputs do not fit what is made of both.
        let mask_reach = match fits[..] {
            [] => resized,
            [one] => Some(one),
            _ => Some(MaskReach::Resized),
        };
        let sequence = like.is_some();
        self.flow = flows[0];
        self.flow.mask_reach = mask_reach.unwrap_or(MaskReach::Ended);
        let (kind, in_features) = (StageKind::Join(spec.join), flows[0].width.unwrap_or(widest));
        let change = Change { kind, in_features, out_features, sequence_out: sequence, keeps_time: true };
        self.push_reading(&spec.name, change, flows.iter().map(|flow| flow.source).collect());
        Ok(())
    }

    pub(super) fn attention(&mut self, spec: &AttentionSpec) -> Result<()> {
        let AttentionSpec { name, embed_dim, num_heads, score, scale, .. } = spec;
        self.fits(*embed_dim, name, "embed_dim")?;
        let queries = self.flow;
        let sequence = |lowering: &Self, layer: &str, option: &str| -> Result<(LayerOutput, usize)> {
            let flow = lowering.find(layer, name)?;
            match flow.width.filter(|_| flow.sequence && !flow.tokens) {
                Some(width) => Ok((flow, width)),
                None => Err(Error::network(name, option, "a layer whose output is a sequence [T, B, N]", &layer)),
            }
        };
        let (keys, width) = sequence(self, &spec.keys, "keys")?;
        if width != *embed_dim {
            return Err(Error::network(name, "keys", format!("a layer of embed_dim = {embed_dim} features"), &width));
        }
        let (values, value_dim) = match &spec.values {
            Some(values) => sequence(self, values, "values")?,
            None => (keys, width),
        };
        if !value_dim.is_multiple_of(*num_heads) {
            return Err(Error::network(
                name,
                "num_heads",
                format!("a divisor of the values' {value_dim} features"),
                num_heads,
            ));
        }
        let kind = StageKind::Attention(Attention { score: *score, num_heads: *num_heads, scale: *scale });
        // The mask is that of the keys.
        self.flow = keys;
        let sequence_out = queries.sequence;
        let change = Change { kind, in_features: width, out_features: value_dim, sequence_out, keeps_time: true };
        self.push_reading(name, change, vec![keys.source, queries.source, values.source]);
        self.flow.mask_reach = queries.mask_reach;
        Ok(())
    }

    /// `flow` with its only channel as `width` channels; as it is where it has as many.
    fn widened(&mut self, flow: LayerOutput, label: &str, width: usize) -> LayerOutput {
        if flow.width == Some(width) {
            return flow;
        }
        self.flow = flow;
        let kind = StageKind::Rearrange(Rearrange::Widen);
        let (in_features, sequence_out) = (1, flow.sequence);
        self.push(label, Change { kind, in_features, out_features: width, sequence_out, keeps_time: true });
        self.flow
    }

    /// The row `flow` at every timestep of `like`.
    fn expanded(&mut self, flow: LayerOutput, label: &str, like: LayerOutput) -> LayerOutput {
        self.flow = flow;
        let width = flow.width.unwrap_or(0);
        let kind = StageKind::Rearrange(Rearrange::Expand);
        let change = Change { kind, in_features: width, out_features: width, sequence_out: true, keeps_time: true };
        self.push_reading(label, change, vec![flow.source, like.source]);
        self.flow.mask_reach = like.mask_reach;
        self.flow
    }
}
