//! Sums, means, deviations and norms over an axis, and the normalizations that are made of them.

use serde_json::Value;

use super::activation::Version;
use super::layers::{Item, Shape};
use super::lower::{KerasLowering, NodeOutput, unmask};
use super::options::{LayerOptions, brief};
use super::parts::{PartNumbers, Parts};
use crate::base::error::Result;
use crate::network::{Activation, FromSpec, GlobalPoolSpec, Join, JoinSpec, LayerSpec, Pool, ReshapeSpec};

/// Operations that take an axis away.
const REDUCTIONS: [&str; 9] = ["Mean", "Sum", "Max", "Amax", "Min", "Amin", "Std", "Var", "Norm"];

/// Layers and operations that divide by the size of what they read.
const NORMALIZATIONS: [&str; 3] = ["Normalize", "UnitNormalization", "RMSNormalization"];

/// Smaller sums of squares count as this, so that rows of zeros stay zeros.
const LEAST_SQUARES: f32 = 1e-12;

/// Whether it is an operation that reduces an axis.
pub(super) fn is_reduction(class: &str) -> bool {
    REDUCTIONS.contains(&class)
}

/// Whether layers or operations of this class are normalizations by a size.
pub(super) fn is_normalization(class: &str) -> bool {
    NORMALIZATIONS.contains(&class)
}

/// Which axes are meant.
#[derive(Clone, Copy, Default, PartialEq)]
struct Axes {
    time: bool,
    features: bool,
}

/// The axes that option `key` names; without one all but the batch.
fn axes(options: &LayerOptions<'_>, key: &'static str, shape: Shape) -> Result<Axes> {
    let value = options.get(key).unwrap_or(&Value::Null);
    let numbers: Option<Vec<i64>> = match value {
        Value::Array(all) => all.iter().map(Value::as_i64).collect(),
        Value::Null => None,
        one => one.as_i64().map(|axis| vec![axis]),
    };
    let rank = if matches!(shape, Shape::Sequence { .. }) { 3 } else { 2 };
    let mut found = Axes::default();
    for axis in numbers.iter().flatten() {
        match (shape, if *axis < 0 { axis + rank } else { *axis }) {
            (Shape::Sequence { .. } | Shape::Steps(_), 1) => found.time = true,
            (Shape::Sequence { .. }, 2) | (Shape::Row(_), 1) => found.features = true,
            _ => return Err(options.unsupported(&format!("option `{key}` = {}", brief(value)))),
        }
    }
    match found == Axes::default() {
        true => Err(options.unsupported(&format!("option `{key}` = {}: all rows at once", brief(value)))),
        false => Ok(found),
    }
}

/// Layers of one operation, and the name of what they computed last.
struct Chain<'a> {
    item: &'a Item<'a>,
    /// What the names of the layers begin with.
    prefix: String,
    parts: Parts,
    last: String,
    width: usize,
    /// The arrays that the layer has.
    arrays: Vec<(&'static str, Vec<usize>)>,
}

impl<'a> Chain<'a> {
    /// Layers that read `input`, of which all timesteps count.
    fn new(lowering: &mut KerasLowering, item: &'a Item<'a>, input: NodeOutput, width: usize) -> Self {
        let mut parts = Parts::default();
        let mut last = lowering.name(input.source);
        if input.masked {
            let layer = unmask(item);
            layer.name().clone_into(&mut last);
            parts.layers.push(layer);
        }
        Self { item, prefix: item.name.to_owned(), parts, last, width, arrays: Vec::new() }
    }

    fn name(&mut self, part: &str) -> String {
        self.last = format!("{}_{part}", self.prefix);
        self.last.clone()
    }

    fn function(&mut self, part: &str, activation: Activation) {
        let name = self.name(part);
        self.parts.function(name, activation);
    }

    fn join(&mut self, part: &str, inputs: [&str; 2], join: Join) {
        let (name, inputs) = (self.name(part), inputs.map(str::to_owned).to_vec());
        self.parts.layers.push(LayerSpec::Join(JoinSpec { name, inputs, join }));
    }

    /// What `axes` reduce to.
    fn reduce(&mut self, options: &LayerOptions<'_>, part: &str, axes: Axes, pool: Pool) -> Result<()> {
        if axes.features {
            if pool == Pool::Max && self.width > 1 {
                return Err(options.unsupported("the largest of the features"));
            }
            #[expect(clippy::cast_precision_loss, reason = "widths are at most 2^24")]
            let share = if pool == Pool::Average { 1.0 / self.width as f32 } else { 1.0 };
            let name = self.name(&format!("{part}_features"));
            let arrays = (None, &self.arrays[..]);
            self.parts.product(self.item, (&name, [1, self.width]), arrays, PartNumbers::same(share));
        }
        if axes.time {
            let name = self.name(part);
            self.parts.layers.push(LayerSpec::GlobalPool(GlobalPoolSpec { name, pool }));
        }
        Ok(())
    }

    /// `read` over its norm along `axes`; smaller sums of squares count as `least`.
    fn over_norm(&mut self, options: &LayerOptions<'_>, (read, axes): (&str, Axes), least: f32) -> Result<()> {
        self.function("squares", Activation::Square);
        self.reduce(options, "sum", axes, Pool::Sum)?;
        self.function("sum_bounded", Activation::Clip { alpha: least, beta: f32::MAX });
        self.times_inverse_root(read);
        Ok(())
    }

    /// `read` over the root of what was computed last.
    fn times_inverse_root(&mut self, read: &str) {
        self.inverse_root("sum");
        let inverse = self.last.clone();
        self.join("normalized", [read, &inverse], Join::Mul);
    }

    /// `1 / sqrt(x)`
    fn inverse_root(&mut self, part: &str) {
        self.function(&format!("{part}_root"), Activation::Sqrt);
        self.function(&format!("{part}_inverse"), Activation::Reciprocal);
    }
}

/// The operation `item` of one tensor.
pub(super) fn lower(
    lowering: &mut KerasLowering,
    index: usize,
    item: &Item<'_>,
    (options, input): (&LayerOptions<'_>, NodeOutput),
) -> Result<NodeOutput> {
    let width = match input.shape {
        Shape::Sequence { width, .. } | Shape::Row(width) => width,
        Shape::Steps(_) => 1,
        other => return Err(options.unsupported(&format!("an input that is {other}"))),
    };
    let axes = axes(options, "axis", input.shape)?;
    let keep = options.flag("keepdims", false)?;
    options.none_of(&["initial", "ddof", "correction"])?;
    let mut chain = Chain::new(lowering, item, input, width);
    let read = chain.last.clone();
    let negative = Activation::Affine { alpha: -1.0, beta: 0.0 };
    match item.class {
        "Mean" => chain.reduce(options, "mean", axes, Pool::Average)?,
        "Sum" => chain.reduce(options, "sum", axes, Pool::Sum)?,
        "Max" | "Amax" => chain.reduce(options, "max", axes, Pool::Max)?,
        "Min" | "Amin" => {
            chain.function("negative", negative);
            chain.reduce(options, "max", axes, Pool::Max)?;
            chain.function("min", negative);
        }
        "Norm" => {
            match options.get("ord") {
                None => {}
                Some(ord) if ord.as_f64() == Some(2.0) || ord == "euclidean" => {}
                Some(ord) => return Err(options.unsupported(&format!("option `ord` = {}", brief(ord)))),
            }
            chain.function("squares", Activation::Square);
            chain.reduce(options, "sum", axes, Pool::Sum)?;
            chain.function("root", Activation::Sqrt);
        }
        deviation => {
            chain.reduce(options, "mean", axes, Pool::Average)?;
            let mean = chain.last.clone();
            chain.join("centred", [&read, &mean], Join::Sub);
            chain.function("squares", Activation::Square);
            chain.reduce(options, "variance", axes, Pool::Average)?;
            if deviation == "Std" {
                chain.function("root", Activation::Sqrt);
            }
        }
    }
    options.finish()?;
    let out = if axes.features { 1 } else { width };
    let shape = match (input.shape, axes.time, keep) {
        (Shape::Sequence { steps, .. }, false, true) => Shape::Sequence { steps, width: out },
        (Shape::Sequence { steps, .. }, false, false) => Shape::Steps(steps),
        (Shape::Sequence { .. }, true, true) => {
            let name = chain.name("step");
            chain.parts.layers.push(LayerSpec::Reshape(ReshapeSpec { name, in_steps: None, out_steps: Some(1) }));
            Shape::Sequence { steps: Some(1), width: out }
        }
        _ => Shape::Row(out),
    };
    Ok(lowering.append_parts(index, item, chain.parts, (input, shape, false)))
}

/// The layer or operation `item` of one tensor, over its size.
pub(super) fn normalization(
    lowering: &mut KerasLowering,
    index: usize,
    item: &Item<'_>,
    input: NodeOutput,
) -> Result<NodeOutput> {
    let options = &LayerOptions::new(item.name, item.class, item.config);
    let (Shape::Sequence { width, .. } | Shape::Row(width)) = input.shape else {
        return Err(options.unsupported(&format!("an input that is {}", input.shape)));
    };
    let features = axes(options, "axis", input.shape)?;
    // Keras drops the mask at an operation.
    let drops = input.masked && item.is_operation();
    if input.masked && !drops && features.time {
        return Err(options.unsupported("a normalization over time of masked steps"));
    }
    let mut chain = Chain::new(lowering, item, NodeOutput { masked: drops, ..input }, width);
    let read = chain.last.clone();
    match item.class {
        "RMSNormalization" => {
            chain.function("squares", Activation::Square);
            chain.arrays.push(("scale", vec![width]));
            chain.reduce(options, "mean", features, Pool::Average)?;
            let beta = options.number("epsilon", 1e-6)?;
            chain.function("mean_eps", Activation::Affine { alpha: 1.0, beta });
            if features != (Axes { time: false, features: true }) {
                return Err(options.unsupported("another axis than the last"));
            }
            chain.times_inverse_root(&read);
        }
        _ => {
            if options.get("order").is_some_and(|order| order.as_f64() != Some(2.0)) {
                return Err(options.unsupported("option `order` other than 2"));
            }
            let epsilon = options.get("epsilon").is_some().then(|| options.number("epsilon", 0.0)).transpose()?;
            let least = match (epsilon, item.version) {
                // TensorFlow's is that of the sum, Keras 3's that of its root.
                (Some(epsilon), Version::Two) => epsilon,
                (Some(epsilon), _) => epsilon * epsilon,
                (None, _) => LEAST_SQUARES,
            };
            chain.over_norm(options, (&read, features), least.max(f32::MIN_POSITIVE))?;
        }
    }
    if item.class == "RMSNormalization" {
        let Chain { parts, arrays, .. } = &mut chain;
        parts.scale(item, (item.name, width), arrays, PartNumbers::Cycled(0));
    }
    options.finish()?;
    let Chain { mut parts, .. } = chain;
    if item.class != "RMSNormalization" {
        let name = item.name.to_owned();
        parts.function(name, Activation::Linear);
    }
    Ok(lowering.append_parts(index, item, parts, (input, input.shape, input.masked && !drops)))
}

/// A row over its norm, and the name of that; smaller sums of squares count as 1e-12.
pub(super) fn over_norm(
    lowering: &mut KerasLowering,
    item: &Item<'_>,
    options: &LayerOptions<'_>,
    (input, prefix): (NodeOutput, String),
) -> Result<(Parts, String)> {
    let mut chain = Chain::new(lowering, item, input, super::layers::width(options, input.shape)?);
    chain.prefix = prefix;
    let read = chain.last.clone();
    chain.parts.layers.push(LayerSpec::From(FromSpec { layer: read.clone() }));
    chain.over_norm(options, (&read, Axes { time: false, features: true }), LEAST_SQUARES)?;
    Ok((chain.parts, chain.last))
}
