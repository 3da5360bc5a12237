//! Scores of additive attention as PyTorch modules store them: a `Linear` of one output, `[1, D]`. Its bias is the same for all
//! timesteps, so that no share depends on it.

use std::collections::BTreeMap;

use crate::base::error::Result;
use crate::network::{AttentionScore, LayerSpec, NetworkSpec, Tensor};

/// Makes the vectors `[D]` of what `spec` describes as scores.
pub(super) fn convert(spec: &NetworkSpec, tensors: &mut BTreeMap<String, Tensor>) -> Result<()> {
    for layer in &spec.layers {
        let LayerSpec::Attention(attention) = layer else { continue };
        let (weight, bias) = (format!("{}.weight", attention.name), format!("{}.bias", attention.name));
        let Some(tensor) = tensors.get(&weight).filter(|tensor| tensor.shape() == [1, attention.embed_dim]) else {
            continue;
        };
        if attention.score != AttentionScore::Additive {
            continue;
        }
        let vector = Tensor::new(vec![attention.embed_dim], tensor.data().to_vec())?;
        tensors.insert(weight, vector);
        if tensors.get(&bias).is_some_and(|bias| bias.shape() == [1]) {
            tensors.remove(&bias);
        }
    }
    Ok(())
}
