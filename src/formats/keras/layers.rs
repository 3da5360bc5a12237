//! One Keras layer to gatefold's layers.

use std::fmt;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::activation::{Function, Version, function, layer as activation_layer};
use super::options::{LayerOptions, brief};
use super::{convolution, malformed, operations, recurrent, shapes, tensorflow};
use crate::base::error::{Error, Result};
use crate::network::{
    Activation, ActivationSpec, DenseSpec, EmbeddingSpec, GlobalPoolSpec, LayerSpec, MaskingSpec, NamedSpec, NormSpec,
    Padding, Pool, Pool1dSpec, ReshapeSpec, Window,
};

static NO_OPTIONS: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);

/// A layer as a model's configuration describes it.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub name: &'a str,
    pub class: &'a str,
    pub config: &'a Map<String, Value>,
    /// The whole description, of which `config` is a part.
    pub value: &'a Value,
    pub version: Version,
    /// Whether it is in a model that a TimeDistributed applies to each timestep.
    pub each_step: bool,
}

/// What flows between two layers, without the batch dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// `[T]`; the size, if it is fixed.
    Tokens(Option<usize>),
    /// `[T, N]`
    Sequence {
        /// T, if it is fixed.
        steps: Option<usize>,
        /// N
        width: usize,
    },
    /// `[N]`
    Row(usize),
    /// `[T]`: a sequence of one feature, without the axis of features.
    Steps(Option<usize>),
    /// `[N, T]`: a sequence whose axes are exchanged, before anything is moved.
    Turned {
        /// T, if it is fixed.
        steps: Option<usize>,
        /// N
        width: usize,
    },
    /// `[T, S]`: the products of every timestep with every one of another sequence ([`Scores`](super::products::Scores)).
    Scores,
}

/// The gatefold layers that a Keras layer becomes. If there are none, the output is the input.
pub(super) struct Lowered {
    pub layers: Vec<LayerSpec>,
    pub shape: Shape,
}

impl<'a> Item<'a> {
    pub(super) fn new(value: &'a Value, version: Version) -> Result<Self> {
        let wrong = || malformed("Keras configuration", "a layer with class_name and config", &brief(value));
        let class = value.get("class_name").and_then(Value::as_str).ok_or_else(wrong)?;
        let config = value.get("config").and_then(Value::as_object).ok_or_else(wrong)?;
        let name = config.get("name").or_else(|| value.get("name")).and_then(Value::as_str).ok_or_else(wrong)?;
        let mut item = Self { name, class, config, value, version, each_step: false };
        match value.get("name") {
            Some(other) if other.as_str() != Some(name) => {
                return Err(malformed(&format!("layer `{name}`: name beside its config"), &format!("`{name}`"), other));
            }
            _ => {}
        }
        // A custom class may have the name of one of Keras' own.
        let theirs = value.get("registered_name").and_then(Value::as_str).filter(|registered| *registered != class);
        if let Some(registered) = theirs {
            return Err(item.unsupported(&format!("class {registered}")));
        }
        if let Some((class, options)) = tensorflow::operation(value).filter(|_| tensorflow::is_function(value)) {
            (item.class, item.config) = (class, options.unwrap_or(&NO_OPTIONS));
        }
        Ok(item)
    }

    /// The layer inside a wrapper; its weights are stored under the wrapper's name.
    pub(super) fn nested(outer: &Self, options: &LayerOptions<'_>, value: &'a Value) -> Result<Self> {
        let inner = Self::new(value, outer.version).map_err(|error| options.unsupported(&error.to_string()))?;
        Ok(Self { name: outer.name, ..inner })
    }

    pub(super) fn unsupported(&self, what: &str) -> Error {
        Error::Unsupported { place: format!("layer `{}`", self.name), what: format!("Keras {what}") }
    }

    /// The refusal of a class that is not read.
    pub(super) fn unknown_class(&self) -> Error {
        let instead = match self.class {
            "Lambda" => " (Python code; use slices, keras.ops or layers instead)",
            "TFOpLambda" => " of this function (export the model to ONNX)",
            _ => "",
        };
        self.unsupported(&format!("layer class {}{instead}", self.class))
    }

    /// Whether it is one of the operations by which Keras computes masks.
    pub(super) fn is_mask_operation(&self) -> bool {
        const MASKS: [&str; 7] = ["NotEqual", "Any", "ExpandDims", "ZerosLike", "OnesLike", "LogicalOr", "Concatenate"];
        self.is_operation() && MASKS.contains(&self.class)
    }

    /// Whether it is one of Keras' numeric operations, which share names with layers. Legacy files
    /// state no module; there, an operation called as a layer is not trainable.
    pub(super) fn is_operation(&self) -> bool {
        if tensorflow::is_function(self.value) {
            return true;
        }
        match self.value.get("module").and_then(Value::as_str) {
            Some(module) => {
                module.starts_with("keras.src.ops")
                    || module.starts_with("keras.ops")
                    || self.class == "SlicingOpLambda"
            }
            None => match self.class {
                "NotEqual" | "Any" | "ExpandDims" | "ZerosLike" | "LogicalOr" | "SlicingOpLambda" => true,
                class => operations::is_known(class) && !self.config.contains_key("trainable"),
            },
        }
    }

    /// Shape of the network's input that the layer itself states.
    pub(super) fn input_shape(&self) -> Option<&'a Value> {
        let stated = ["batch_shape", "batch_input_shape"].iter().find_map(|key| self.config.get(*key));
        let built = || self.value.pointer("/build_config/input_shape").filter(|_| self.class != "InputLayer");
        stated.or_else(built).filter(|shape| !shape.is_null())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tokens(_) => write!(f, "token ids [B, T]"),
            Self::Sequence { width, .. } => write!(f, "a sequence [B, T, {width}]"),
            Self::Row(width) => write!(f, "one vector per row [B, {width}]"),
            Self::Steps(_) => write!(f, "one number per timestep [B, T]"),
            Self::Turned { width, .. } => write!(f, "a sequence of exchanged axes [B, {width}, T]"),
            Self::Scores => write!(f, "scores of an attention [B, T, S]"),
        }
    }
}

impl Shape {
    /// From a `batch_shape`, whose first entry is the batch.
    pub(super) fn from_keras(layer: &str, value: &Value) -> Result<Self> {
        let place = || format!("layer `{layer}`");
        let sizes = value.as_array().ok_or_else(|| malformed(&place(), "a shape", &brief(value)))?;
        let size = |at: usize| sizes.get(at).and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
        match (sizes.len(), size(2)) {
            (2, _) => Ok(Self::Tokens(size(1))),
            (3, Some(width)) => Ok(Self::Sequence { steps: size(1), width }),
            _ => Err(Error::Unsupported { place: place(), what: format!("an input of shape {}", brief(value)) }),
        }
    }
}

/// The layers and the output shape of `item` for an input of `shape`.
pub(super) fn lower(item: &Item<'_>, shape: Shape) -> Result<Lowered> {
    if item.each_step && matches!(shape, Shape::Sequence { .. }) {
        return of_each_step(&Item { each_step: false, ..*item }, shape);
    }
    let options = LayerOptions::new(item.name, item.class, item.config);
    let lowered = by_class(item, &options, shape)?;
    options.finish()?;
    Ok(lowered)
}

fn by_class(item: &Item<'_>, options: &LayerOptions<'_>, shape: Shape) -> Result<Lowered> {
    let name = || item.name.to_owned();
    let one = |layer: LayerSpec, shape: Shape| Ok(Lowered { layers: vec![layer], shape });
    if recurrent::is_of_one_direction(item.class) {
        return recurrent::single(item, options, shape);
    }
    if let Some(activation) = activation_layer(options)? {
        return with_function(Vec::new(), name(), Function::Elementwise(activation), vectors(options, shape)?);
    }
    match item.class {
        "Bidirectional" => recurrent::bidirectional(item, options, shape),
        "TimeDistributed" => time_distributed(item, options, shape),
        "Dropout"
        | "Identity"
        | "SpatialDropout1D"
        | "GaussianNoise"
        | "GaussianDropout"
        | "AlphaDropout"
        | "ActivityRegularization" => {
            for key in ["rate", "noise_shape", "stddev", "l1", "l2"] {
                options.get(key);
            }
            Ok(Lowered { layers: Vec::new(), shape })
        }
        "Embedding" => {
            let Shape::Tokens(steps) = shape else {
                return Err(options.unsupported("an input that is not token ids [B, T]"));
            };
            options.none_of(&["lora_rank", "quantization_config", "weights"])?;
            options.get("sparse"); // gradients
            let (num_embeddings, embedding_dim) = (options.size("input_dim")?, options.size("output_dim")?);
            let mask_zero = options.flag("mask_zero", false)?;
            let spec = EmbeddingSpec { name: name(), num_embeddings, embedding_dim, mask_zero };
            one(LayerSpec::Embedding(spec), Shape::Sequence { steps, width: embedding_dim })
        }
        "Masking" => {
            sequence(options, shape)?;
            let mask_value = options.any_number("mask_value", 0.0)?;
            if mask_value.is_nan() {
                // No number equals NaN, so that nothing is masked.
                return Ok(Lowered { layers: Vec::new(), shape });
            }
            one(LayerSpec::Masking(MaskingSpec { name: name(), mask_value }), shape)
        }
        "Dense" => {
            let (in_features, out_features) = (width(options, shape)?, options.size("units")?);
            options.none_of(&["lora_rank", "quantization_config"])?;
            let bias = options.flag("use_bias", true)?;
            let function = function(options, "activation", item.version)?;
            let activation = fused(function);
            let spec = DenseSpec { name: name(), in_features, out_features, bias, activation };
            let shape = resized(shape, out_features);
            with_softmax(LayerSpec::Dense(spec), function, shape)
        }
        "Activation" => {
            options.present("activation")?;
            let function = function(options, "activation", item.version)?;
            with_function(Vec::new(), name(), function, vectors(options, shape)?)
        }
        "Softmax" => {
            let shape = vectors(options, shape)?;
            let over_time = matches!(shape, Shape::Sequence { .. })
                && options.get("axis").is_some_and(|axis| matches!(axis.as_i64(), Some(1 | -2)));
            if over_time {
                return one(LayerSpec::TimeSoftmax(NamedSpec { name: name() }), shape);
            }
            options.last_axis("axis", dimensions(shape))?;
            one(LayerSpec::Softmax, shape)
        }
        "RepeatVector" | "Flatten" | "Reshape" | "Permute" | "ZeroPadding1D" | "Cropping1D" => {
            shapes::lower(item, options, shape)
        }
        "Rescaling" => {
            let (alpha, beta) = (options.number("scale", 1.0)?, options.number("offset", 0.0)?);
            let affine = Function::Elementwise(Activation::Affine { alpha, beta });
            with_function(Vec::new(), name(), affine, vectors(options, shape)?)
        }
        "LayerNormalization" => {
            options.none_of(&["rms_scaling"])?;
            let (spec, shape) = norm(item, options, shape)?;
            one(LayerSpec::LayerNorm(spec), shape)
        }
        "Normalization" => {
            options.none_of(&["invert"])?;
            for constant in ["mean", "variance"] {
                options.get(constant);
            }
            options.last_axis("axis", dimensions(shape))?;
            let (name, num_features) = (name(), width(options, shape)?);
            let spec = NormSpec { name, num_features, eps: 0.0, weight: false, bias: false };
            one(LayerSpec::BatchNorm(spec), shape)
        }
        "BatchNormalization" => {
            options.none_of(&["renorm", "virtual_batch_size"])?;
            for training in ["momentum", "renorm_clipping", "renorm_momentum", "fused"] {
                options.get(training);
            }
            let (spec, shape) = norm(item, options, shape)?;
            one(LayerSpec::BatchNorm(spec), shape)
        }
        "Conv1D" | "DepthwiseConv1D" | "SeparableConv1D" => convolution::lower(item, options, shape),
        "MaxPooling1D" => pool1d(options, name(), Pool::Max, shape),
        "AveragePooling1D" => pool1d(options, name(), Pool::Average, shape),
        "GlobalMaxPooling1D" => global_pool(options, name(), Pool::Max, shape),
        "GlobalAveragePooling1D" => global_pool(options, name(), Pool::Average, shape),
        _ => Err(item.unknown_class()),
    }
}

/// Whether there are options and inputs with which [`lower`] reads the layer.
pub(super) fn is_known(item: &Item<'_>) -> bool {
    let anything = Shape::Sequence { steps: None, width: 1 };
    let refused = lower(item, anything).err().map(|error| error.to_string());
    refused != Some(item.unknown_class().to_string())
}

/// Layers that do the same to each timestep.
pub(super) const EACH_STEP: [&str; 14] = [
    "Dense",
    "Activation",
    "ReLU",
    "LeakyReLU",
    "ELU",
    "ThresholdedReLU",
    "Softmax",
    "Dropout",
    "Flatten",
    "GaussianNoise",
    "GaussianDropout",
    "AlphaDropout",
    "LayerNormalization",
    "BatchNormalization",
];

fn time_distributed(item: &Item<'_>, options: &LayerOptions<'_>, shape: Shape) -> Result<Lowered> {
    sequence(options, shape)?;
    let config = options.get("layer").ok_or_else(|| options.wrong("layer", "a layer", &Value::Null))?;
    let inner = Item::nested(item, options, config)?;
    if !EACH_STEP.contains(&inner.class) {
        return Err(options.unsupported(&format!("a layer of class {} inside", inner.class)));
    }
    of_each_step(&inner, shape)
}

/// A layer that sees one step of a sequence and does the same to each.
fn of_each_step(item: &Item<'_>, shape: Shape) -> Result<Lowered> {
    let Shape::Sequence { steps, width } = shape else { return lower(item, shape) };
    let lowered = lower(item, Shape::Row(width))?;
    let shape = match lowered.shape {
        Shape::Row(width) => Shape::Sequence { steps, width },
        other => other,
    };
    Ok(Lowered { shape, ..lowered })
}

fn pool1d(options: &LayerOptions<'_>, name: String, pool: Pool, shape: Shape) -> Result<Lowered> {
    let width = sequence(options, shape)?;
    options.only("data_format", &json!("channels_last"))?;
    options.present("pool_size")?;
    let kernel_size = options.length("pool_size", 2)?;
    // Null stands for the window's own length here.
    let stride = if options.get("strides").is_some() { options.length("strides", kernel_size)? } else { kernel_size };
    let padding = match options.text("padding", "valid")? {
        "valid" => Padding::default(),
        "same" => Padding::Same,
        other => return Err(options.unsupported(&format!("padding {other}"))),
    };
    let spec = Pool1dSpec { name, pool, kernel_size, stride, padding, count_include_pad: false };
    let window = Window { kernel_size, stride, dilation: 1, padding };
    let shape = Shape::Sequence { steps: seen(shape, &window), width };
    Ok(Lowered { layers: vec![LayerSpec::Pool1d(spec)], shape })
}

fn global_pool(options: &LayerOptions<'_>, name: String, pool: Pool, shape: Shape) -> Result<Lowered> {
    let width = sequence(options, shape)?;
    options.only("data_format", &json!("channels_last"))?;
    if options.flag("keepdims", false)? {
        // One timestep instead of a row.
        let row = GlobalPoolSpec { name: format!("{name}_row"), pool };
        let step = ReshapeSpec { name, in_steps: None, out_steps: Some(1) };
        let layers = vec![LayerSpec::GlobalPool(row), LayerSpec::Reshape(step)];
        return Ok(Lowered { layers, shape: Shape::Sequence { steps: Some(1), width } });
    }
    let spec = GlobalPoolSpec { name, pool };
    Ok(Lowered { layers: vec![LayerSpec::GlobalPool(spec)], shape: Shape::Row(width) })
}

fn norm(item: &Item<'_>, options: &LayerOptions<'_>, shape: Shape) -> Result<(NormSpec, Shape)> {
    // Keras builds the layer for a number of axes and takes no other.
    if let Some(Value::Array(built)) = item.value.pointer("/build_config/input_shape")
        && i64::try_from(built.len()) != Ok(dimensions(shape))
    {
        let got = format!("an input of {} axes", dimensions(shape));
        return Err(malformed(&format!("layer `{}`", item.name), &format!("{} axes, as built", built.len()), &got));
    }
    let name = item.name.to_owned();
    options.last_axis("axis", dimensions(shape))?;
    let num_features = width(options, shape)?;
    let eps = options.number("epsilon", 1e-3)?;
    let (weight, bias) = (options.flag("scale", true)?, options.flag("center", true)?);
    Ok((NormSpec { name, num_features, eps, weight, bias }, shape))
}

/// The mean and the variance among the options of a Normalization, if they are there.
pub(super) fn statistics(item: &Item<'_>) -> Result<Option<[Vec<f32>; 2]>> {
    fn numbers(value: &Value, into: &mut Vec<f32>) -> Option<()> {
        match value {
            Value::Array(list) => list.iter().try_for_each(|value| numbers(value, into)),
            #[expect(clippy::cast_possible_truncation, reason = "options are rounded to f32 on purpose")]
            other => other.as_f64().map(|number| into.push(number as f32)),
        }
    }
    let options = LayerOptions::new(item.name, item.class, item.config);
    let read = |key: &'static str| -> Result<Option<Vec<f32>>> {
        let Some(value) = options.get(key) else { return Ok(None) };
        let mut found = Vec::new();
        numbers(value, &mut found).ok_or_else(|| options.wrong(key, "numbers", value))?;
        Ok(Some(found))
    };
    Ok(match (read("mean")?, read("variance")?) {
        (Some(mean), Some(variance)) => Some([mean, variance]),
        (None, None) => None,
        _ => return Err(options.unsupported("one of the options `mean` and `variance` without the other")),
    })
}

/// The activation that a layer computes itself; softmax needs a layer of its own.
pub(super) fn fused(function: Function) -> Activation {
    match function {
        Function::Elementwise(activation) => activation,
        Function::Softmax | Function::LogSoftmax => Activation::Linear,
    }
}

pub(super) fn with_softmax(layer: LayerSpec, function: Function, shape: Shape) -> Result<Lowered> {
    let name = format!("{}_log_softmax", layer.name());
    let more = match function {
        Function::Softmax => Some(LayerSpec::Softmax),
        Function::LogSoftmax => Some(LayerSpec::LogSoftmax(NamedSpec { name })),
        Function::Elementwise(_) => None,
    };
    Ok(Lowered { layers: std::iter::once(layer).chain(more).collect(), shape })
}

fn with_function(mut layers: Vec<LayerSpec>, name: String, function: Function, shape: Shape) -> Result<Lowered> {
    match function {
        Function::Elementwise(Activation::Linear) => {}
        Function::Elementwise(activation) => layers.push(LayerSpec::Activation(ActivationSpec { name, activation })),
        Function::Softmax => layers.push(LayerSpec::Softmax),
        Function::LogSoftmax => layers.push(LayerSpec::LogSoftmax(NamedSpec { name })),
    }
    Ok(Lowered { layers, shape })
}

/// Width of a sequence, which the layer needs.
pub(super) fn sequence(options: &LayerOptions<'_>, shape: Shape) -> Result<usize> {
    match shape {
        Shape::Sequence { width, .. } => Ok(width),
        other => Err(options.unsupported(&format!("an input that is not a sequence [B, T, N] but {other}"))),
    }
}

/// Timesteps of a sequence, if they are fixed.
pub(super) fn steps(shape: Shape) -> Option<usize> {
    match shape {
        Shape::Sequence { steps, .. } | Shape::Tokens(steps) => steps,
        _ => None,
    }
}

/// Outputs of a window over a sequence, if its timesteps are fixed.
pub(super) fn seen(shape: Shape, window: &Window) -> Option<usize> {
    const MOST: usize = 1 << 24;
    let padding = match window.padding {
        Padding::Zeros { left, right } => left.max(right),
        Padding::Same => 0,
    };
    let steps = steps(shape)?;
    let sizes = [window.kernel_size, window.stride, window.dilation, steps];
    let usual = sizes.iter().all(|size| (1..=MOST).contains(size)) && padding <= MOST;
    if usual { window.outputs(steps) } else { None }
}

/// Width of vectors, with or without time.
pub(super) fn width(options: &LayerOptions<'_>, shape: Shape) -> Result<usize> {
    match shape {
        Shape::Sequence { width, .. } | Shape::Row(width) => Ok(width),
        other => Err(options.unsupported(&format!("{other} as an input"))),
    }
}

fn vectors(options: &LayerOptions<'_>, shape: Shape) -> Result<Shape> {
    width(options, shape).map(|_| shape)
}

fn resized(shape: Shape, width: usize) -> Shape {
    match shape {
        Shape::Row(_) => Shape::Row(width),
        other => Shape::Sequence { steps: steps(other), width },
    }
}

/// Dimensions with the batch.
fn dimensions(shape: Shape) -> i64 {
    match shape {
        Shape::Sequence { .. } => 3,
        _ => 2,
    }
}
