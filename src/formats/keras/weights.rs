//! Where Keras keeps the arrays of a layer, and how they become PyTorch's.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::Owner;
use super::hdf5::Hdf5;
use super::malformed;
use super::parts::{PartTensor, PartWeights};
use super::recurrent::StackedCell;
use crate::base::error::{Error, Result};
use crate::network::{Cell, Conv1dSpec, DenseSpec, LayerSpec, NetworkSpec, NormSpec, RecurrentSpec, Tensor};

/// The names that arrays have in legacy files; arrays with other names are not used in inference.
const ROLES: [&str; 15] = [
    "kernel",
    "recurrent_kernel",
    "bias",
    "gamma",
    "beta",
    "moving_mean",
    "moving_variance",
    "embeddings",
    "mean",
    "variance",
    "alpha",
    "scale",
    "concat_score_weight",
    "depthwise_kernel",
    "pointwise_kernel",
];

/// The names that layers have in a file with weights.
#[derive(Default)]
pub(super) struct WeightNames {
    /// Their groups in numbered files, where they differ from the layers' names.
    pub groups: BTreeMap<String, String>,
    /// Of layers within models, where legacy files have them.
    pub owners: BTreeMap<String, Owner>,
    /// Of layers with the weights of another, that layer.
    pub copies: BTreeMap<String, String>,
    /// Layers that are cells of one layer of the file.
    pub stacked: BTreeMap<String, StackedCell>,
    /// Layers that are parts of one layer of the file.
    pub parts: BTreeMap<String, PartWeights>,
    /// Layers whose weights are in cuDNN's order.
    pub cudnn: BTreeSet<String>,
    /// Layers of class Normalization: the mean and the variance, or nothing if they are in the file.
    pub normalizations: BTreeMap<String, Option<[Vec<f32>; 2]>>,
}

/// Where the arrays of a layer are.
#[derive(Clone, Copy)]
struct WeightGroup<'a> {
    name: &'a str,
    /// The model and its layer, if the group is that of a model within the model.
    within: Option<[&'a str; 2]>,
    /// The cell, if it is one of several.
    cell: Option<&'a StackedCell>,
    /// The layer inside whose arrays they are (MultiHeadAttention's `query`).
    inner: Option<&'static str>,
    /// Whether the weights are in cuDNN's order.
    cudnn: bool,
}

/// An HDF5 file with weights.
pub(super) struct Weights {
    hdf5: Hdf5,
    layout: WeightPaths,
}

enum WeightPaths {
    /// Keras 3 and Keras 2's `.keras`: `<root>/<group>/cell/vars/0`.
    Numbered(&'static str),
    /// Legacy: `<root>/<layer>/…/kernel:0`, listed in the layer's attribute `weight_names`.
    Named(&'static str),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LayerPart {
    Own,
    Forward,
    Backward,
}

/// A role and the shape that Keras gives it.
type Wanted = (&'static str, Vec<usize>);

type Tensors = BTreeMap<String, Tensor>;

impl Weights {
    pub(super) fn new(hdf5: Hdf5) -> Result<Self> {
        const NUMBERED: [&str; 2] = ["layers", "_layer_checkpoint_dependencies"];
        let layout = if hdf5.text("", "layer_names")?.is_some() {
            WeightPaths::Named("")
        } else if hdf5.has_group("model_weights")? {
            WeightPaths::Named("model_weights")
        } else {
            let mut root = None;
            for group in NUMBERED {
                root = root.or(hdf5.has_layers(group)?.then_some(group));
            }
            let expected = "Keras weights (a group layers or model_weights, or an attribute layer_names)";
            WeightPaths::Numbered(root.ok_or_else(|| malformed(hdf5.name(), expected, &"none of them"))?)
        };
        Ok(Self { hdf5, layout })
    }

    pub(super) fn hdf5(&self) -> &Hdf5 {
        &self.hdf5
    }

    /// Every tensor of `spec`, whose layers have these `names` in the file.
    pub(super) fn tensors(&self, spec: &NetworkSpec, names: &WeightNames) -> Result<Tensors> {
        let mut tensors = Tensors::new();
        for layer in &spec.layers {
            let cell = names.stacked.get(layer.name());
            let part = names.parts.get(layer.name());
            let name =
                cell.map(|cell| &cell.layer).or(part.map(|part| &part.layer)).map_or(layer.name(), String::as_str);
            let name = names.copies.get(name).map_or(name, String::as_str);
            let (group, within) = match self.layout {
                WeightPaths::Numbered(_) => (names.groups.get(name).map_or(name, String::as_str), None),
                WeightPaths::Named(_) => match names.owners.get(name) {
                    Some(owner) => (owner.group.as_str(), Some([owner.model.as_str(), name])),
                    None => (name, None),
                },
            };
            let inner = part.and_then(|part| part.inner);
            let group = WeightGroup { name: group, within, cell, inner, cudnn: names.cudnn.contains(name) };
            if let Some(part) = part {
                self.part(layer.name(), part, group, &mut tensors)?;
                continue;
            }
            match (layer, names.normalizations.get(name)) {
                (LayerSpec::BatchNorm(norm), Some(given)) => self.statistics(norm, group, given, &mut tensors)?,
                _ => self.layer(layer, group, &mut tensors)?,
            }
        }
        Ok(tensors)
    }

    /// The mean and the variance of a Normalization, which are `given` or in the file.
    fn statistics(
        &self,
        norm: &NormSpec,
        group: WeightGroup<'_>,
        given: &Option<[Vec<f32>; 2]>,
        tensors: &mut Tensors,
    ) -> Result<()> {
        // What Keras divides by is at least this.
        const LEAST: f32 = 1e-7;
        let wanted = ["mean", "variance"].map(|role| (role, vec![norm.num_features]));
        let found = match given {
            None => self.arrays(group, LayerPart::Own, &wanted)?,
            Some(numbers) => {
                let spread = |numbers: &Vec<f32>| match numbers[..] {
                    [one] => vec![one; norm.num_features],
                    _ => numbers.clone(),
                };
                numbers
                    .iter()
                    .map(|numbers| Tensor::new(wanted[0].1.clone(), spread(numbers)))
                    .collect::<Result<_>>()?
            }
        };
        for (array, name) in found.into_iter().zip(["running_mean", "running_var"]) {
            let mut data = array.data().to_vec();
            if name == "running_var" {
                data.iter_mut().for_each(|variance| *variance = variance.max(LEAST * LEAST));
            }
            tensors.insert(format!("{}.{name}", norm.name), Tensor::new(array.shape().to_vec(), data)?);
        }
        Ok(())
    }

    fn layer(&self, layer: &LayerSpec, group: WeightGroup<'_>, tensors: &mut Tensors) -> Result<()> {
        if let Some((cell, spec)) = layer.recurrent() {
            return self.recurrent(cell, spec, group, tensors);
        }
        let mut put = |tensor: &str, value: Tensor| tensors.insert(format!("{}.{tensor}", layer.name()), value);
        let (mut wanted, names): (Vec<Wanted>, Vec<&str>) = match layer {
            LayerSpec::Embedding(e) => (vec![("embeddings", vec![e.num_embeddings, e.embedding_dim])], vec!["weight"]),
            LayerSpec::Dense(d) => {
                let wanted = vec![("kernel", vec![d.in_features, d.out_features]), ("bias", vec![d.out_features])];
                (wanted, vec!["weight", "bias"])
            }
            LayerSpec::Conv1d(c) => {
                let inputs = c.in_channels.checked_div(c.groups).unwrap_or(0);
                let kernel = vec![c.kernel_size, inputs, c.out_channels];
                (vec![("kernel", kernel), ("bias", vec![c.out_channels])], vec!["weight", "bias"])
            }
            LayerSpec::LayerNorm(n) | LayerSpec::BatchNorm(n) => {
                let mut roles = vec![];
                roles.extend(n.weight.then_some(("gamma", "weight")));
                roles.extend(n.bias.then_some(("beta", "bias")));
                if matches!(layer, LayerSpec::BatchNorm(_)) {
                    roles.extend([("moving_mean", "running_mean"), ("moving_variance", "running_var")]);
                }
                let wanted = roles.iter().map(|(role, _)| (*role, vec![n.num_features])).collect();
                (wanted, roles.iter().map(|(_, name)| *name).collect())
            }
            _ => return Ok(()),
        };
        if matches!(
            layer,
            LayerSpec::Dense(DenseSpec { bias: false, .. }) | LayerSpec::Conv1d(Conv1dSpec { bias: false, .. })
        ) {
            wanted.truncate(1);
        }
        for (array, name) in self.arrays(group, LayerPart::Own, &wanted)?.into_iter().zip(names) {
            put(name, if array.shape().len() == 3 { outputs_first(&array)? } else { array });
        }
        Ok(())
    }

    /// The tensors of a layer that is part of one of the file.
    fn part(&self, layer: &str, part: &PartWeights, group: WeightGroup<'_>, tensors: &mut Tensors) -> Result<()> {
        let paths = self.paths(group, LayerPart::Own, &part.arrays)?;
        for PartTensor { name, shape, numbers } in &part.tensors {
            let array = match numbers.array().and_then(|array| Some((part.arrays.get(array)?, paths.get(array)?))) {
                None => None,
                Some(((_, wanted), path)) => {
                    let missing = || {
                        let (name, shape) = (path.clone(), wanted.clone());
                        Error::MissingTensor { name, shape, unexpected: Vec::new() }
                    };
                    Some(self.hdf5.tensor(path, wanted)?.ok_or_else(missing)?)
                }
            };
            let name = format!("{layer}.{name}");
            let count = shape.iter().fold(1, |product: usize, &size| product.saturating_mul(size));
            self.hdf5.spend(|| name.clone(), count)?;
            tensors.insert(name, numbers.tensor(shape, array.as_ref().map_or(&[], Tensor::data))?);
        }
        Ok(())
    }

    fn recurrent(&self, cell: Cell, spec: &RecurrentSpec, group: WeightGroup<'_>, tensors: &mut Tensors) -> Result<()> {
        let rows = spec.hidden_size.saturating_mul(cell.gates());
        let kept_apart = cell == Cell::Gru && spec.reset_after;
        let bias = match (group.cudnn, kept_apart) {
            (true, _) => vec![2 * rows],
            (false, true) => vec![2, rows],
            (false, false) => vec![rows],
        };
        let mut wanted: Vec<Wanted> = vec![
            ("kernel", vec![spec.input_size, rows]),
            ("recurrent_kernel", vec![spec.hidden_size, rows]),
            ("bias", bias),
        ];
        if !spec.bias {
            wanted.truncate(2);
        }
        let parts: &[(LayerPart, &str)] = match spec.bidirectional {
            true => &[(LayerPart::Forward, ""), (LayerPart::Backward, "_reverse")],
            false => &[(LayerPart::Own, "")],
        };
        for &(part, suffix) in parts {
            let mut put = |tensor: &str, value: Tensor| {
                tensors.insert(format!("{}.{tensor}_l0{suffix}", spec.name), in_our_order(cell, value));
            };
            let mut arrays = self.arrays(group, part, &wanted)?.into_iter();
            for (array, name) in arrays.by_ref().take(2).zip(["weight_ih", "weight_hh"]) {
                let matrix = match (group.cudnn, name) {
                    (false, _) => array,
                    (true, "weight_ih") => cudnn_input(&array, cell.gates())?,
                    (true, _) => cudnn_recurrent(&array, cell.gates())?,
                };
                put(name, matrix);
            }
            let Some(bias) = arrays.next() else { continue };
            // Keras has one bias but for a GRU with reset_after, which has the recurrent one after it.
            let (input, recurrent) = bias.data().split_at(rows.min(bias.data().len()));
            let recurrent = if recurrent.is_empty() { vec![0.0; rows] } else { recurrent.to_vec() };
            put("bias_ih", Tensor::new(vec![rows], input.to_vec())?);
            put("bias_hh", Tensor::new(vec![rows], recurrent)?);
        }
        Ok(())
    }

    /// The arrays of one layer in the order wanted. Of matrices the outputs are last in the file and first in PyTorch's
    /// order, in which they are given; not so those of cuDNN.
    fn arrays(&self, group: WeightGroup<'_>, part: LayerPart, wanted: &[Wanted]) -> Result<Vec<Tensor>> {
        let paths = self.paths(group, part, wanted)?;
        let mut arrays = Vec::with_capacity(wanted.len());
        for (path, (role, shape)) in paths.into_iter().zip(wanted) {
            let array = match shape[..] {
                [inputs, outputs] if role.ends_with("kernel") && !group.cudnn => {
                    self.hdf5.transposed(&path, [inputs, outputs])?
                }
                _ => self.hdf5.tensor(&path, shape)?,
            };
            let missing = || Error::MissingTensor { name: path, shape: shape.clone(), unexpected: Vec::new() };
            arrays.push(array.ok_or_else(missing)?);
        }
        Ok(arrays)
    }

    fn paths(&self, group: WeightGroup<'_>, part: LayerPart, wanted: &[Wanted]) -> Result<Vec<String>> {
        let WeightGroup { name: group, within, cell, inner, .. } = group;
        match self.layout {
            WeightPaths::Numbered(root) => {
                let holders: &[&str] = match part {
                    LayerPart::Own => &["cell/vars", "layer/vars", "vars"],
                    LayerPart::Forward => &["forward_layer/cell/vars"],
                    LayerPart::Backward => &["backward_layer/cell/vars"],
                };
                let of_cell = cell.map(|cell| format!("cell/cells/{}/vars", cell.group));
                // Keras 2's names begin with an underscore.
                let of_inner = inner.map(|inner| {
                    let dense = format!("{}_dense/vars", inner.trim_start_matches("attention_"));
                    [format!("_{dense}"), dense]
                });
                let holders = match (&of_cell, &of_inner) {
                    (Some(holder), _) => vec![holder.as_str()],
                    (_, Some(holders)) => holders.iter().map(String::as_str).collect(),
                    _ => holders.to_vec(),
                };
                let mut holder = format!("{root}/{group}/{}", holders[holders.len() - 1]);
                for other in &holders[..holders.len() - 1] {
                    let path = format!("{root}/{group}/{other}");
                    if self.hdf5.has_group(&path)? {
                        holder = path;
                        break;
                    }
                }
                // The statistics of a Normalization are followed by the number of examples.
                let next = format!(
                    "{holder}/{}",
                    wanted.len() + usize::from(wanted.first().is_some_and(|(role, _)| *role == "mean"))
                );
                if self.hdf5.has_dataset(&next)? {
                    return Err(surplus(group, wanted, &next));
                }
                Ok((0..wanted.len()).map(|index| format!("{holder}/{index}")).collect())
            }
            WeightPaths::Named(root) => {
                let folder = format!("{root}/{group}");
                let folder = folder.trim_start_matches('/');
                let listed = self.hdf5.texts(folder, "weight_names")?.unwrap_or_default();
                let own = |path: &&String| {
                    within.is_none_or(|[model, layer]| is_within(path, model, layer))
                        && cell.is_none_or(|cell| path.split('/').any(|part| part == cell.name))
                        && inner.is_none_or(|inner| path.split('/').nth_back(1) == Some(inner))
                };
                let arrays: Vec<&String> =
                    listed.iter().filter(own).filter(|path| ROLES.contains(&role(path))).collect();
                let (first, second) = arrays.split_at(arrays.len() / 2);
                let arrays = match part {
                    LayerPart::Own => &arrays[..],
                    LayerPart::Forward => first,
                    LayerPart::Backward => second,
                };
                let unwanted = |path: &&&String| wanted.iter().all(|(wanted, _)| role(path) != *wanted);
                if let Some(path) = arrays.iter().find(unwanted) {
                    return Err(surplus(group, wanted, path));
                }
                let path = |(wanted, _): &Wanted| {
                    let name = arrays.iter().find(|path| role(path) == *wanted);
                    format!("{folder}/{}", name.map_or(*wanted, |path| path.as_str()))
                };
                Ok(wanted.iter().map(path).collect())
            }
        }
    }
}

/// Whether an array is that of a layer of `model`, which is within the model. A Sequential one's name comes before the layer's.
fn is_within(path: &str, model: &str, layer: &str) -> bool {
    let mut parts = path.split('/');
    match parts.next() {
        Some(first) if first == layer => true,
        Some(first) => first == model && parts.next() == Some(layer),
        None => false,
    }
}

/// An array that the layer's options leave out, such as a bias with `use_bias = false`.
fn surplus(group: &str, wanted: &[Wanted], path: &str) -> Error {
    let roles: Vec<&str> = wanted.iter().map(|(role, _)| *role).collect();
    let expected = if roles.is_empty() { "no array".into() } else { format!("no array but {}", roles.join(", ")) };
    malformed(&format!("weights of layer `{group}`"), &expected, &path)
}

/// `kernel` of `lstm/lstm_cell/kernel:0`, or of `kernel_1:0`, which TensorFlow 1 wrote.
fn role(path: &str) -> &str {
    let last = path.rsplit('/').next().unwrap_or(path);
    let last = last.split(':').next().unwrap_or(last);
    match last.rsplit_once('_') {
        Some((name, number)) if number.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => last,
    }
}

/// The kernel of a convolution, `[K, I, O]` in the file, as `[O, I, K]`.
fn outputs_first(array: &Tensor) -> Result<Tensor> {
    let &[steps, inputs, outputs] = array.shape() else { return Ok(array.clone()) };
    let mut data = Vec::with_capacity(array.data().len());
    for output in 0..outputs {
        for input in 0..inputs {
            data.extend((0..steps).map(|step| array.data()[(step * inputs + input) * outputs + output]));
        }
    }
    Tensor::new(vec![outputs, inputs, steps], data)
}

/// cuDNN's input kernel as Keras shows it, `[I, G*H]`: the numbers of a gate are those of its matrix `[H, I]` in their order.
fn cudnn_input(array: &Tensor, gates: usize) -> Result<Tensor> {
    let &[inputs, rows] = array.shape() else { return Ok(array.clone()) };
    let units = rows / gates;
    let gate = |gate: usize| (0..inputs).flat_map(move |input| &array.data()[input * rows + gate * units..][..units]);
    Tensor::new(vec![rows, inputs], (0..gates).flat_map(gate).copied().collect())
}

/// cuDNN's recurrent kernel as Keras shows it, `[H, G*H]`: each gate's matrix `[H, H]` is as it is.
fn cudnn_recurrent(array: &Tensor, gates: usize) -> Result<Tensor> {
    let &[hidden, rows] = array.shape() else { return Ok(array.clone()) };
    let gate = |gate: usize| (0..hidden).flat_map(move |row| &array.data()[row * rows + gate * hidden..][..hidden]);
    Tensor::new(vec![rows, hidden], (0..gates).flat_map(gate).copied().collect())
}

/// A tensor whose rows are Keras' gates, with the gates in PyTorch's order: an LSTM's i, f, c, o are i, f, g, o; a GRU's z,
/// r, h become r, z, n.
fn in_our_order(cell: Cell, mut tensor: Tensor) -> Tensor {
    if cell == Cell::Gru {
        let numbers = tensor.numbers_mut();
        let gate = numbers.len() / cell.gates();
        let (update, others) = numbers.split_at_mut(gate);
        update.swap_with_slice(&mut others[..gate]);
    }
    tensor
}
