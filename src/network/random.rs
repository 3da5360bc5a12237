//! Networks with random weights, for benchmarks and checks that need no trained ones.

use super::{LayerSpec, Network, NetworkSpec, Param, Tensor};
use crate::base::error::{Error, Result};
use crate::base::room::room;

/// Weights a random network may have; a description alone could ask for petabytes.
const MAX_WEIGHTS: usize = 1 << 30;

impl Network {
    /// A network of `spec` with uniform weights of the size PyTorch starts from:
    /// `±1/sqrt(fan)` with the tensor's inner dimension as fan. The same seed gives the same
    /// weights.
    ///
    /// # Errors
    /// What [`Network::new`] refuses, and [`Error::TooLarge`] beyond 2^30 weights.
    pub fn random(spec: NetworkSpec, seed: u64) -> Result<Self> {
        super::validate::options(&spec)?;
        let mut generator = fastrand::Rng::with_seed(seed);
        let params: Vec<Param> = spec.layers.iter().flat_map(LayerSpec::params).collect();
        let total = params.iter().fold(0usize, |sum, param| {
            sum.saturating_add(param.shape.iter().fold(1, |product, &n| product.saturating_mul(n)))
        });
        if total > MAX_WEIGHTS {
            return Err(Error::TooLarge {
                what: "random network, weights".into(),
                needed: total as u64,
                limit: MAX_WEIGHTS as u64,
                limit_name: "gatefold's own".into(),
            });
        }
        room(|| "random network".into(), total, size_of::<f32>())?;
        let mut tensors = std::collections::BTreeMap::new();
        for Param { name, shape, role, .. } in params {
            #[expect(clippy::cast_precision_loss, reason = "a scale need not be exact")]
            let bound = (*shape.last().unwrap_or(&1) as f32).sqrt().recip();
            let elements = shape.iter().product();
            let uniform = |_| generator.f32() * 2.0 - 1.0;
            let data = match role.is_scale() {
                // Numbers around 1, not around 0.
                true => (0..elements).map(uniform).map(|x| 1.0 + x / 2.0).collect(),
                false => (0..elements).map(uniform).map(|x| x * bound).collect(),
            };
            tensors.insert(name, Tensor::new(shape, data)?);
        }
        Self::new(spec, tensors)
    }
}
