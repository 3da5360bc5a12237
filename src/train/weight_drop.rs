//! Weight drop: numbers of U are set to 0 at random, once for each batch.

use serde::{Deserialize, Serialize};

use std::sync::Arc;

use super::dropout::Draw;
use super::flat::FlatGradients;
use super::recurrent_dropout::recurrent_layer;
use crate::base::error::{Error, Result};
use crate::network::{Network, Role};

/// DropConnect on U of a recurrent layer, in all levels and directions (Merity et al. 2018, AWD-LSTM): one mask for all rows
/// and steps of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeightDrop {
    /// The layer's name.
    pub layer: String,
    /// The share that is dropped, from 0 to below 1.
    pub rate: f32,
}

impl WeightDrop {
    /// DropConnect on U of `layer`.
    pub fn new(layer: impl Into<String>, rate: f32) -> Self {
        Self { layer: layer.into(), rate }
    }

    /// The tensors that are dropped.
    pub(super) fn tensors(&self, network: &Network) -> Result<Vec<(String, f32)>> {
        if !(0.0..1.0).contains(&self.rate) {
            return Err(Error::network(&self.layer, "weight drop", "a rate from 0 to below 1", &self.rate));
        }
        let layer = recurrent_layer(network, &self.layer, "weight drop")?;
        if network.recurrent_layers().nth(layer).is_some_and(|(cell, _)| cell.scans()) {
            let expected = "a layer with products of h, which its cell does not take";
            return Err(Error::network(&self.layer, "weight drop", expected, &self.layer));
        }
        let stages = network.stages().iter();
        let of_layer = stages.filter(|stage| stage.recurrent().is_some_and(|level| level.layer == layer));
        let params = of_layer.flat_map(|stage| &stage.params).filter(|param| param.role == Role::WeightHh);
        Ok(params.map(|param| (param.name.clone(), self.rate)).collect())
    }
}

/// The mask of each tensor that is dropped in a step of this seed.
fn masks(tensors: &[(String, f32)], seed: u64) -> impl Iterator<Item = (&str, Draw)> {
    tensors.iter().enumerate().map(move |(index, (name, rate))| {
        #[expect(clippy::cast_possible_truncation, reason = "there are few tensors")]
        let site = 2 << 16 | index as u32;
        (&name[..], Draw::new(seed, site, *rate))
    })
}

/// `network` with what a step drops set to 0 and the rest larger.
pub(super) fn dropped(network: &Arc<Network>, tensors: &[(String, f32)], seed: u64) -> Arc<Network> {
    let mut dropped = network.clone();
    for (name, draw) in masks(tensors, seed) {
        let mut numbers = network.weight(name).to_vec();
        numbers.iter_mut().enumerate().for_each(|(at, x)| *x *= draw.factor(at));
        Arc::make_mut(&mut dropped).set_weight(name, &numbers);
    }
    dropped
}

/// Makes the gradients by what [`dropped`] gave those of the weights.
pub(super) fn drop_gradients(gradients: &mut FlatGradients<'_>, tensors: &[(String, f32)], seed: u64) {
    for (name, draw) in masks(tensors, seed) {
        let numbers = gradients.of(name).into_iter().flatten();
        numbers.enumerate().for_each(|(at, d)| *d *= draw.factor(at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Input;
    use crate::network::{FORMAT, LayerSpec, NetworkSpec, RecurrentSpec};
    use crate::reference::{Loss, Sgd, Targets};
    use crate::train::{Batch, TrainOptions, Trainer};

    /// A step with weight drop moves the weights by the gradient of the network that has them dropped, times the mask.
    #[test]
    fn a_step_moves_what_is_kept() {
        let layer = RecurrentSpec { num_layers: 2, ..RecurrentSpec::new("layer", 3, 5) };
        let spec = NetworkSpec { format: FORMAT, layers: vec![LayerSpec::Lstm(layer)], text: None, labels: Vec::new() };
        let network = Arc::new(Network::random(spec, 1).expect("a network"));
        let values: Vec<f32> = (0..4 * 2 * 3u8).map(|x| f32::from(x) / 10.0 - 1.0).collect();
        let target = [0.3; 4 * 2 * 5];
        let batch =
            Batch { input: Input::features(&values, [4, 2, 3]), targets: Targets::Values(&target), weights: None };
        let drop = WeightDrop::new("layer", 0.4);
        let tensors = drop.tensors(&network).expect("tensors");
        assert_eq!(
            tensors.iter().map(|(name, _)| &name[..]).collect::<Vec<_>>(),
            ["layer.weight_hh_l0", "layer.weight_hh_l1"]
        );
        let options = || TrainOptions::new(Loss::Mse).optimizer(Sgd { learning_rate: 1.0, ..Sgd::default() }).seed(3);
        let mut trainer =
            Trainer::new(&crate::Device::cpu(), &network, options().weight_drop(drop)).expect("a trainer");
        trainer.step(&batch).expect("a step");

        let drops = crate::train::dropout::Drops::default();
        let seed = crate::train::dropout::DropoutMasks::new(&drops, 3, 0).seed;
        let gradients =
            Trainer::new(&crate::Device::cpu(), &dropped(&network, &tensors, seed), options()).expect("a trainer");
        let gradients = gradients.gradients(&batch).expect("gradients");
        let mut kept = 0;
        for (name, before) in network.tensors() {
            let draw = masks(&tensors, seed).find(|(tensor, _)| tensor == name).map(|(_, draw)| draw);
            let network = trainer.network().unwrap();
            let after = network.weight(name);
            for (at, ((&before, &after), &d)) in before.data().iter().zip(after).zip(gradients[name].data()).enumerate()
            {
                let factor = draw.map_or(1.0, |draw| draw.factor(at));
                assert!((after - (before - factor * d)).abs() < 1e-6, "{name} at {at}");
                kept += usize::from(draw.is_some() && factor > 0.0);
            }
        }
        assert!((90..150).contains(&kept), "{kept} of 200");
    }
}
