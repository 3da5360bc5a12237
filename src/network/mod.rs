//! What a network is: layers with their options and weights. Plain data, no device, no file.

mod activation;
pub mod gates;
mod random;
mod recurrent;
mod spec;
mod stage;
mod tensor;

use std::collections::BTreeMap;

pub use activation::Activation;
pub use recurrent::{Cell, MaskedOutput, MergeMode, RecurrentOutput, RecurrentSpec};
pub use spec::{
    ActivationSpec, Conv1dSpec, DenseSpec, EmbeddingSpec, FORMAT, FromSpec, GlobalPoolSpec, INPUT, Join, JoinSpec,
    LayerSpec, MaskingSpec, NamedSpec, NetworkSpec, NormSpec, Padding, Pool, Pool1dSpec, SelectSpec, SelectStep,
    Split, Standardize, TextSpec,
};
pub use stage::{DirectionNames, Stage, StageKind};
pub use tensor::Tensor;

use crate::error::{Error, Result};

/// No single dimension may exceed this, so that products of two stay far from overflow.
const MAX_DIMENSION: usize = 1 << 24;
const MAX_LAYERS: usize = 1024;

/// A validated network: its description and every weight, in PyTorch's names and shapes.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    spec: NetworkSpec,
    stages: Vec<Stage>,
    tensors: BTreeMap<String, Tensor>,
}

impl Network {
    /// Joins a description and its weights.
    ///
    /// # Errors
    /// Layers that contradict themselves or each other, a tensor that is missing, unknown or
    /// of the wrong shape, a weight that is not finite.
    pub fn new(spec: NetworkSpec, tensors: BTreeMap<String, Tensor>) -> Result<Self> {
        validate_options(&spec)?;
        let stages = stage::stages(&spec)?;
        validate_labels(&spec, &stages)?;
        let expected = expected_tensors(&spec);
        let known: BTreeMap<&str, &[usize]> = expected.iter().map(|(n, s)| (n.as_str(), s.as_slice())).collect();
        let unexpected: Vec<String> = tensors.keys().filter(|n| !known.contains_key(n.as_str())).cloned().collect();
        for (name, shape) in &expected {
            let Some(tensor) = tensors.get(name) else {
                return Err(Error::MissingTensor { name: name.clone(), shape: shape.clone(), unexpected });
            };
            if tensor.shape() != shape {
                return Err(Error::TensorShape {
                    name: name.clone(),
                    expected: shape.clone(),
                    got: tensor.shape().to_vec(),
                });
            }
            if let Some(index) = tensor.data().iter().position(|x| !x.is_finite()) {
                return Err(Error::NonFinite { name: name.clone(), index, value: tensor.data()[index] });
            }
        }
        if let Some(name) = unexpected.into_iter().next() {
            let shape = tensors.get(&name).map(|t| t.shape().to_vec()).unwrap_or_default();
            return Err(Error::UnexpectedTensor { name, shape, expected: expected.into_iter().map(|e| e.0).collect() });
        }
        Ok(Self { spec, stages, tensors })
    }

    /// The description.
    #[must_use]
    pub fn spec(&self) -> &NetworkSpec {
        &self.spec
    }

    /// The steps of work the layers come down to, in order.
    #[must_use]
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// Every weight by name.
    #[must_use]
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// The weight `name`, which [`Network::new`] has seen; empty for an option left out (bias).
    pub(crate) fn weight(&self, name: &str) -> &[f32] {
        self.tensors.get(name).map_or(&[], Tensor::data)
    }

    /// Whether the caller's arrays are batch-major, `[B, T, ..]`.
    #[must_use]
    pub fn batch_first(&self) -> bool {
        self.lstms().any(|lstm| lstm.batch_first)
    }

    /// The LSTM layers in order; a [`State`](crate::State) has one entry for each.
    pub fn lstms(&self) -> impl Iterator<Item = &LstmSpec> {
        self.spec.layers.iter().filter_map(|layer| match layer {
            LayerSpec::Lstm(lstm) => Some(lstm),
            _ => None,
        })
    }

    /// V, if the network reads token ids `[T, B]`; `None` if it reads vectors `[T, B, I]`.
    #[must_use]
    pub fn num_embeddings(&self) -> Option<usize> {
        match self.spec.layers.first() {
            Some(LayerSpec::Embedding(embedding)) => Some(embedding.num_embeddings),
            _ => None,
        }
    }

    /// I, width of the first layer that computes with vectors.
    #[must_use]
    pub fn input_size(&self) -> usize {
        self.stages.first().map_or(0, |stage| stage.in_features)
    }

    /// Width of the output's last dimension.
    #[must_use]
    pub fn output_size(&self) -> usize {
        self.stages.last().map_or(0, |stage| stage.out_features)
    }

    /// Whether the output has a time dimension.
    #[must_use]
    pub fn output_is_sequence(&self) -> bool {
        self.stages.last().is_some_and(|stage| stage.sequence_out)
    }

    /// Number of weights.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.tensors.values().map(|tensor| tensor.data().len()).sum()
    }
}

/// Names and shapes of the tensors that `spec` needs, in file order.
#[must_use]
pub fn expected_tensors(spec: &NetworkSpec) -> Vec<(String, Vec<usize>)> {
    let mut tensors = Vec::new();
    for layer in &spec.layers {
        match layer {
            LayerSpec::Embedding(e) => {
                tensors.push((format!("{}.weight", e.name), vec![e.num_embeddings, e.embedding_dim]));
            }
            LayerSpec::Lstm(lstm) => {
                let rows = gates::COUNT * lstm.hidden_size;
                for level in 0..lstm.num_layers {
                    let width = if level == 0 { lstm.input_size } else { lstm.directions() * lstm.hidden_size };
                    for direction in 0..lstm.directions() {
                        let names = DirectionNames::new(&lstm.name, level, direction);
                        tensors.push((names.weight_ih, vec![rows, width]));
                        tensors.push((names.weight_hh, vec![rows, lstm.hidden_size]));
                        if lstm.bias {
                            tensors.push((names.bias_ih, vec![rows]));
                            tensors.push((names.bias_hh, vec![rows]));
                        }
                    }
                }
            }
            LayerSpec::Dense(dense) => {
                tensors.push((format!("{}.weight", dense.name), vec![dense.out_features, dense.in_features]));
                if dense.bias {
                    tensors.push((format!("{}.bias", dense.name), vec![dense.out_features]));
                }
            }
            LayerSpec::Softmax => {}
        }
    }
    tensors
}

/// Class names need one vector per row, as wide as there are names.
fn validate_labels(spec: &NetworkSpec, stages: &[Stage]) -> Result<()> {
    let Some(last) = stages.last().filter(|_| !spec.labels.is_empty()) else { return Ok(()) };
    if last.sequence_out || last.out_features != spec.labels.len() {
        let width = last.out_features;
        let got = if last.sequence_out { format!("[T, B, {width}]") } else { format!("[B, {width}]") };
        return Err(Error::network(&last.label, "output", format!("[B, {}], one per label", spec.labels.len()), &got));
    }
    Ok(())
}

/// Everything about the options that does not need the neighbour layers.
fn validate_options(spec: &NetworkSpec) -> Result<()> {
    if spec.format == 0 || spec.format > FORMAT {
        return Err(Error::Malformed {
            what: "network description".into(),
            expected: format!("format 1 to {FORMAT}"),
            got: format!("format {}", spec.format),
        });
    }
    if spec.layers.is_empty() || spec.layers.len() > MAX_LAYERS {
        return Err(Error::network(
            "network",
            "number of layers",
            format!("1 to {MAX_LAYERS}"),
            &spec.layers.len().to_string(),
        ));
    }
    let mut names = std::collections::BTreeSet::new();
    let mut batch_first = None;
    for layer in &spec.layers {
        let (name, sizes): (&str, Vec<(&str, usize)>) = match layer {
            LayerSpec::Embedding(e) => {
                (&e.name, vec![("num_embeddings", e.num_embeddings), ("embedding_dim", e.embedding_dim)])
            }
            LayerSpec::Lstm(l) => {
                if l.num_layers > MAX_LAYERS {
                    return Err(Error::network(&l.name, "num_layers", format!("1 to {MAX_LAYERS}"), &l.num_layers));
                }
                if *batch_first.get_or_insert(l.batch_first) != l.batch_first {
                    return Err(Error::network(
                        &l.name,
                        "batch_first",
                        "the same in every LSTM of a network",
                        &l.batch_first,
                    ));
                }
                (
                    &l.name,
                    vec![("input_size", l.input_size), ("hidden_size", l.hidden_size), ("num_layers", l.num_layers)],
                )
            }
            LayerSpec::Dense(d) => (&d.name, vec![("in_features", d.in_features), ("out_features", d.out_features)]),
            LayerSpec::Softmax => continue,
        };
        if name.is_empty() || !names.insert(name) {
            return Err(Error::network(name, "name", "a name that no other layer has", &format!("{name:?}")));
        }
        for (option, size) in sizes {
            if size == 0 || size > MAX_DIMENSION {
                return Err(Error::network(name, option, format!("1 to {MAX_DIMENSION}"), &size));
            }
        }
    }
    if let Some(text) = &spec.text {
        match spec.layers.first() {
            Some(LayerSpec::Embedding(e)) if e.num_embeddings >= text.vocabulary.len() => {}
            Some(LayerSpec::Embedding(e)) => {
                return Err(Error::network(
                    &e.name,
                    "num_embeddings",
                    format!("at least the vocabulary's {} tokens", text.vocabulary.len()),
                    &e.num_embeddings,
                ));
            }
            _ => {
                return Err(Error::network(
                    "network",
                    "first layer",
                    "an embedding, since there is a vocabulary",
                    &"none",
                ));
            }
        }
    }
    Ok(())
}
