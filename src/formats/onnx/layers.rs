//! Operators that become a layer of their own, and the table of all operators.

use std::rc::Rc;

use super::array::{Array, Data};
use super::constants::resolve_axis;
use super::expression::Expression;
use super::graph::OnnxNode;
use super::value::{AxisLabel, Dim, LabelledTensor, Of, Value};
use super::walk::Walk;
use super::words;
use crate::base::error::Result;
use crate::formats::transpose::transpose;
use crate::network::{Activation, EmbeddingSpec, LayerSpec, NormSpec, Pool};

/// Most classes of a OneHot; its table has the square of it.
const MOST_CLASSES: f32 = 4096.0;

impl<'a> Walk<'a> {
    /// The outputs of `node`.
    pub fn node(&mut self, node: &'a OnnxNode) -> Result<Vec<Value>> {
        if let Some(value) = self.mask_operator(node)? {
            return Ok(vec![value]);
        }
        if let Some(value) = self.scores_operator(node)? {
            return Ok(vec![value]);
        }
        if let Some(outputs) = self.row_operator(node)? {
            return Ok(outputs);
        }
        if let Some(outputs) = self.shape_operator(node)? {
            return Ok(outputs);
        }
        if let Some(value) = self.sizes_operator(node)? {
            return Ok(vec![value]);
        }
        if let Some(value) = self.unary(node)? {
            return Ok(vec![value]);
        }
        if let Some(value) = self.arithmetic(node)? {
            return Ok(vec![value]);
        }
        let value = match node.op.as_str() {
            "LSTM" | "GRU" | "RNN" | "com.microsoft.DynamicQuantizeLSTM" => return self.recurrent(node),
            "DynamicQuantizeLinear" => return self.dynamic_quantize(node),
            "DequantizeLinear" => self.dequantize(node)?,
            "MatMulInteger" => {
                let matrix = self.integer_matrix(node)?;
                self.product(node, matrix)?
            }
            "If" => return self.branch(node),
            "Loop" | "Scan" => return self.repeated(node),
            "Constant" => constant(node)?,
            "Identity" => {
                node.allow(&[])?;
                self.value(node, 0)?
            }
            "Dropout" => self.dropout(node)?,
            "OneHot" => self.one_hot(node)?,
            "Cast" => self.cast(node)?,
            "MatMul" => self.matmul(node)?,
            "Gemm" => self.gemm(node)?,
            "Conv" => self.conv(node)?,
            "MaxPool" => self.pool(node, Pool::Max)?,
            "AveragePool" => self.pool(node, Pool::Average)?,
            "GlobalMaxPool" => self.reduce(node, Pool::Max)?,
            "GlobalAveragePool" => self.reduce(node, Pool::Average)?,
            "ReduceMax" => self.reduce(node, Pool::Max)?,
            "ReduceMean" => self.reduce(node, Pool::Average)?,
            "ReduceMin" | "ReduceL1" | "ReduceL2" | "ReduceSumSquare" => self.reduce_numbers(node)?,
            "InstanceNormalization" => self.instance_norm(node)?,
            "RMSNormalization" => self.rms_norm(node)?,
            "LayerNormalization" => self.layer_norm(node)?,
            "BatchNormalization" => self.batch_norm(node)?,
            "ReverseSequence" => self.reverse_sequence(node)?,
            "Where" => self.choice(node)?,
            "ReduceSum" => self.reduce(node, Pool::Sum)?,
            "Softmax" | "LogSoftmax" => self.softmax(node)?,
            "ArgMax" => self.arg_max(node)?,
            "GatherElements" => self.gather_elements(node)?,
            "Pad" => self.pad(node)?,
            "PRelu" => self.prelu(node)?,
            other => return Err(node.unsupported(format!("operator `{other}`"))),
        };
        Ok(vec![value])
    }
}

impl Walk<'_> {
    fn cast(&self, node: &OnnxNode) -> Result<Value> {
        node.allow(&["to", "saturate", "round_mode"])?;
        node.require("to")?;
        let floats = match node.int("to", 0)? {
            1 | 10 | 11 | 16 => true,
            2..=7 | 9 | 12 | 13 => false,
            other => return Err(node.unsupported(format!("ONNX data type {other}"))),
        };
        let truths = node.int("to", 0)? == 9;
        match self.value(node, 0)? {
            // Sizes left open are above 0.
            Value::Dims { dims, scalar } if truths && !dims.contains(&Dim::Any) => {
                let ints = dims.iter().map(|&dim| i64::from(dim != Dim::Known(0))).collect::<Vec<_>>();
                Ok(Value::Constant(Array::ints(if scalar { vec![] } else { vec![ints.len()] }, ints).into()))
            }
            Value::Dims { dims, scalar } if floats && dims.iter().all(|dim| matches!(dim, Dim::Known(_))) => {
                #[expect(clippy::cast_precision_loss, reason = "what a cast does")]
                let size = |dim: &Dim| if let Dim::Known(n) = *dim { n as f32 } else { 0.0 };
                let sizes: Vec<f32> = dims.iter().map(size).collect();
                Ok(Value::Constant(Array::floats(if scalar { vec![] } else { vec![sizes.len()] }, sizes).into()))
            }
            Value::Constant(array) => {
                let data = match (&array.data, floats) {
                    #[expect(clippy::cast_precision_loss, reason = "what a cast does")]
                    (Data::Ints(ints), true) => Data::Floats(ints.iter().map(|&i| i as f32).collect()),
                    (Data::Ints(ints), false) if truths => Data::Ints(ints.iter().map(|&i| (i != 0).into()).collect()),
                    (Data::Floats(all), false) if truths => {
                        Data::Ints(all.iter().map(|&x| (x != 0.0).into()).collect())
                    }
                    #[expect(clippy::cast_possible_truncation, reason = "what a cast does")]
                    (Data::Floats(all), false) => Data::Ints(all.iter().map(|&x| x as i64).collect()),
                    (data, _) => data.clone(),
                };
                Ok(Value::Constant(Rc::new(Array { shape: array.shape.clone(), data })))
            }
            Value::Tensor(LabelledTensor { of: Of::Integers(id), axes, width, steps }) if !truths => {
                let of = if floats { Of::Expression(id) } else { Of::Integers(id) };
                Ok(Value::Tensor(LabelledTensor { of, axes, width, steps }))
            }
            // Ids stay ids: nothing but a comparison may read them as numbers.
            Value::Tensor(tensor) if !floats && !matches!(tensor.of, Of::Tokens(_) | Of::Shifted(_)) => {
                Err(node.unsupported("a cast of numbers to integers"))
            }
            value => Ok(value),
        }
    }

    fn matmul(&mut self, node: &OnnxNode) -> Result<Value> {
        node.allow(&[])?;
        if let (Value::Tensor(a), Value::Tensor(b)) = (self.value(node, 0)?, self.value(node, 1)?) {
            return self.attention(node, &a, &b);
        }
        let matrix = self.constant(node, 1)?;
        self.product(node, matrix)
    }

    /// Input 0 times `matrix` `[K, N]`.
    fn product(&mut self, node: &OnnxNode, matrix: Rc<Array>) -> Result<Value> {
        let [k, n] = matrix.shape[..] else {
            return Err(node.unsupported(format!("a matrix of shape {:?}", matrix.shape)));
        };
        if matrix.as_floats().is_none() {
            return Err(node.unsupported("a matrix of integers"));
        }
        let (x, like) = match self.value(node, 0)? {
            Value::Fill { value: 0.0, dims } => {
                let dims = dims.map(|mut dims| {
                    if let Some(last) = dims.last_mut() {
                        *last = Dim::Known(n);
                    }
                    dims
                });
                return Ok(Value::Fill { value: 0.0, dims });
            }
            Value::State { id: state, .. } => (state, None),
            _ => {
                let mut tensor = self.tensor(node, 0)?.with_channels_last();
                if tensor.axes.last() == Some(&AxisLabel::Time) {
                    tensor = self.turned(node, &tensor)?.unwrap_or(tensor);
                }
                (self.settle(node, &tensor)?, Some(tensor))
            }
        };
        let facts = self.build.expressions.facts(x).clone();
        if let Some(tensor) = &like
            && (tensor.axes.last() != Some(&AxisLabel::Channel) || facts.width != k)
        {
            self.misfit = true;
            let got = format!("{} with the axes {}", facts.width, words::shape(&tensor.axes));
            return Err(node.malformed(
                format!("an input whose last axis is {k} channels, as the matrix {:?}", matrix.shape),
                got,
            ));
        }
        let id = self.build.expressions.add(&node.name, Expression::Product(x, matrix), n, facts.sequence)?;
        match like {
            Some(tensor) => Ok(self.like(&tensor, id)),
            None => Ok(Value::State { id, dims: None }),
        }
    }

    fn gemm(&mut self, node: &OnnxNode) -> Result<Value> {
        node.allow(&["alpha", "beta", "transA", "transB"])?;
        if node.int("transA", 0)? != 0 {
            return Err(node.unsupported("transA"));
        }
        if let Value::Tensor(tensor) = self.value(node, 0)?
            && tensor.axes.len() != 2
        {
            return Err(node.malformed("an input of two axes", words::shape(&tensor.axes)));
        }
        let mut matrix = self.constant(node, 1)?;
        if node.int("transB", 0)? != 0 {
            let (&[n, k], Some(data)) = (&matrix.shape[..], matrix.as_floats()) else {
                return Err(node.unsupported(format!("a matrix of shape {:?}", matrix.shape)));
            };
            matrix = Rc::new(Array::floats(vec![k, n], transpose(data, n, k)));
        }
        let alpha = node.float("alpha", 1.0)?;
        if let (true, Some(data)) = (alpha != 1.0, matrix.as_floats()) {
            matrix = Rc::new(Array::floats(matrix.shape.clone(), data.iter().map(|x| x * alpha).collect()));
        }
        let width = matrix.shape.get(1).copied().unwrap_or(0);
        let value = self.product(node, matrix)?;
        if !self.given(node, 2) {
            return Ok(value);
        }
        let bias = self.constant(node, 2)?;
        let beta = f64::from(node.float("beta", 1.0)?);
        let fits = match bias.shape[..] {
            [] => true,
            [n] | [1, n] => n == 1 || n == width,
            _ => false,
        };
        let numbers = bias.as_floats().filter(|_| fits);
        let numbers =
            numbers.ok_or_else(|| node.malformed(format!("C of {width} floats"), format!("{:?}", bias.shape)))?;
        let offset: Vec<f64> = numbers.iter().map(|&x| f64::from(x) * beta).collect();
        match value {
            Value::Tensor(tensor) => {
                let x = self.settle(node, &tensor)?;
                let id = self.build.expressions.affine(&node.name, x, &[1.0], &offset)?;
                Ok(self.like(&tensor, id))
            }
            Value::State { id, dims } => {
                let id = self.build.expressions.affine(&node.name, id, &[1.0], &offset)?;
                Ok(Value::State { id, dims })
            }
            _ => Err(node.unsupported("a constant added to a product of constants")),
        }
    }

    /// Stores the weight or the bias of a normalization.
    fn channel_tensor(&mut self, node: &OnnxNode, index: usize, layer: &str, tensor: &str, width: usize) -> Result<()> {
        let array = self.constant(node, index)?;
        match array.as_floats().filter(|_| array.shape == [width]) {
            Some(data) => self.build.tensor(layer, tensor, vec![width], data.to_vec()),
            None => Err(node.malformed(format!("{tensor} [{width}]"), format!("{:?}", array.shape))),
        }
    }

    fn layer_norm(&mut self, node: &OnnxNode) -> Result<Value> {
        node.allow(&["axis", "epsilon", "stash_type"])?;
        let tensor = self.tensor(node, 0)?;
        let id = self.settle(node, &tensor)?;
        let axis = resolve_axis(node, node.int("axis", -1)?, tensor.axes.len())?;
        if axis + 1 != tensor.axes.len()
            || tensor.axes[axis] != AxisLabel::Channel
            || self.used(node, 1)
            || self.used(node, 2)
        {
            return Err(node.unsupported("a normalization of other axes than the last, or its mean"));
        }
        let read = self.build.emit(id)?;
        let name = self.build.unique(&node.name);
        let width = tensor.width;
        self.channel_tensor(node, 1, &name, "weight", width)?;
        let bias = self.given(node, 2);
        if bias {
            self.channel_tensor(node, 2, &name, "bias", width)?;
        }
        let eps = node.float("epsilon", 1e-5)?;
        let spec = NormSpec { name: name.clone(), num_features: width, eps, weight: true, bias };
        let sequence = self.build.expressions.facts(id).sequence;
        let id = self.build.layer(&read, &name, LayerSpec::LayerNorm(spec), width, sequence)?;
        Ok(self.like(&tensor, id))
    }

    fn batch_norm(&mut self, node: &OnnxNode) -> Result<Value> {
        node.allow(&["epsilon", "momentum", "spatial", "training_mode"])?;
        node.float("momentum", 0.9)?;
        let eps = node.float("epsilon", 1e-5)?;
        let trains = node.int("training_mode", 0)? != 0 || node.int("spatial", 1)? != 1 || node.outputs.len() > 1;
        if let (false, Value::Tensor(mean), Value::Tensor(variance)) =
            (trains, self.value(node, 3)?, self.value(node, 4)?)
        {
            return self.norm_of_computed(node, &mean, &variance, eps);
        }
        let tensor = self.tensor(node, 0)?.with_channels_at(1);
        let id = self.settle(node, &tensor)?;
        if trains || tensor.axes.get(1) != Some(&AxisLabel::Channel) {
            return Err(node.unsupported(format!("training, or an input with the axes {}", words::shape(&tensor.axes))));
        }
        let read = self.build.emit(id)?;
        let name = self.build.unique(&node.name);
        let width = tensor.width;
        for (index, part) in [(1, "weight"), (2, "bias"), (3, "running_mean"), (4, "running_var")] {
            self.channel_tensor(node, index, &name, part, width)?;
        }
        let spec = NormSpec { name: name.clone(), num_features: width, eps, weight: true, bias: true };
        let sequence = self.build.expressions.facts(id).sequence;
        let id = self.build.layer(&read, &name, LayerSpec::BatchNorm(spec), width, sequence)?;
        Ok(self.like(&tensor, id))
    }

    /// A batch norm whose statistics the graph computes from the features of each row, as TensorFlow writes a layer norm.
    fn norm_of_computed(
        &mut self,
        node: &OnnxNode,
        mean: &LabelledTensor,
        variance: &LabelledTensor,
        eps: f32,
    ) -> Result<Value> {
        let number = |index: usize| match self.value(node, index) {
            Ok(Value::Constant(array)) => array.scalar(),
            Ok(Value::Fill { value, .. }) => Some(value),
            _ => None,
        };
        let tensor = self.tensor(node, 0)?;
        if number(1) != Some(1.0) || number(2) != Some(0.0) || tensor.axes.len() < 3 {
            return Err(node.unsupported("statistics that the graph computes, with a scale or an offset"));
        }
        let (x, mean, variance) = (self.settle(node, &tensor)?, self.settle(node, mean)?, self.settle(node, variance)?);
        let facts = self.build.expressions.facts(x).clone();
        let e = &mut self.build.expressions;
        let sum = e.affine(&node.name, variance, &[1.0], &[f64::from(eps)])?;
        let sequence = facts.sequence;
        let root = e.add(&node.name, Expression::Function(Activation::Sqrt, sum), 1, sequence)?;
        let centred = e.add(&node.name, Expression::Sub(x, mean), facts.width, sequence)?;
        let id = e.add(&node.name, Expression::Div(centred, root), facts.width, sequence)?;
        if e.normalized(id).is_none() {
            return Err(node.unsupported("statistics that are not the mean and the variance of each row"));
        }
        Ok(self.like(&tensor, id))
    }

    fn softmax(&mut self, node: &OnnxNode) -> Result<Value> {
        node.allow(&["axis"])?;
        let tensor = self.tensor(node, 0)?;
        let rank = tensor.axes.len();
        let axis = resolve_axis(node, node.int("axis", if node.opset < 13 { 1 } else { -1 })?, rank)?;
        // In the oldest opsets a softmax is over all axes from this on.
        let rest = &tensor.axes[axis + 1..];
        let alone = node.opset >= 13
            || rest.iter().all(|&a| a == AxisLabel::Unit || (a == AxisLabel::Channel && tensor.width == 1));
        if tensor.axes[axis] == AxisLabel::Time && alone && node.op == "Softmax" {
            return self.time_softmax(node, &tensor);
        }
        let tensor = tensor.with_channels_at(axis);
        let id = self.settle(node, &tensor)?;
        if !alone || tensor.axes[axis] != AxisLabel::Channel {
            return Err(node.unsupported(format!(
                "a softmax over {} of {}",
                tensor.axes[axis],
                words::shape(&tensor.axes)
            )));
        }
        let read = self.build.emit(id)?;
        let facts = self.build.expressions.facts(id).clone();
        if node.op == "LogSoftmax" {
            let name = self.build.unique(&node.name);
            let layer = LayerSpec::LogSoftmax(crate::network::NamedSpec { name: name.clone() });
            let id = self.build.layer(&read, &name, layer, facts.width, facts.sequence)?;
            return Ok(self.like(&tensor, id));
        }
        let softmax = self.build.unique(&format!("{}.softmax", node.name));
        self.build.layer(&read, &softmax, LayerSpec::Softmax, facts.width, facts.sequence)?;
        // A softmax has no name, but a later layer that reads it needs one.
        let name = self.build.unique(&node.name);
        let spec =
            crate::network::ActivationSpec { name: name.clone(), activation: crate::network::Activation::Linear };
        let id = self.build.layer(&softmax, &name, LayerSpec::Activation(spec), facts.width, facts.sequence)?;
        Ok(self.like(&tensor, id))
    }

    /// The place of the largest feature.
    fn arg_max(&mut self, node: &OnnxNode) -> Result<Value> {
        node.allow(&["axis", "keepdims", "select_last_index"])?;
        let tensor = self.tensor(node, 0)?;
        let axis = resolve_axis(node, node.int("axis", 0)?, tensor.axes.len())?;
        let mut tensor = tensor.with_channels_at(axis);
        let id = self.settle(node, &tensor)?;
        if tensor.axes[axis] != AxisLabel::Channel {
            let axes = words::shape(&tensor.axes);
            return Err(node.unsupported(format!("the largest over {} of {axes}", tensor.axes[axis])));
        }
        if node.int("select_last_index", 0)? != 0 {
            return Err(node.unsupported("the last of equal numbers (select_last_index)"));
        }
        let keep = node.int("keepdims", 1)? != 0;
        let read = self.build.emit(id)?;
        let name = self.build.unique(&node.name);
        let layer = LayerSpec::ArgMax(crate::network::NamedSpec { name: name.clone() });
        let sequence = self.build.expressions.facts(id).sequence;
        let id = self.build.layer(&read, &name, layer, 1, sequence)?;
        (tensor.of, tensor.width) = (Of::Integers(id), 1);
        if !keep {
            tensor.axes.remove(axis);
        }
        Ok(Value::Tensor(tensor))
    }

    /// A vector for each token id in which one number differs from the others: a table of them.
    fn one_hot(&mut self, node: &OnnxNode) -> Result<Value> {
        node.allow(&["axis"])?;
        let ids = self.tensor(node, 0)?;
        if !matches!(ids.of, Of::Tokens(_)) {
            return Err(node.unsupported("indices that are no token ids"));
        }
        let rank = ids.axes.len() + 1;
        if resolve_axis(node, node.int("axis", -1)?, rank)? + 1 != rank {
            return Err(node.unsupported("a new axis that is not the last"));
        }
        let depth = self.constant(node, 1)?.scalar().filter(|depth| (1.0..=MOST_CLASSES).contains(depth));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size within bounds")]
        let depth = depth.ok_or_else(|| node.unsupported(format!("a depth outside of 1 to {MOST_CLASSES}")))? as usize;
        let values = self.constant(node, 2)?;
        let (off, on) = match &values.data {
            Data::Floats(values) if values.len() == 2 => (values[0], values[1]),
            #[expect(clippy::cast_precision_loss, reason = "0 and 1 in practice; f32 as the network's numbers are")]
            Data::Ints(values) if values.len() == 2 => (values[0] as f32, values[1] as f32),
            _ => return Err(node.malformed("two values, off and on", words::sized(&[], &[Dim::Known(values.len())]))),
        };
        let table = (0..depth * depth).map(|at| if at / depth == at % depth { on } else { off }).collect();
        self.looked_up(node, ids, &Array::floats(vec![depth, depth], table))
    }

    /// Rows of a table by token id.
    pub fn embedding(&mut self, node: &OnnxNode) -> Result<Value> {
        let table = self.constant(node, 0)?;
        if node.int("axis", 0)? != 0 {
            return Err(node.unsupported("a table that is not [V, E]"));
        }
        let ids = self.tensor(node, 1)?;
        self.looked_up(node, ids, &table)
    }

    fn looked_up(&mut self, node: &OnnxNode, ids: LabelledTensor, table: &Array) -> Result<Value> {
        let (&[num_embeddings, embedding_dim], Some(data)) = (&table.shape[..], table.as_floats()) else {
            return Err(node.unsupported("a table that is not [V, E]"));
        };
        let read = match ids.tokens() {
            0 => crate::network::INPUT.to_owned(),
            other => self.token_inputs[other - 1].clone(),
        };
        let is_table = |layer: &super::build::BuiltLayer| {
            matches!(layer.spec, LayerSpec::Embedding(_)) && layer.reads.contains(&read)
        };
        if self.build.layers.iter().any(is_table) {
            return Err(node.unsupported("a second table of embeddings"));
        }
        let name = self.build.unique(&node.name);
        self.build.tensor(&name, "weight", vec![num_embeddings, embedding_dim], data.to_vec())?;
        let spec = EmbeddingSpec { name: name.clone(), num_embeddings, embedding_dim, mask_zero: false };
        let id = self.build.layer(&read, &name, LayerSpec::Embedding(spec), embedding_dim, true)?;
        let axes = [ids.axes, vec![AxisLabel::Channel]].concat();
        Ok(Value::Tensor(LabelledTensor { of: Of::Expression(id), axes, width: embedding_dim, steps: ids.steps }))
    }
}

fn constant(node: &OnnxNode) -> Result<Value> {
    const VALUES: [&str; 5] = ["value", "value_float", "value_floats", "value_int", "value_ints"];
    node.allow(&VALUES)?;
    let given = VALUES.iter().filter(|name| node.has(name)).count();
    if given != 1 {
        return Err(node.malformed(format!("one of the attributes {VALUES:?}"), given.to_string()));
    }
    let array = if let Some(array) = node.tensor("value")? {
        array
    } else if node.has("value_float") {
        Array::floats(vec![], vec![node.float("value_float", 0.0)?])
    } else if node.has("value_int") {
        Array::ints(vec![], vec![node.int("value_int", 0)?])
    } else if let Some(ints) = node.ints("value_ints")? {
        Array::ints(vec![ints.len()], ints.to_vec())
    } else {
        let floats = node.floats("value_floats")?.to_vec();
        Array::floats(vec![floats.len()], floats)
    };
    Ok(Value::Constant(Rc::new(array)))
}
