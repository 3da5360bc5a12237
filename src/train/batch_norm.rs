//! The running statistics of batch normalizations that are trained.

use serde::{Deserialize, Serialize};

use std::collections::BTreeMap;

use crate::base::error::{Error, Result};
use crate::network::{LayerSpec, Network, Role, StageKind};
use crate::reference::BatchMoments;

/// How the stored statistics of a batch normalization follow those of the batches: `s += momentum (batch - s)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunningStatistics {
    /// The share of the batch, from 0 to 1. Keras calls the other share `momentum`.
    pub momentum: f64,
    /// Whether the variance that is stored is divided by the count less 1, where it is at least 2. The output is always
    /// normalized by the variance divided by the count.
    pub unbiased: bool,
}

impl Default for RunningStatistics {
    /// PyTorch's.
    fn default() -> Self {
        Self { momentum: 0.1, unbiased: true }
    }
}

impl RunningStatistics {
    /// Keras'.
    #[must_use]
    pub fn keras() -> Self {
        Self { momentum: 0.01, unbiased: false }
    }

    pub(super) fn check(self) -> Result<()> {
        match (0.0..=1.0).contains(&self.momentum) {
            true => Ok(()),
            false => Err(Error::option("momentum of statistics", "a number from 0 to 1", &self.momentum)),
        }
    }

    /// Moves the statistics of `network` towards those of a batch, by the position of each stage.
    pub(super) fn update(self, network: &mut Network, moments: &BTreeMap<usize, BatchMoments<f32>>) {
        for (&index, moments) in moments.iter().filter(|(_, moments)| moments.count > 0) {
            #[expect(clippy::cast_precision_loss, reason = "a count need not be exact")]
            let count = moments.count as f64;
            let unbiased = if self.unbiased && moments.count > 1 { count / (count - 1.0) } else { 1.0 };
            for (role, of_batch, factor) in
                [(Role::RunningMean, &moments.mean, 1.0), (Role::RunningVar, &moments.variance, unbiased)]
            {
                let Some(name) = network.stages()[index].param(0, role).map(|param| param.name.clone()) else {
                    continue;
                };
                let moved = network.weight(&name).iter().zip(of_batch).map(|(&stored, &of_batch)| {
                    let stored = f64::from(stored);
                    #[expect(clippy::cast_possible_truncation, reason = "rounded to f32 once")]
                    let moved = (stored + self.momentum * (f64::from(of_batch) * factor - stored)) as f32;
                    moved
                });
                let moved: Vec<f32> = moved.collect();
                network.set_weight(&name, &moved);
            }
        }
    }
}

/// The positions of the stages of `network` that are batch normalizations and not `frozen`.
pub(super) fn trained_norms(network: &Network, frozen: impl Fn(&LayerSpec) -> bool) -> Vec<usize> {
    let layers = &network.spec().layers;
    let is_trained = |label: &str| layers.iter().any(|layer| layer.name() == label && !frozen(layer));
    let stages = network.stages().iter().enumerate();
    let norms = stages.filter(|(_, stage)| matches!(stage.kind, StageKind::Channelwise { eps: Some(_), .. }));
    norms.filter(|(_, stage)| is_trained(&stage.label)).map(|(index, _)| index).collect()
}
