//! Max-norm: a bound of the norm of the weights of each unit.

use serde::{Deserialize, Serialize};

use std::ops::Range;

use super::options::TrainOptions;
use crate::base::error::{Error, Result};
use crate::network::{LayerSpec, Network, Param, Role};

/// After each step every row of the layer's matrices that is longer than `max` is made so long: the weights of one output
/// unit, of one gate of a unit, the vector of a token, one filter (Keras' `max_norm`, PyTorch's `renorm`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaxNorm {
    /// The layer's name.
    pub layer: String,
    /// The largest Euclidean norm, above 0.
    pub max: f32,
}

impl MaxNorm {
    /// A bound of the rows of the matrices of `layer`.
    pub fn new(layer: impl Into<String>, max: f32) -> Self {
        Self { layer: layer.into(), max }
    }

    /// The names of the matrices, with the width of a row.
    fn matrices(&self, network: &Network) -> Result<Vec<(String, usize)>> {
        if !(self.max > 0.0 && self.max.is_finite()) {
            return Err(Error::network(&self.layer, "max norm", "a finite number above 0", &self.max));
        }
        let matrix = |param: &Param| {
            let is_weight = matches!(param.role, Role::Weight | Role::WeightIh | Role::WeightHh | Role::WeightHr);
            is_weight && param.shape.len() > 1
        };
        let layers = network.spec().layers.iter();
        let of_layer = layers.clone().filter(|layer| layer.name() == self.layer).flat_map(LayerSpec::params);
        let matrices = of_layer.filter(matrix).map(|param| (param.name, param.shape[1..].iter().product()));
        let matrices: Vec<(String, usize)> = matrices.collect();
        if matrices.is_empty() {
            let with: Vec<&str> =
                layers.filter(|layer| layer.params().iter().any(matrix)).map(LayerSpec::name).collect();
            let expected = format!("a layer with matrices ({})", with.join(", "));
            return Err(Error::network(&self.layer, "max norm", expected, &self.layer));
        }
        Ok(matrices)
    }
}

/// Where the rows lie in the flat parameters, their width and their largest norm.
pub(super) type BoundedRows = (Range<usize>, usize, f32);

/// The rows that the options name.
pub(super) fn bounded_rows(
    network: &Network,
    options: &TrainOptions,
    places: &[(String, Range<usize>)],
) -> Result<Vec<BoundedRows>> {
    let mut rows = Vec::new();
    for bound in &options.max_norm {
        if options.frozen.contains(&bound.layer) {
            return Err(Error::network(&bound.layer, "max norm", "a layer that is not frozen", &bound.layer));
        }
        for (name, width) in bound.matrices(network)? {
            let place = places.iter().find(|(place, _)| *place == name);
            rows.extend(place.map(|(_, range)| (range.clone(), width, bound.max)));
        }
    }
    Ok(rows)
}

/// Makes rows that are too long shorter.
pub(super) fn bound_rows(rows: &[BoundedRows], parameters: &mut [f32]) {
    for (range, width, max) in rows {
        for row in parameters[range.clone()].chunks_exact_mut(*width) {
            let norm = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
            if norm > f64::from(*max) {
                #[expect(clippy::cast_possible_truncation, reason = "rounded to f32 once")]
                let factor = (f64::from(*max) / norm) as f32;
                row.iter_mut().for_each(|x| *x *= factor);
            }
        }
    }
}
