//! The weights of cells whose units do not depend on each other, under the names of the packages that have them.
//!
//! | cell | package | tensors |
//! | --- | --- | --- |
//! | `min_gru`, `min_lstm` | minGRU-pytorch | `to_hidden_and_gate.weight`, `to_hidden_and_f_i_gate.weight`, and `to_out.weight`, a dense layer |
//! | `sru` | sru | `rnn_lst.0.weight` `[I, H*k]`, `weight_c`, `bias`, `scale_x`, or the same names of one `SRUCell` |
//! | `qrnn` | torchqrnn | `layers.0.linear.weight` `[3H, I]`, `bias`, or `linear.weight` of one `QRNNLayer` |
//! | `ind_rnn` | haste | `kernel` `[I, H]`, `recurrent_scale`, `bias` |
//!
//! They are read where a description names such a layer, and without a description where they are all that a file holds, but
//! for a QRNN, whose names could be those of dense layers. What a package does not store has its default then: an SRU has one
//! direction.
//!
//! An SRU whose input is as wide as its output has no weights of its highway: they become the diagonal of its scale. torchqrnn
//! calls the gate f that takes in the new value; here f is the gate that keeps the old one, so its weights change their sign.

use std::collections::BTreeMap;

use super::pytorch::Shapes;
use super::safetensors::Contents;
use crate::base::error::{Error, Result};
use crate::network::{
    Activation, Cell, DenseSpec, FORMAT, LayerSpec, MAX_DIMENSION, MAX_LAYERS, Network, NetworkSpec, RecurrentSpec,
    Tensor, gates,
};

const MIN_GRU: &str = "to_hidden_and_gate.weight";
const MIN_LSTM: &str = "to_hidden_and_f_i_gate.weight";
const TO_OUT: &str = "to_out.weight";

/// Tensors by their names in a file.
type FileTensors = BTreeMap<String, Tensor>;

/// Replaces tensors under the names of a package, of the layers of `spec`, by the layers' own.
pub(super) fn convert(spec: &NetworkSpec, tensors: &mut FileTensors) -> Result<()> {
    // Sizes that are too large a network refuses.
    let within = |layer: &RecurrentSpec| {
        layer.num_layers <= MAX_LAYERS && layer.hidden_size.max(layer.input_size) <= MAX_DIMENSION
    };
    let layers = spec.layers.iter().filter_map(LayerSpec::recurrent);
    for (cell, layer) in layers.filter(|(cell, layer)| cell.scans() && within(layer)) {
        let bare = spec.layers.iter().filter(|layer| layer.recurrent().is_some()).count() == 1;
        for level in 0..layer.num_layers {
            ScanModule { cell, spec: layer, level, bare }.convert(tensors)?;
        }
    }
    Ok(())
}

/// The network of a file without a description, if all it holds is one module of a package.
pub(super) fn undescribed(contents: &Contents<'_>) -> Option<Result<Network>> {
    let shapes = contents.shapes();
    let spec = described(&shapes)?;
    let network = |mut tensors: FileTensors, mut spec: NetworkSpec| {
        let used = |name: &str| tensors.get(name).is_some_and(|tensor| tensor.data().iter().any(|&x| x != 0.0));
        let peephole = shapes.keys().filter(|name| name.ends_with("weight_c")).any(|name| used(name));
        for (_, layer) in spec.layers.iter_mut().filter_map(LayerSpec::recurrent_mut) {
            layer.peephole = peephole;
        }
        convert(&spec, &mut tensors)?;
        Network::new(spec, tensors)
    };
    let tensors: Result<FileTensors> = shapes.keys().map(|name| Ok((name.clone(), contents.tensor(name)?))).collect();
    Some(tensors.and_then(|tensors| network(tensors, spec)))
}

/// A description by names and shapes.
fn described(shapes: &Shapes) -> Option<NetworkSpec> {
    let (cell, prefix) = shapes.keys().find_map(|name| {
        let known = [
            (Cell::MinGru, MIN_GRU),
            (Cell::MinLstm, MIN_LSTM),
            (Cell::Sru, "rnn_lst.0.weight"),
            (Cell::IndRnn, "recurrent_scale"),
            (Cell::Sru, "weight_c"),
        ];
        known.into_iter().find_map(|(cell, leaf)| {
            let prefix = name.strip_suffix(leaf)?;
            (prefix.is_empty() || prefix.ends_with('.')).then_some((cell, prefix))
        })
    })?;
    let name = if prefix.is_empty() { cell.name() } else { prefix.trim_end_matches('.') };
    let shape = |leaf: &str| shapes.get(&format!("{prefix}{leaf}")).map(Vec::as_slice);
    let first = |leaf: &str| shape(&format!("{}.0.{leaf}", list_of(cell))).or_else(|| shape(leaf));
    let mut layers = Vec::new();
    let spec = match (cell, first(leaf_of(cell))?) {
        (Cell::Sru, &[inputs, _]) => {
            let levels = (0..).take_while(|level| shape(&format!("rnn_lst.{level}.weight")).is_some()).count();
            let outputs = first("weight_c")?.first()? / 2;
            RecurrentSpec { num_layers: levels.max(1), ..RecurrentSpec::new(name, inputs, outputs) }
        }
        (Cell::IndRnn, &[inputs, outputs]) => {
            RecurrentSpec { bias: shape("bias").is_some(), ..RecurrentSpec::new(name, inputs, outputs) }
        }
        (_, &[rows, inputs]) => {
            let hidden = rows / cell.gates();
            if let Some(&[outputs, inputs]) = shape(TO_OUT) {
                layers.push(LayerSpec::Dense(DenseSpec {
                    name: format!("{prefix}to_out"),
                    in_features: inputs,
                    out_features: outputs,
                    bias: false,
                    activation: Activation::Linear,
                }));
            }
            RecurrentSpec { bias: false, batch_first: true, ..RecurrentSpec::new(name, inputs, hidden) }
        }
        _ => return None,
    };
    layers.insert(0, LayerSpec::of_cell(cell, spec));
    Some(NetworkSpec { format: FORMAT, layers, text: None, labels: Vec::new() })
}

/// What the matrix of a level is called, and the list of the levels.
fn leaf_of(cell: Cell) -> &'static str {
    match cell {
        Cell::MinGru => MIN_GRU,
        Cell::MinLstm => MIN_LSTM,
        Cell::Qrnn => "linear.weight",
        Cell::IndRnn => "kernel",
        _ => "weight",
    }
}

fn list_of(cell: Cell) -> &'static str {
    if cell == Cell::Sru { "rnn_lst" } else { "layers" }
}

/// One level of a layer.
#[derive(Clone, Copy)]
struct ScanModule<'a> {
    cell: Cell,
    spec: &'a RecurrentSpec,
    level: usize,
    /// Whether its tensors may have names without the layer's.
    bare: bool,
}

impl ScanModule<'_> {
    fn convert(self, tensors: &mut FileTensors) -> Result<()> {
        let leaf = leaf_of(self.cell);
        let Some(prefix) = self.prefixes().find(|prefix| tensors.contains_key(&format!("{prefix}{leaf}"))) else {
            return Ok(());
        };
        let mut take = |leaf: &str| tensors.remove(&format!("{prefix}{leaf}"));
        let Some(weight) = take(leaf) else { return Ok(()) };
        let own = match self.cell {
            Cell::Sru => self.sru(&prefix, &weight, [take("weight_c"), take("bias"), take("scale_x")])?,
            Cell::Qrnn => {
                let bias = take("linear.bias");
                let mut own = vec![("weight_ih", 0, negated(&weight, self.spec.hidden_size)?)];
                if let Some(bias) = bias {
                    own.push(("bias_ih", 0, negated(&bias, self.spec.hidden_size)?));
                }
                own
            }
            Cell::IndRnn => {
                let mut own = vec![("weight_ih", 0, transposed(&weight)?)];
                own.extend(take("recurrent_scale").map(|scale| ("weight_hh", 0, scale)));
                own.extend(take("bias").map(|bias| ("bias_ih", 0, bias)));
                own
            }
            _ => vec![("weight_ih", 0, weight)],
        };
        for (name, direction, tensor) in own {
            let reverse = if direction == 1 { "_reverse" } else { "" };
            tensors.insert(format!("{}.{name}_l{}{reverse}", self.spec.name, self.level), tensor);
        }
        Ok(())
    }

    /// Where its tensors may lie.
    fn prefixes(self) -> impl Iterator<Item = String> {
        let list = format!("{}.{}.", list_of(self.cell), self.level);
        let of_module = [Some(format!("{}.", self.spec.name)), self.bare.then(String::new)];
        let single = self.spec.num_layers == 1;
        of_module.into_iter().flatten().flat_map(move |module| {
            [Some(format!("{module}{list}")), single.then(|| module.clone())].into_iter().flatten()
        })
    }

    /// From `[I, D*H*k]`, the k matrices of a unit side by side, and two vectors `[2*D*H]`.
    fn sru(
        self,
        prefix: &str,
        weight: &Tensor,
        [weight_c, bias, scale]: [Option<Tensor>; 3],
    ) -> Result<Vec<(&'static str, usize, Tensor)>> {
        let (hidden, outputs) = (self.spec.hidden_size, self.spec.level_size());
        let inputs = if self.level == 0 { self.spec.input_size } else { outputs };
        let shape = |name: &str, expected: Vec<usize>, got: &[usize]| Error::TensorShape {
            name: format!("{prefix}{name}"),
            expected,
            got: got.to_vec(),
        };
        let blocks = match *weight.shape() {
            [rows, columns] if rows == inputs && columns == 4 * outputs => 4,
            [rows, columns] if rows == inputs && columns == 3 * outputs && inputs == outputs => 3,
            ref got => return Err(shape("weight", vec![inputs, if inputs == outputs { 3 } else { 4 } * outputs], got)),
        };
        let pair = |name: &str, tensor: Option<Tensor>| match tensor {
            Some(tensor) if *tensor.shape() != [2 * outputs] => Err(shape(name, vec![2 * outputs], tensor.shape())),
            other => Ok(other.map_or_else(|| vec![0.0; 2 * outputs], |tensor| tensor.data().to_vec())),
        };
        let (of_c, bias) = (pair("weight_c", weight_c)?, pair("bias", bias)?);
        if !self.spec.peephole && of_c.iter().any(|&x| x != 0.0) {
            let expected = "true, since the file's weight_c is not 0";
            return Err(Error::network(&self.spec.name, "peephole", expected, &false));
        }
        let scale = scale.and_then(|scale| scale.data().first().copied()).unwrap_or(1.0);
        let mut own = Vec::new();
        for direction in 0..self.spec.directions() {
            let first = direction * hidden;
            let number = |block: usize, unit: usize, input: usize| match block < blocks {
                true => weight.data()[input * blocks * outputs + (first + unit) * blocks + block],
                // The input itself.
                false if input == first + unit => scale,
                false => 0.0,
            };
            let rows = (0..4).flat_map(|block| (0..hidden).map(move |unit| (block, unit)));
            let data = rows.flat_map(|(block, unit)| (0..inputs).map(move |input| number(block, unit, input)));
            own.push(("weight_ih", direction, Tensor::new(vec![4 * hidden, inputs], data.collect())?));
            let part = |numbers: &[f32], which: usize| numbers[which * outputs + first..][..hidden].to_vec();
            let zeros = vec![0.0; hidden];
            let of_gates = [zeros.clone(), part(&bias, 0), part(&bias, 1), zeros].concat();
            own.push(("bias_ih", direction, Tensor::new(vec![4 * hidden], of_gates)?));
            if self.spec.peephole {
                let of_c = [part(&of_c, 0), part(&of_c, 1)].concat();
                own.push(("weight_p", direction, Tensor::new(vec![gates::SRU_PEEPHOLES * hidden], of_c)?));
            }
        }
        Ok(own)
    }
}

/// A QRNN's tensor `[3H, ..]` with the sign of the second block of H changed: `σ(-x) = 1 - σ(x)`.
fn negated(tensor: &Tensor, hidden: usize) -> Result<Tensor> {
    let mut data = tensor.data().to_vec();
    let row = data.len() / tensor.shape().first().copied().unwrap_or(1).max(1);
    data.iter_mut().skip(hidden * row).take(hidden * row).for_each(|x| *x = -*x);
    Tensor::new(tensor.shape().to_vec(), data)
}

/// `[K, N]` as `[N, K]`.
fn transposed(tensor: &Tensor) -> Result<Tensor> {
    let &[rows, columns] = tensor.shape() else { return Ok(tensor.clone()) };
    let data = (0..columns).flat_map(|column| tensor.data().iter().skip(column).step_by(columns)).copied();
    Tensor::new(vec![columns, rows], data.collect())
}
