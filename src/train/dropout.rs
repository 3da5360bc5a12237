//! Dropout while training: outputs of a layer are set to 0 at random, the others grow so that their mean stays.

use serde::{Deserialize, Serialize};

use super::options::TrainOptions;
use super::recurrent_dropout::{RecurrentDropout, recurrent_layer};
use crate::base::error::{Error, Result};
use crate::network::Network;
use crate::reference::{keeping, random};

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
    /// Each number of the output of every level of a stack but the last (`dropout` of PyTorch's `nn.LSTM`).
    BetweenLevels,
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

    /// Dropout of the elements between the levels of the stack `layer`.
    pub fn between_levels(layer: impl Into<String>, rate: f32) -> Self {
        Self { layer: layer.into(), rate, unit: DropoutUnit::BetweenLevels }
    }

    /// The stages of `network` whose output is dropped: the last of the layer, or those of the levels below the last.
    pub(super) fn stages(&self, network: &Network) -> Result<Vec<usize>> {
        if self.unit != DropoutUnit::BetweenLevels {
            return Ok(vec![self.stage(network)?]);
        }
        self.check_rate()?;
        let layer = recurrent_layer(network, &self.layer, "dropout between levels")?;
        let stages = network.stages().iter().enumerate();
        let of_layer = stages.filter(|(_, stage)| stage.recurrent().is_some_and(|level| level.layer == layer));
        let mut stages: Vec<usize> = of_layer.map(|(index, _)| index).collect();
        stages.pop();
        match stages.is_empty() {
            true => Err(Error::network(&self.layer, "dropout between levels", "num_layers of at least 2", &1)),
            false => Ok(stages),
        }
    }

    fn check_rate(&self) -> Result<()> {
        match (0.0..1.0).contains(&self.rate) {
            true => Ok(()),
            false => Err(Error::network(&self.layer, "dropout", "a rate from 0 to below 1", &self.rate)),
        }
    }

    /// The last stage of its layer in `network`.
    fn stage(&self, network: &Network) -> Result<usize> {
        self.check_rate()?;
        let of_layer = |label: &str| {
            let rest = label.strip_prefix(self.layer.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(".l") || rest == ".merge")
        };
        let stages = network.stages();
        match stages.iter().rposition(|stage| of_layer(&stage.label)) {
            Some(at) if stages[at].is_softmax() || at + 1 == stages.len() => {
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

/// Draws which numbers of one place of the network are kept in one step.
#[derive(Clone, Copy)]
pub(super) struct Draw {
    seed: u64,
    site: u32,
    /// The least number drawn that keeps.
    least: u32,
    scale: f32,
}

impl Draw {
    /// `seed` is of the step, `site` of the place; the share `rate` is dropped.
    pub fn new(seed: u64, site: u32, rate: f32) -> Self {
        let (least, scale) = keeping(rate);
        Self { seed, site, least, scale }
    }

    /// What a number is multiplied by: 0, or what keeps the mean.
    pub fn factor(&self, at: usize) -> f32 {
        #[expect(clippy::cast_possible_truncation, reason = "an output has fewer than 2^32 numbers")]
        let drawn = random(self.seed, at as u32, self.site);
        if drawn >= self.least { self.scale } else { 0.0 }
    }
}

/// What is dropped of a network, with where.
#[derive(Debug, Default)]
pub(super) struct Drops {
    /// By the stage whose output it is.
    pub outputs: Vec<(usize, Dropout)>,
    /// By the position among the recurrent layers.
    pub recurrent: Vec<(usize, RecurrentDropout)>,
    /// Tensors and their rates.
    pub weights: Vec<(String, f32)>,
    /// Whether units of layers with zoneout are drawn; else all keep the mean.
    pub zoneout: bool,
}

impl Drops {
    pub fn new(network: &Network, options: &TrainOptions) -> Result<Self> {
        let mut drops = Self { zoneout: true, ..Self::default() };
        for dropout in &options.dropout {
            drops.outputs.extend(dropout.stages(network)?.into_iter().map(|stage| (stage, dropout.clone())));
        }
        for dropout in &options.recurrent_dropout {
            let position = dropout.position(network)?;
            if drops.recurrent.iter().any(|(other, _)| *other == position) {
                return Err(Error::network(&dropout.layer, "recurrent dropout", "one for each layer", &"two"));
            }
            drops.recurrent.push((position, dropout.clone()));
        }
        for drop in &options.weight_drop {
            drops.weights.extend(drop.tensors(network)?);
        }
        Ok(drops)
    }
}

/// The masks of one step. They are drawn again for the gradients.
pub(super) struct DropoutMasks<'a> {
    pub drops: &'a Drops,
    /// What all masks of the step are drawn from.
    pub seed: u64,
}

impl<'a> DropoutMasks<'a> {
    pub fn new(drops: &'a Drops, seed: u64, step: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "both halves count")]
        let [low, high] = [step as u32, (step >> 32) as u32];
        Self { drops, seed: u64::from(random(seed, low, high)) << 32 | u64::from(random(!seed, low, high)) }
    }

    pub fn none() -> Self {
        const NONE: &Drops = &Drops { outputs: Vec::new(), recurrent: Vec::new(), weights: Vec::new(), zoneout: false };
        Self { drops: NONE, seed: 0 }
    }

    /// Multiplies the output of a stage, or its gradient, `[T, B, width]`, by its mask.
    pub fn apply(&self, stage: usize, width: usize, batch: usize, numbers: &mut [f32]) {
        for (site, (_, dropout)) in self.drops.outputs.iter().enumerate().filter(|(_, (at, _))| *at == stage) {
            #[expect(clippy::cast_possible_truncation, reason = "there are few dropouts")]
            let draw = Draw::new(self.seed, site as u32, dropout.rate);
            let row = batch * width;
            for (at, number) in numbers.iter_mut().enumerate() {
                *number *= draw.factor(if dropout.unit == DropoutUnit::Channel { at % row } else { at });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_keep_their_share_and_come_again() {
        let mut drops = Drops { outputs: vec![(0, Dropout::elements("a", 0.3))], ..Drops::default() };
        let drawn = |drops: &Drops, step| {
            let mut numbers = vec![1.0f32; 20 * 3 * 50];
            DropoutMasks::new(drops, 7, step).apply(0, 50, 3, &mut numbers);
            numbers
        };
        let first = drawn(&drops, 1);
        assert_eq!(first, drawn(&drops, 1));
        assert_ne!(first, drawn(&drops, 2));
        let mean = first.iter().sum::<f32>() / 3000.0;
        assert!((mean - 1.0).abs() < 0.06, "{mean}");
        drops.outputs[0].1.unit = DropoutUnit::Channel;
        let channels = drawn(&drops, 1);
        assert!(channels.chunks_exact(150).all(|step| step == &channels[..150]), "one mask for all steps");
    }
}
