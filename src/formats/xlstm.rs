//! The weights of an sLSTM under the names of NX-AI's package `xlstm`, of a layer that a description calls `NAME`.
//!
//! | tensor of `sLSTMLayer` | what it becomes |
//! | --- | --- |
//! | `NAME.slstm_cell._recurrent_kernel_` `[NH, 4*DH, DH]` (`vanilla`) or `[NH, DH, 4*DH]` (`cuda`) | U `[4H, DH]` |
//! | `NAME.slstm_cell._bias_` `[4H]`, by gate and head (`vanilla`) or by head and gate (`cuda`) | `bias_ih`; `bias_hh` is 0 |
//! | `NAME.fgate.weight`, `igate`, `zgate`, `ogate` `[NH, DH, DH]` | W of i, of f, of z, of o: the package gives its gates i and f each other's names |
//! | `NAME.group_norm.weight` `[H]` of a layer norm of that name | 1 is added |
//!
//! Where the layer is twice as wide as H, its input is what the package convolves beside what it does not: i and f see the first
//! half, z and o the second.

use std::collections::BTreeMap;

use crate::base::error::{Error, Result};
use crate::network::{Cell, LayerSpec, NetworkSpec, RecurrentSpec, Tensor};

/// The projections of the gates i, f, z, o.
const PROJECTIONS: [&str; 4] = ["fgate", "igate", "zgate", "ogate"];

/// Most numbers of W that are made from fewer.
const MOST: usize = 1 << 31;

/// Replaces tensors of the package, of the layers of `spec`, by the layers' own.
pub(super) fn convert(spec: &NetworkSpec, tensors: &mut BTreeMap<String, Tensor>) -> Result<()> {
    for layer in spec.layers.iter().filter_map(LayerSpec::recurrent) {
        let (Cell::Slstm, layer) = layer else { continue };
        let heads = layer.num_heads;
        let kernel = format!("{}.slstm_cell._recurrent_kernel_", layer.name);
        // What is too large a network refuses.
        let spread = 8usize.saturating_mul(layer.hidden_size).saturating_mul(layer.hidden_size);
        let fits = heads > 0 && layer.hidden_size.is_multiple_of(heads) && spread <= MOST;
        if !fits || !tensors.contains_key(&kernel) {
            continue;
        }
        SlstmModule { spec: layer, heads, of_head: layer.hidden_size / heads }.convert(&kernel, tensors)?;
        let norm = format!("{}.group_norm", layer.name);
        let is_layer = spec.layers.iter().any(|layer| matches!(layer, LayerSpec::LayerNorm(one) if one.name == norm));
        if let Some(tensor) = tensors.get_mut(&format!("{norm}.weight")).filter(|_| is_layer) {
            *tensor = Tensor::new(tensor.shape().to_vec(), tensor.data().iter().map(|x| 1.0 + x).collect())?;
        }
    }
    Ok(())
}

/// An `sLSTMLayer`.
struct SlstmModule<'a> {
    spec: &'a RecurrentSpec,
    heads: usize,
    /// Units of a head.
    of_head: usize,
}

impl SlstmModule<'_> {
    fn convert(&self, kernel: &str, tensors: &mut BTreeMap<String, Tensor>) -> Result<()> {
        let Self { spec, heads, of_head } = *self;
        let hidden = spec.hidden_size;
        let Some(matrix) = tensors.remove(kernel) else { return Ok(()) };
        let by_output = match *matrix.shape() {
            [count, rows, columns] if count == heads && rows == 4 * of_head && columns == of_head => true,
            [count, rows, columns] if count == heads && rows == of_head && columns == 4 * of_head => false,
            ref got => {
                let expected = vec![heads, 4 * of_head, of_head];
                return Err(Error::TensorShape { name: kernel.to_owned(), expected, got: got.to_vec() });
            }
        };
        // Of gate, head and unit of the head, in gatefold's order.
        let units = || (0..4).flat_map(|gate| (0..hidden).map(move |unit| (gate, unit / of_head, unit % of_head)));
        let u = units().flat_map(|(gate, head, unit)| {
            let of_kernel = &matrix.data()[head * 4 * of_head * of_head..];
            let row = gate * of_head + unit;
            (0..of_head).map(move |k| of_kernel[if by_output { row * of_head + k } else { k * 4 * of_head + row }])
        });
        let own = |name: &str| format!("{}.{name}_l0", spec.name);
        let u = Tensor::new(vec![4 * hidden, of_head], u.collect())?;
        tensors.insert(own("weight_hh"), u);
        let bias = format!("{}.slstm_cell._bias_", spec.name);
        if let Some(given) = self.take(tensors, &bias, &[4 * hidden])? {
            let place = |(gate, head, unit)| match by_output {
                true => (gate * heads + head) * of_head + unit,
                false => (head * 4 + gate) * of_head + unit,
            };
            let numbers = units().map(|at| given.data()[place(at)]).collect();
            tensors.insert(own("bias_ih"), Tensor::new(vec![4 * hidden], numbers)?);
            tensors.insert(own("bias_hh"), Tensor::new(vec![4 * hidden], vec![0.0; 4 * hidden])?);
        }
        self.projections(tensors)
    }

    /// W `[4H, I]` from what sees the units of its own head alone.
    fn projections(&self, tensors: &mut BTreeMap<String, Tensor>) -> Result<()> {
        let Self { spec, heads, of_head } = *self;
        let (hidden, inputs) = (spec.hidden_size, spec.input_size);
        if inputs != hidden && inputs != 2 * hidden {
            let expected = format!("{hidden} or {}, as the package's projections are as wide as H", 2 * hidden);
            return Err(Error::network(&spec.name, "input_size", expected, &inputs));
        }
        let mut w = vec![0.0; 4 * hidden * inputs];
        for (gate, name) in PROJECTIONS.into_iter().enumerate() {
            let name = format!("{}.{name}.weight", spec.name);
            let Some(given) = self.take(tensors, &name, &[heads, of_head, of_head])? else {
                let unexpected = tensors.keys().cloned().collect();
                return Err(Error::MissingTensor { name, shape: vec![heads, of_head, of_head], unexpected });
            };
            let first = if gate < 2 || inputs == hidden { 0 } else { hidden };
            for (row, numbers) in given.data().chunks_exact(of_head).enumerate() {
                let at = (gate * hidden + row) * inputs + first + row / of_head * of_head;
                w[at..][..of_head].copy_from_slice(numbers);
            }
        }
        tensors.insert(format!("{}.weight_ih_l0", spec.name), Tensor::new(vec![4 * hidden, inputs], w)?);
        Ok(())
    }

    /// The tensor `name`, which must have the shape.
    fn take(&self, tensors: &mut BTreeMap<String, Tensor>, name: &str, shape: &[usize]) -> Result<Option<Tensor>> {
        match tensors.remove(name) {
            Some(tensor) if tensor.shape() != shape => {
                Err(Error::TensorShape { name: name.into(), expected: shape.to_vec(), got: tensor.shape().to_vec() })
            }
            tensor => Ok(tensor),
        }
    }
}
