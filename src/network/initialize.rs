//! Networks with the initial weights of PyTorch or of Keras, to be trained.

use std::collections::BTreeMap;

use super::params::{self, Param};
use super::{LayerSpec, Network, NetworkSpec, NtmSpec, Role, Tensor, gates};
use crate::base::error::Result;

/// Whose initial weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Init {
    /// `nn.LSTM` and the like: uniform within `±1/sqrt(H)`; `nn.Linear`, `nn.Conv1d`: within `±1/sqrt(inputs)`;
    /// `nn.Embedding`: normal with variance 1.
    #[default]
    PyTorch,
    /// Glorot's uniform matrices, orthogonal U, biases 0 but 1 for an LSTM's forget gate, embeddings within ±0.05.
    Keras,
}

impl Network {
    /// A network of `spec` with random initial weights; the same seed gives the same weights.
    ///
    /// # Errors
    /// What [`Network::new`] refuses.
    pub fn initialized(spec: NetworkSpec, init: Init, seed: u64) -> Result<Self> {
        super::validate::options(&spec)?;
        let mut random = Random(fastrand::Rng::with_seed(seed));
        let mut tensors = BTreeMap::new();
        for layer in &spec.layers {
            for param in params::of_layer(layer).into_iter().flatten() {
                let data = match init {
                    Init::PyTorch => random.pytorch(layer, &param),
                    Init::Keras => random.keras(layer, &param),
                };
                tensors.insert(param.name, Tensor::new(param.shape, data)?);
            }
        }
        Self::new(spec, tensors)
    }
}

struct Random(fastrand::Rng);

#[expect(clippy::cast_precision_loss, reason = "a scale need not be exact")]
impl Random {
    fn uniform(&mut self, count: usize, bound: f32) -> Vec<f32> {
        (0..count).map(|_| (self.0.f32() * 2.0 - 1.0) * bound).collect()
    }

    /// Normal numbers by Box and Muller's method.
    fn normal(&mut self, count: usize) -> Vec<f32> {
        let mut one = || {
            let radius = (-2.0 * (1.0 - self.0.f32()).ln()).sqrt();
            radius * (std::f32::consts::TAU * self.0.f32()).cos()
        };
        (0..count).map(|_| one()).collect()
    }

    /// What makes a memory learn to be used: a controller that cannot do without it, heads that differ, rows that differ.
    fn ntm(&mut self, layer: &NtmSpec, param: &Param) -> Vec<f32> {
        let count = param.shape.iter().product();
        let (rows, columns) = (layer.memory.rows, layer.memory.columns);
        match param.role {
            Role::WeightIh | Role::WeightHh => {
                let inputs = layer.input_size + layer.read_size() + layer.hidden_size;
                self.uniform(count, 5.0 / (inputs as f32).sqrt())
            }
            Role::HeadsWeight => {
                let stage = layer.stage(0);
                let address = stage.address_size();
                let of_row = |row: usize| {
                    let writes = row / address >= layer.read_heads;
                    let outputs = if writes { address + 2 * columns } else { address };
                    1.4 * (6.0 / (layer.hidden_size + outputs) as f32).sqrt()
                };
                (0..param.shape[0]).flat_map(|row| self.uniform(layer.hidden_size, of_row(row))).collect()
            }
            Role::HeadsBias | Role::InitialRead => self.scaled_normal(count, 0.01),
            Role::InitialH | Role::InitialC => self.scaled_normal(count, 0.05),
            Role::FixedMemory | Role::InitialMemory => self.uniform(count, ((rows + columns) as f32).sqrt().recip()),
            Role::InitialWeights => self.normal(count),
            role => constant(role, count),
        }
    }

    fn scaled_normal(&mut self, count: usize, deviation: f32) -> Vec<f32> {
        self.normal(count).into_iter().map(|x| x * deviation).collect()
    }

    fn pytorch(&mut self, layer: &LayerSpec, param: &Param) -> Vec<f32> {
        let count = param.shape.iter().product();
        let inputs = |of: &[usize]| of[1..].iter().product::<usize>().max(1) as f32;
        match (layer, param.role) {
            (LayerSpec::Ntm(n), _) => self.ntm(n, param),
            (LayerSpec::Embedding(_), _) => self.normal(count),
            (LayerSpec::Dense(d), _) => self.uniform(count, (d.in_features as f32).sqrt().recip()),
            (LayerSpec::Attention(a), _) => self.uniform(count, (a.embed_dim as f32).sqrt().recip()),
            (LayerSpec::Conv1d(c), Role::Bias) => {
                self.uniform(count, ((c.in_channels / c.groups.max(1) * c.kernel_size) as f32).sqrt().recip())
            }
            (LayerSpec::Conv1d(_), _) => self.uniform(count, inputs(&param.shape).sqrt().recip()),
            _ => match layer.recurrent() {
                Some((_, spec)) if is_uniform(param.role) => {
                    self.uniform(count, (spec.hidden_size as f32).sqrt().recip())
                }
                _ => constant(param.role, count),
            },
        }
    }

    fn keras(&mut self, layer: &LayerSpec, param: &Param) -> Vec<f32> {
        let count = param.shape.iter().product();
        let glorot = |outputs: usize, inputs: usize| (6.0 / (outputs + inputs) as f32).sqrt();
        match (layer, param.role, &param.shape[..]) {
            (LayerSpec::Ntm(n), ..) => self.ntm(n, param),
            (LayerSpec::Embedding(_), ..) => self.uniform(count, 0.05),
            (LayerSpec::Dense(_), Role::Weight, &[outputs, inputs]) => self.uniform(count, glorot(outputs, inputs)),
            (LayerSpec::Conv1d(_), Role::Weight, &[outputs, inputs, kernel]) => {
                self.uniform(count, glorot(outputs * kernel, inputs * kernel))
            }
            (LayerSpec::Attention(a), ..) => self.uniform(count, glorot(a.embed_dim, a.embed_dim)),
            (_, Role::WeightIh | Role::WeightHr, &[outputs, inputs]) => self.uniform(count, glorot(outputs, inputs)),
            (_, Role::WeightHh, &[outputs, inputs]) => self.orthogonal(outputs, inputs),
            (_, Role::WeightHh, _) => self.uniform(count, 1.0),
            (LayerSpec::Lstm(spec), Role::BiasIh, _) => {
                let mut bias = vec![0.0; count];
                bias[gates::FORGET * spec.hidden_size..][..spec.hidden_size].fill(1.0);
                bias
            }
            _ => constant(param.role, count),
        }
    }

    /// `[rows, columns]` with orthogonal rows or columns, whichever are fewer, of length 1.
    fn orthogonal(&mut self, rows: usize, columns: usize) -> Vec<f32> {
        let (count, length) = (rows.min(columns), rows.max(columns));
        let mut lines: Vec<Vec<f64>> = Vec::with_capacity(count);
        while lines.len() < count {
            let mut line: Vec<f64> = self.normal(length).into_iter().map(f64::from).collect();
            // Twice, since once leaves rounding errors.
            for _ in 0..2 {
                for other in &lines {
                    let along: f64 = other.iter().zip(&line).map(|(x, y)| x * y).sum();
                    line.iter_mut().zip(other).for_each(|(x, y)| *x -= along * y);
                }
            }
            let norm = line.iter().map(|x| x * x).sum::<f64>().sqrt();
            if norm > 1e-6 {
                line.iter_mut().for_each(|x| *x /= norm);
                lines.push(line);
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
        let at = |line: usize, place: usize| lines[line][place] as f32;
        (0..rows)
            .flat_map(|row| (0..columns).map(move |column| (row, column)))
            .map(|(row, column)| if rows <= columns { at(row, column) } else { at(column, row) })
            .collect()
    }
}

/// The parameters of a recurrent layer that PyTorch draws at random.
fn is_uniform(role: Role) -> bool {
    use Role::{BiasHh, BiasIh, WeightHh, WeightHr, WeightIh, WeightP};
    matches!(role, WeightIh | WeightHh | BiasIh | BiasHh | WeightHr | WeightP)
}

/// Scales and variances are 1, all else is 0.
fn constant(role: Role, count: usize) -> Vec<f32> {
    vec![if role == Role::Weight || role.is_scale() { 1.0 } else { 0.0 }; count]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orthogonal_matrices_are_orthogonal() {
        for (rows, columns) in [(12, 3), (3, 3), (2, 7)] {
            let matrix = Random(fastrand::Rng::with_seed(1)).orthogonal(rows, columns);
            let at = |line: usize, place: usize| {
                matrix[if rows <= columns { line * columns + place } else { place * columns + line }]
            };
            for a in 0..rows.min(columns) {
                for b in 0..rows.min(columns) {
                    let product: f32 = (0..rows.max(columns)).map(|place| at(a, place) * at(b, place)).sum();
                    assert!((product - if a == b { 1.0 } else { 0.0 }).abs() < 1e-5, "{rows} x {columns}: {a}, {b}");
                }
            }
        }
    }

    #[test]
    fn keras_opens_the_forget_gate() {
        let layers = vec![LayerSpec::Lstm(crate::network::RecurrentSpec::new("r", 2, 3))];
        let spec = NetworkSpec { format: 1, layers, text: None, labels: Vec::new() };
        let network = Network::initialized(spec.clone(), Init::Keras, 1).expect("a network");
        let bias = network.tensors()["r.bias_ih_l0"].data();
        assert_eq!(bias, [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert!(network.tensors()["r.bias_hh_l0"].data().iter().all(|&x| x == 0.0));
        let pytorch = Network::initialized(spec, Init::PyTorch, 1).expect("a network");
        assert!(pytorch.tensors()["r.bias_hh_l0"].data().iter().all(|&x| x != 0.0 && x.abs() < 0.6));
    }
}
