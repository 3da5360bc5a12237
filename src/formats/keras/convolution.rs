//! Convolutions over time: Conv1D, DepthwiseConv1D and SeparableConv1D.

use serde_json::json;

use super::activation::{Function, Version, function};
use super::layers::{Item, Lowered, Shape, fused, seen, sequence, with_softmax};
use super::options::LayerOptions;
use super::parts::{PartNumbers, PartTensor, PartWeights};
use crate::base::error::Result;
use crate::network::{Activation, Conv1dSpec, DenseSpec, LayerSpec, Padding, Window};

pub(super) fn lower(item: &Item<'_>, options: &LayerOptions<'_>, shape: Shape) -> Result<Lowered> {
    let in_channels = sequence(options, shape)?;
    let function = function(options, "activation", item.version)?;
    let bias = options.flag("use_bias", true)?;
    if item.class == "Conv1D" {
        options.none_of(&["lora_rank", "quantization_config"])?;
        let spec = Conv1dSpec {
            out_channels: options.size("filters")?,
            groups: options.length("groups", 1)?,
            bias,
            activation: fused(function),
            ..over_time(item, options, in_channels)?
        };
        return finished(options, shape, spec, (None, function));
    }
    // Keras 2 writes it here too, though it does nothing.
    options.only("groups", &json!(1))?;
    let out_channels = in_channels.saturating_mul(options.length("depth_multiplier", 1)?);
    let each = Conv1dSpec { out_channels, groups: in_channels, ..over_time(item, options, in_channels)? };
    if item.class == "DepthwiseConv1D" {
        let spec = Conv1dSpec { bias, activation: fused(function), ..each };
        return finished(options, shape, spec, (None, function));
    }
    let spec = Conv1dSpec { name: format!("{}_depthwise", item.name), ..each };
    let mixed = DenseSpec {
        name: item.name.to_owned(),
        in_features: out_channels,
        out_features: options.size("filters")?,
        bias,
        activation: fused(function),
    };
    finished(options, shape, spec, (Some(mixed), function))
}

/// The options that all of them have, of a convolution of each channel by itself.
fn over_time(item: &Item<'_>, options: &LayerOptions<'_>, in_channels: usize) -> Result<Conv1dSpec> {
    options.only("data_format", &json!("channels_last"))?;
    let kernel_size = options.length("kernel_size", 0)?;
    let dilation = options.length("dilation_rate", 1)?;
    let padding = match options.text("padding", "valid")? {
        "valid" => Padding::default(),
        "same" => Padding::Same,
        "causal" => Padding::Zeros { left: dilation.saturating_mul(kernel_size.saturating_sub(1)), right: 0 },
        other => return Err(options.unsupported(&format!("padding {other}"))),
    };
    let stride = options.length("strides", 1)?;
    if stride > 1 && dilation > 1 {
        return Err(options.unsupported("options `strides` and `dilation_rate` above 1 at once"));
    }
    Ok(Conv1dSpec {
        name: item.name.to_owned(),
        in_channels,
        out_channels: in_channels,
        kernel_size,
        stride,
        padding,
        dilation,
        groups: 1,
        bias: false,
        activation: Activation::Linear,
    })
}

/// The convolution, and what mixes its channels, if there is such a layer.
fn finished(
    options: &LayerOptions<'_>,
    shape: Shape,
    spec: Conv1dSpec,
    (mixed, function): (Option<DenseSpec>, Function),
) -> Result<Lowered> {
    if spec.groups == 0 || spec.out_channels == 0 {
        return Err(options.unsupported("no channels"));
    }
    let (kernel_size, stride, dilation, padding) = (spec.kernel_size, spec.stride, spec.dilation, spec.padding);
    let steps = seen(shape, &Window { kernel_size, stride, dilation, padding });
    let width = spec.out_channels;
    match mixed {
        None => with_softmax(LayerSpec::Conv1d(spec), function, Shape::Sequence { steps, width }),
        Some(mixed) => {
            let width = mixed.out_features;
            let mut lowered = with_softmax(LayerSpec::Dense(mixed), function, Shape::Sequence { steps, width })?;
            lowered.layers.insert(0, LayerSpec::Conv1d(spec));
            Ok(lowered)
        }
    }
}

/// Where the weights of `layers` are, which a layer `item` of class DepthwiseConv1D or SeparableConv1D became.
pub(super) fn weights(item: &Item<'_>, layers: &[LayerSpec]) -> Vec<(String, PartWeights)> {
    let separable = match item.class {
        "SeparableConv1D" => true,
        "DepthwiseConv1D" => false,
        _ => return Vec::new(),
    };
    let mut arrays = Vec::new();
    for layer in layers {
        match layer {
            LayerSpec::Conv1d(c) => {
                let name = if separable || item.version != Version::Three { "depthwise_kernel" } else { "kernel" };
                let of_each = c.out_channels.checked_div(c.in_channels).unwrap_or(0);
                arrays.push((name, vec![c.kernel_size, c.in_channels, of_each]));
                arrays.extend(c.bias.then(|| ("bias", vec![c.out_channels])));
            }
            LayerSpec::Dense(d) => {
                arrays.push(("pointwise_kernel", vec![1, d.in_features, d.out_features]));
                arrays.extend(d.bias.then(|| ("bias", vec![d.out_features])));
            }
            _ => {}
        }
    }
    let tensor = |name, shape, numbers| PartTensor { name, shape, numbers };
    let made = layers.iter().filter_map(|layer| {
        let (mut tensors, bias, outputs) = match layer {
            LayerSpec::Conv1d(c) => {
                let kernel = PartNumbers::Transposed(0, c.kernel_size);
                (vec![tensor("weight", vec![c.out_channels, 1, c.kernel_size], kernel)], c.bias, c.out_channels)
            }
            LayerSpec::Dense(d) => {
                let kernel = PartNumbers::Transposed(1, d.in_features);
                (vec![tensor("weight", vec![d.out_features, d.in_features], kernel)], d.bias, d.out_features)
            }
            _ => return None,
        };
        let last = arrays.len() - 1;
        tensors.extend(bias.then(|| tensor("bias", vec![outputs], PartNumbers::Cycled(last))));
        let (layer_name, arrays) = (item.name.to_owned(), arrays.clone());
        Some((layer.name().to_owned(), PartWeights { layer: layer_name, inner: None, arrays, tensors }))
    });
    made.collect()
}
