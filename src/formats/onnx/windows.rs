//! Convolutions and poolings: windows over time.

use std::rc::Rc;

use super::array::Array;
use super::expression::Expression;
use super::graph::OnnxNode;
use super::value::{AxisLabel, Dim, Id, LabelledTensor, Of, Value};
use super::walk::Walk;
use super::words;
use crate::base::error::Result;
use crate::formats::transpose::transpose;
use crate::network::{Conv1dSpec, LayerSpec, Padding, Pool, Pool1dSpec};

/// The window of a convolution or a pooling.
struct Sliding {
    kernel: usize,
    stride: usize,
    dilation: usize,
    padding: Padding,
}

impl Walk<'_> {
    /// The tensor whose axes are row, channel, timestep, which convolutions and poolings read. A
    /// 2-D operator with a third axis of size 1 is one over time.
    fn image(&mut self, node: &OnnxNode) -> Result<(LabelledTensor, Id, usize)> {
        let tensor = self.tensor(node, 0)?.with_channels_at(1);
        let id = self.settle(node, &tensor)?;
        let time = tensor.position(AxisLabel::Time);
        let rows = |axis: AxisLabel| matches!(axis, AxisLabel::Batch | AxisLabel::Unit);
        let spatial = tensor.axes.len().checked_sub(2).filter(|n| (1..=2).contains(n));
        let others = tensor.axes.iter().skip(2).filter(|&&a| a != AxisLabel::Time);
        let fits = tensor.axes.get(1) == Some(&AxisLabel::Channel)
            && rows(tensor.axes[0])
            && others.clone().all(|&a| a == AxisLabel::Unit);
        // Where the timestep's axis has been squeezed, one of size 1 stands for it.
        let at = time.or_else(|| tensor.axes.iter().skip(2).position(|&a| a == AxisLabel::Unit).map(|at| at + 2));
        match (at.filter(|&at| at >= 2), spatial, fits, self.build.expressions.facts(id).sequence) {
            (Some(at), Some(_), true, true) => Ok((tensor, id, at - 2)),
            _ => Err(node.unsupported(format!("an input with the axes {}", words::shape(&tensor.axes)))),
        }
    }

    fn sliding(&self, node: &OnnxNode, kernel: &[usize], time: usize, steps: Dim) -> Result<(Sliding, Dim)> {
        let axes = kernel.len();
        let read = |name: &str, default: i64, count: usize| -> Result<Vec<usize>> {
            let ints = node.ints(name)?.map_or_else(|| vec![default; count], <[i64]>::to_vec);
            let sizes = ints.iter().map(|&n| usize::try_from(n).ok()).collect::<Option<Vec<_>>>();
            sizes
                .filter(|s| s.len() == count)
                .ok_or_else(|| node.malformed(format!("{count} sizes as {name}"), format!("{ints:?}")))
        };
        let (strides, dilations, pads) =
            (read("strides", 1, axes)?, read("dilations", 1, axes)?, read("pads", 0, 2 * axes)?);
        let auto = node.text("auto_pad", "NOTSET")?;
        if auto != "NOTSET" && node.has("pads") {
            return Err(node.malformed("pads or auto_pad", "both"));
        }
        for other in (0..axes).filter(|&a| a != time) {
            if [kernel[other], pads[other] + 1, pads[axes + other] + 1] != [1; 3] {
                return Err(node.unsupported("a window over two axes"));
            }
        }
        let (kernel, stride, dilation) = (kernel[time], strides[time], dilations[time]);
        let span = kernel
            .checked_sub(1)
            .and_then(|k| k.checked_mul(dilation))
            .ok_or_else(|| node.malformed("a kernel", "0"))?;
        let padding = match auto.as_str() {
            "NOTSET" => Padding::Zeros { left: pads[time], right: pads[axes + time] },
            "VALID" => Padding::default(),
            "SAME_UPPER" => Padding::Same,
            "SAME_LOWER" if stride == 1 => Padding::Zeros { left: span.div_ceil(2), right: span / 2 },
            other => return Err(node.unsupported(format!("auto_pad {other}"))),
        };
        let open = Dim::Windows(self.build.layers.len());
        let after = match (steps, padding) {
            (Dim::Known(n), Padding::Zeros { left, right }) => {
                let room = n.checked_add(left).and_then(|n| n.checked_add(right)).and_then(|n| n.checked_sub(span + 1));
                room.and_then(|n| n.checked_div(stride)).map_or(open, |n| Dim::Known(n + 1))
            }
            (Dim::Known(n), Padding::Same) if stride > 0 => Dim::Known(n.div_ceil(stride)),
            _ => open,
        };
        Ok((Sliding { kernel, stride, dilation, padding }, after))
    }

    pub fn conv(&mut self, node: &OnnxNode) -> Result<Value> {
        node.allow(&["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"])?;
        let weight = self.constant(node, 1)?;
        if let Some(value) = self.pointwise(node, &weight)? {
            return Ok(value);
        }
        let (tensor, id, time) = self.image(node)?;
        let Some(data) = weight.as_floats().filter(|_| weight.shape.len() == tensor.axes.len()) else {
            return Err(
                node.malformed(format!("a weight of {} axes", tensor.axes.len()), format!("{:?}", weight.shape))
            );
        };
        let (out_channels, kernel) = (weight.shape[0], &weight.shape[2..]);
        let (sliding, steps) = self.sliding(node, kernel, time, tensor.steps)?;
        let groups = usize::try_from(node.int("group", 1)?).unwrap_or(0);
        let in_channels = tensor.width;
        if weight.shape[1].checked_mul(groups) != Some(in_channels) || groups == 0 {
            let expected = format!("a weight [N, {in_channels}/{groups}, K]");
            return Err(node.malformed(expected, format!("{:?}", weight.shape)));
        }
        let given: Option<Vec<usize>> =
            node.ints("kernel_shape")?.map(|k| k.iter().filter_map(|&n| usize::try_from(n).ok()).collect());
        if given.is_some_and(|given| given != kernel) {
            return Err(node.malformed(
                format!("kernel_shape {kernel:?}"),
                format!("{:?}", node.ints("kernel_shape")?.unwrap_or_default()),
            ));
        }
        let read = self.build.emit(id)?;
        let name = self.build.unique(&node.name);
        self.build.tensor(&name, "weight", vec![out_channels, weight.shape[1], sliding.kernel], data.to_vec())?;
        let bias = self.given(node, 2);
        if bias {
            let numbers = self.constant(node, 2)?;
            let Some(data) = numbers.as_floats().filter(|_| numbers.shape == [out_channels]) else {
                return Err(node.malformed(format!("a bias [{out_channels}]"), format!("{:?}", numbers.shape)));
            };
            self.build.tensor(&name, "bias", vec![out_channels], data.to_vec())?;
        }
        let spec = Conv1dSpec {
            name: name.clone(),
            in_channels,
            out_channels,
            kernel_size: sliding.kernel,
            stride: sliding.stride,
            padding: sliding.padding,
            dilation: sliding.dilation,
            groups,
            bias,
            activation: crate::network::Activation::Linear,
        };
        let id = self.build.layer(&read, &name, LayerSpec::Conv1d(spec), out_channels, true)?;
        Ok(Value::Tensor(LabelledTensor { of: Of::Expression(id), width: out_channels, steps, ..tensor }))
    }

    /// A convolution of a window of 1 over a row, which is a product; `None` for another.
    fn pointwise(&mut self, node: &OnnxNode, weight: &Array) -> Result<Option<Value>> {
        let tensor = self.tensor(node, 0)?.with_channels_at(1);
        let unit = |axes: &[AxisLabel]| axes.iter().all(|&axis| axis == AxisLabel::Unit);
        let (&[n, k, ref window @ ..], Some(data)) = (&weight.shape[..], weight.as_floats()) else { return Ok(None) };
        let pads = node.ints("pads")?.unwrap_or_default();
        let fits = matches!(&tensor.axes[..], [_, AxisLabel::Channel, rest @ ..] if unit(rest))
            && tensor.axes.len() == weight.shape.len()
            && window.iter().all(|&size| size == 1)
            && pads.iter().all(|&pad| pad == 0)
            && node.int("group", 1)? == 1
            && tensor.width == k;
        if !fits {
            return Ok(None);
        }
        let x = self.settle(node, &tensor)?;
        if self.build.expressions.facts(x).sequence {
            return Ok(None);
        }
        let matrix = Rc::new(Array::floats(vec![k, n], transpose(data, n, k)));
        let mut id = self.build.expressions.add(&node.name, Expression::Product(x, matrix), n, false)?;
        if self.given(node, 2) {
            let bias = self.constant(node, 2)?;
            let Some(numbers) = bias.as_floats().filter(|_| bias.shape == [n]) else {
                return Err(node.malformed(format!("a bias [{n}]"), format!("{:?}", bias.shape)));
            };
            let offset: Vec<f64> = numbers.iter().map(|&x| x.into()).collect();
            id = self.build.expressions.affine(&node.name, id, &[1.0], &offset)?;
        }
        Ok(Some(self.like(&tensor, id)))
    }

    pub fn pool(&mut self, node: &OnnxNode, pool: Pool) -> Result<Value> {
        let own = if pool == Pool::Max { "storage_order" } else { "count_include_pad" };
        node.int(own, 0)?;
        node.allow(&["auto_pad", "ceil_mode", own, "dilations", "kernel_shape", "pads", "strides"])?;
        let (tensor, id, time) = self.image(node)?;
        let kernel = node.ints("kernel_shape")?.unwrap_or_default();
        let sizes: Vec<usize> = kernel.iter().filter_map(|&n| usize::try_from(n).ok()).collect();
        if sizes.len() != tensor.axes.len() - 2 {
            return Err(
                node.malformed(format!("{} sizes as kernel_shape", tensor.axes.len() - 2), format!("{kernel:?}"))
            );
        }
        let (sliding, steps) = self.sliding(node, &sizes, time, tensor.steps)?;
        if node.int("ceil_mode", 0)? != 0 && sliding.stride > 1 {
            return Err(node.unsupported("ceil_mode"));
        }
        if let Padding::Zeros { left, right } = sliding.padding
            && left.max(right) >= sliding.kernel
        {
            return Err(
                node.malformed(format!("pads below the kernel's {}", sliding.kernel), format!("{left}, {right}"))
            );
        }
        if sliding.dilation != 1 || self.used(node, 1) {
            return Err(node.unsupported("dilations or indices"));
        }
        let read = self.build.emit(id)?;
        let name = self.build.unique(&node.name);
        let spec = Pool1dSpec {
            name: name.clone(),
            pool,
            kernel_size: sliding.kernel,
            stride: sliding.stride,
            padding: sliding.padding,
            count_include_pad: pool == Pool::Average && node.int("count_include_pad", 0)? != 0,
        };
        let width = tensor.width;
        let id = self.build.layer(&read, &name, LayerSpec::Pool1d(spec), width, true)?;
        Ok(Value::Tensor(LabelledTensor { of: Of::Expression(id), steps, ..tensor }))
    }
}
