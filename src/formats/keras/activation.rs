//! Keras' functions by their names, which mean different things in Keras 2 and 3.

use serde_json::Value;

use super::options::{LayerOptions, brief};
use crate::base::error::Result;
use crate::network::Activation;

/// The value of an `activation` option.
#[derive(Clone, Copy)]
pub(super) enum Function {
    Elementwise(Activation),
    Softmax,
    LogSoftmax,
}

/// Which Keras wrote a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// Keras 2 and before, tf.keras up to TensorFlow 2.15.
    Two,
    Three,
    Unknown,
}

impl Version {
    pub(super) fn new(text: Option<&str>) -> Self {
        match text.and_then(|text| text.split('.').next()).and_then(|major| major.parse().ok()) {
            Some(0..=2u32) => Self::Two,
            Some(_) => Self::Three,
            None => Self::Unknown,
        }
    }
}

/// The function of option `key`; linear where there is none.
pub(super) fn function(options: &LayerOptions<'_>, key: &'static str, version: Version) -> Result<Function> {
    let Some(value) = options.get(key) else { return Ok(Function::Elementwise(Activation::Linear)) };
    let unsupported = || options.unsupported(&format!("{key} {}", brief(value)));
    let Some(name) = value.as_str() else {
        // A layer instead of a function.
        let class = value.get("class_name").and_then(Value::as_str);
        if class == Some("__lambda__") || value.get("value").is_some() {
            return Err(
                options.unsupported(&format!("{key}: a Python function (use one of Keras' own, or export to ONNX)"))
            );
        }
        let class = class.ok_or_else(unsupported)?;
        let config = value.get("config").and_then(Value::as_object).ok_or_else(unsupported)?;
        let own = LayerOptions::new(options.layer, class, config);
        let activation = layer(&own)?.ok_or_else(unsupported)?;
        own.finish()?;
        return Ok(Function::Elementwise(activation));
    };
    Ok(Function::Elementwise(match (name, version) {
        ("softmax", _) => return Ok(Function::Softmax),
        ("log_softmax", _) => return Ok(Function::LogSoftmax),
        ("linear", _) => Activation::Linear,
        ("relu", _) => Activation::Relu,
        ("relu6", _) => Activation::Clip { alpha: 0.0, beta: 6.0 },
        ("tanh", _) => Activation::Tanh,
        ("sigmoid", _) => Activation::Sigmoid,
        ("hard_sigmoid", Version::Two) => Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
        ("hard_sigmoid", Version::Three) => Activation::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 },
        ("hard_sigmoid", Version::Unknown) => {
            return Err(options.unsupported(&format!("{key} hard_sigmoid without the Keras version, 2 or 3")));
        }
        ("hard_tanh", _) => Activation::Clip { alpha: -1.0, beta: 1.0 },
        ("elu", _) => Activation::Elu { alpha: 1.0 },
        ("selu", _) => Activation::Selu,
        ("softplus", _) => Activation::Softplus,
        ("softsign", _) => Activation::Softsign,
        ("exponential", _) => Activation::Exp,
        ("gelu", _) => Activation::Gelu,
        ("silu" | "swish", _) => Activation::Silu,
        ("mish", _) => Activation::Mish,
        ("hard_silu" | "hard_swish", _) => Activation::HardSwish,
        ("leaky_relu", _) => Activation::LeakyRelu { alpha: 0.2 },
        _ => return Err(unsupported()),
    }))
}

/// The function of option `key`, which must be elementwise.
pub(super) fn elementwise(options: &LayerOptions<'_>, key: &'static str, version: Version) -> Result<Activation> {
    match function(options, key, version)? {
        Function::Elementwise(activation) => Ok(activation),
        Function::Softmax => Err(options.unsupported(&format!("{key} softmax"))),
        Function::LogSoftmax => Err(options.unsupported(&format!("{key} log_softmax"))),
    }
}

/// The function that a layer of the class `ReLU`, `LeakyReLU` or `ELU` is; `None` for other classes.
pub(super) fn layer(options: &LayerOptions<'_>) -> Result<Option<Activation>> {
    Ok(Some(match options.class {
        "ReLU" => {
            let threshold = options.number("threshold", 0.0)?;
            if threshold != 0.0 {
                return Err(options.unsupported(&format!("option `threshold` = {threshold}")));
            }
            let slope = options.number("negative_slope", 0.0)?;
            let highest = options.get("max_value").is_some().then(|| options.number("max_value", 0.0)).transpose()?;
            match (highest, slope) {
                (None, 0.0) => Activation::Relu,
                (None, alpha) => Activation::LeakyRelu { alpha },
                (Some(beta), 0.0) => Activation::Clip { alpha: 0.0, beta },
                (Some(_), _) => return Err(options.unsupported("options `max_value` and `negative_slope` at once")),
            }
        }
        "LeakyReLU" => {
            // Keras 2 calls it alpha.
            let alpha = options.number("alpha", 0.3)?;
            Activation::LeakyRelu { alpha: options.number("negative_slope", alpha)? }
        }
        "ELU" => Activation::Elu { alpha: options.number("alpha", 1.0)? },
        "ThresholdedReLU" => Activation::ThresholdedRelu { alpha: options.number("theta", 1.0)? },
        _ => return Ok(None),
    }))
}
