//! Dropout while training: outputs of a layer are set to 0 at random, the others grow so that their mean stays.

use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};
use crate::network::{Network, StageKind};
use crate::reference::random;

/// What is dropped together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DropoutUnit {
    /// Each number of the output (`nn.Dropout`, Keras `Dropout`).
    #[default]
    Element,
    /// A channel of a sequence, at all its steps (Keras `SpatialDropout1D`).
    Channel,
}

/// Dropout of the output of a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dropout {
    /// The layer's name.
    pub layer: String,
    /// The share that is dropped, from 0 to below 1.
    pub rate: f32,
    /// What is dropped together.
    pub unit: DropoutUnit,
}

impl Dropout {
    /// Dropout of the elements of the output of `layer`.
    pub fn elements(layer: impl Into<String>, rate: f32) -> Self {
        Self { layer: layer.into(), rate, unit: DropoutUnit::Element }
    }

    /// Dropout of the channels of the output of `layer`.
    pub fn channels(layer: impl Into<String>, rate: f32) -> Self {
        Self { layer: layer.into(), rate, unit: DropoutUnit::Channel }
    }

    /// The last stage of its layer in `network`.
    pub(super) fn stage(&self, network: &Network) -> Result<usize> {
        if !(0.0..1.0).contains(&self.rate) {
            return Err(Error::network(&self.layer, "dropout", "a rate from 0 to below 1", &self.rate));
        }
        let of_layer = |label: &str| {
            let rest = label.strip_prefix(self.layer.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(".l") || rest == ".merge")
        };
        let stages = network.stages();
        match stages.iter().rposition(|stage| of_layer(&stage.label)) {
            Some(at) if stages[at].kind == StageKind::Softmax || at + 1 == stages.len() => {
                Err(Error::network(&self.layer, "dropout", "a layer before the output", &"the output"))
            }
            Some(at) => Ok(at),
            None => {
                let names: Vec<&str> = network.spec().layers.iter().map(crate::network::LayerSpec::name).collect();
                Err(Error::network(&self.layer, "dropout", format!("a layer ({})", names.join(", ")), &self.layer))
            }
        }
    }
}

/// The masks of one step. They are drawn again for the gradients.
pub(super) struct DropoutMasks<'a> {
    dropouts: &'a [(usize, Dropout)],
    seed: u64,
}

impl<'a> DropoutMasks<'a> {
    pub fn new(dropouts: &'a [(usize, Dropout)], seed: u64, step: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "both halves count")]
        let [low, high] = [step as u32, (step >> 32) as u32];
        Self { dropouts, seed: u64::from(random(seed, low, high)) << 32 | u64::from(random(!seed, low, high)) }
    }

    pub fn none() -> Self {
        Self { dropouts: &[], seed: 0 }
    }

    /// Multiplies the output of a stage, or its gradient, `[T, B, width]`, by its mask.
    pub fn apply(&self, stage: usize, width: usize, batch: usize, numbers: &mut [f32]) {
        for (site, (_, dropout)) in self.dropouts.iter().enumerate().filter(|(_, (at, _))| *at == stage) {
            let scale = 1.0 / (1.0 - dropout.rate);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 2^32")]
            let least = (f64::from(dropout.rate) * 4_294_967_296.0) as u32;
            let row = batch * width;
            for (at, number) in numbers.iter_mut().enumerate() {
                let place = if dropout.unit == DropoutUnit::Channel { at % row } else { at };
                #[expect(clippy::cast_possible_truncation, reason = "an output has fewer than 2^32 numbers")]
                let drawn = random(self.seed, place as u32, site as u32);
                *number *= if drawn >= least { scale } else { 0.0 };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_keep_their_share_and_come_again() {
        let mut dropouts = [(0, Dropout::elements("a", 0.3))];
        let drawn = |dropouts: &[(usize, Dropout)], step| {
            let mut numbers = vec![1.0f32; 20 * 3 * 50];
            DropoutMasks::new(dropouts, 7, step).apply(0, 50, 3, &mut numbers);
            numbers
        };
        let first = drawn(&dropouts, 1);
        assert_eq!(first, drawn(&dropouts, 1));
        assert_ne!(first, drawn(&dropouts, 2));
        let mean = first.iter().sum::<f32>() / 3000.0;
        assert!((mean - 1.0).abs() < 0.06, "{mean}");
        dropouts[0].1.unit = DropoutUnit::Channel;
        let channels = drawn(&dropouts, 1);
        assert!(channels.chunks_exact(150).all(|step| step == &channels[..150]), "one mask for all steps");
    }
}
