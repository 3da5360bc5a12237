//! Products of two tensors over an axis: weighted sums over time, the products of rows, and attention.

use serde_json::Value;

use super::layers::{Item, Shape};
use super::lower::{KerasLowering, NodeOutput};
use super::options::{LayerOptions, brief};
use super::parts::{PartNumbers, Parts};
use super::reductions;
use crate::base::error::Result;
use crate::network::{
    Activation, AttentionScore, AttentionSpec, FromSpec, GlobalPoolSpec, Join, JoinSpec, LayerSpec, Pool, ReshapeSpec,
};

/// The products of every timestep of one sequence with every one of another, `[B, T, S]`.
#[derive(Clone, Copy)]
pub(super) struct Scores {
    /// The sequence whose timesteps are T.
    pub rows: NodeOutput,
    /// The sequence whose timesteps are S.
    pub columns: NodeOutput,
    /// Multiplies the products.
    pub scale: f32,
    /// Whether they are the softmax over S.
    pub shares: bool,
}

/// The layer `Dot`.
pub(super) fn dot(
    lowering: &mut KerasLowering,
    index: usize,
    item: &Item<'_>,
    inputs: &[NodeOutput],
) -> Result<NodeOutput> {
    let options = LayerOptions::new(item.name, item.class, item.config);
    let axes = options.get("axes").unwrap_or(&Value::Null);
    let normalize = options.flag("normalize", false)?;
    options.finish()?;
    let both: Vec<i64> = match axes {
        Value::Array(axes) => axes.iter().filter_map(Value::as_i64).collect(),
        one => one.as_i64().map(|axis| vec![axis; 2]).unwrap_or_default(),
    };
    let ([first, second], [a, b]) = (inputs, &both[..]) else {
        return Err(options.unsupported(&format!("option `axes` = {}", brief(axes))));
    };
    // Whether the axis is the last, of features.
    let last = |input: &NodeOutput, axis: i64| {
        let rank = if matches!(input.shape, Shape::Row(_) | Shape::Steps(_)) { 2 } else { 3 };
        match (if axis < 0 { axis + rank } else { axis }, input.shape) {
            (1, Shape::Row(_)) => Some(true),
            (2, Shape::Sequence { .. } | Shape::Scores) => Some(true),
            (1, Shape::Sequence { .. } | Shape::Steps(_)) => Some(false),
            _ => None,
        }
    };
    let refuse = || {
        let what = format!("a product of {} and {} over the axes {}", first.shape, second.shape, brief(axes));
        Err(options.unsupported(&what))
    };
    let (Some(a), Some(b)) = (last(first, *a), last(second, *b)) else { return refuse() };
    if normalize {
        return match (first.shape, second.shape) {
            (Shape::Row(m), Shape::Row(n)) if m == n => row_products(lowering, index, item, (*first, *second), true),
            _ => Err(options.unsupported("option `normalize` of sequences")),
        };
    }
    match (first.shape, second.shape, a, b) {
        (Shape::Row(m), Shape::Row(n), true, true) if m == n => {
            row_products(lowering, index, item, (*first, *second), false)
        }
        (Shape::Sequence { width: m, .. }, Shape::Sequence { width: n, .. }, true, true) if m == n => {
            Ok(lowering.scores(index, Scores { rows: *first, columns: *second, scale: 1.0, shares: false }))
        }
        (Shape::Scores, Shape::Sequence { .. }, true, false) => attend(lowering, index, item, (first, second)),
        (Shape::Sequence { width: 1, .. }, Shape::Sequence { .. }, false, false) => {
            weighted_sum(lowering, index, item, [first, second], true)
        }
        (Shape::Steps(_), Shape::Sequence { .. }, false, false) => {
            weighted_sum(lowering, index, item, [first, second], false)
        }
        (Shape::Sequence { .. }, Shape::Steps(_), false, false) => {
            weighted_sum(lowering, index, item, [second, first], false)
        }
        (Shape::Row(m), Shape::Sequence { steps, width: n }, true, true)
        | (Shape::Sequence { steps, width: n }, Shape::Row(m), true, true)
            if m == n =>
        {
            row_with_steps(lowering, index, item, ([first, second], steps, n))
        }
        _ => refuse(),
    }
}

/// The operation `Matmul`.
pub(super) fn matmul(
    lowering: &mut KerasLowering,
    index: usize,
    item: &Item<'_>,
    [first, second]: [&NodeOutput; 2],
) -> Result<NodeOutput> {
    let options = LayerOptions::new(item.name, item.class, item.config);
    let turned = |input: &NodeOutput, key: &'static str| -> Result<NodeOutput> {
        Ok(match (input.shape, options.flag(key, false)?) {
            (Shape::Sequence { steps, width }, true) => NodeOutput { shape: Shape::Turned { steps, width }, ..*input },
            (Shape::Turned { steps, width }, true) => NodeOutput { shape: Shape::Sequence { steps, width }, ..*input },
            _ => *input,
        })
    };
    let (a, b) = (turned(first, "transpose_a")?, turned(second, "transpose_b")?);
    options.none_of(&["adjoint_a", "adjoint_b", "a_is_sparse", "b_is_sparse", "output_type"])?;
    options.finish()?;
    let whole = |input: NodeOutput| match input.shape {
        Shape::Turned { steps, width } => NodeOutput { shape: Shape::Sequence { steps, width }, ..input },
        _ => input,
    };
    match (a.shape, b.shape) {
        (Shape::Sequence { width: m, .. }, Shape::Turned { width: n, .. }) if m == n => {
            Ok(lowering.scores(index, Scores { rows: a, columns: whole(b), scale: 1.0, shares: false }))
        }
        (Shape::Scores, Shape::Sequence { .. }) => attend(lowering, index, item, (&a, &b)),
        (Shape::Turned { width: 1, .. }, Shape::Sequence { .. }) => {
            weighted_sum(lowering, index, item, [&whole(a), &b], true)
        }
        (a, b) => Err(item.unsupported(&format!("operation Matmul of {a} and {b}"))),
    }
}

/// The softmax of scores over S, or the scores times a number.
pub(super) fn of_scores(
    lowering: &mut KerasLowering,
    index: usize,
    item: &Item<'_>,
    (input, number): (NodeOutput, Option<f64>),
) -> Result<NodeOutput> {
    let options = LayerOptions::new(item.name, item.class, item.config);
    let refuse = || item.unsupported(&format!("{} of the scores of an attention", item.class));
    let Some(mut scores) = lowering.scores_of(input).filter(|scores| !scores.shares) else { return Err(refuse()) };
    #[expect(clippy::cast_possible_truncation, reason = "options are rounded to f32 on purpose")]
    let number = number.map(|number| number as f32);
    match (item.class, number) {
        ("Multiply", Some(number)) => scores.scale *= number,
        ("Divide" | "TrueDivide", Some(number)) => scores.scale /= number,
        ("Activation", None) if options.get("activation").is_some_and(|name| name == "softmax") => scores.shares = true,
        ("Softmax", None) => {
            options.last_axis("axis", 3)?;
            scores.shares = true;
        }
        _ => return Err(refuse()),
    }
    options.finish()?;
    Ok(lowering.scores(index, scores))
}

/// The timesteps of `values`, weighted by shares.
fn attend(
    lowering: &mut KerasLowering,
    index: usize,
    item: &Item<'_>,
    (shares, values): (&NodeOutput, &NodeOutput),
) -> Result<NodeOutput> {
    let Some(scores) = lowering.scores_of(*shares).filter(|scores| scores.shares) else {
        return Err(item.unsupported(&format!("{} of scores that no softmax made shares of", item.class)));
    };
    let (Shape::Sequence { steps, width: embed_dim }, Shape::Sequence { width, .. }) =
        (scores.rows.shape, values.shape)
    else {
        return Err(item.unsupported(&format!("{} of {}", item.class, values.shape)));
    };
    let keys = lowering.unmasked_name(item, scores.columns, "keys");
    let spec = AttentionSpec {
        name: item.name.to_owned(),
        embed_dim,
        keys,
        values: Some(lowering.name(values.source)),
        score: AttentionScore::Dot,
        num_heads: 1,
        scale: scores.scale,
    };
    let query = lowering.unmasked_name(item, scores.rows, "query");
    lowering.layers.push(LayerSpec::From(FromSpec { layer: query }));
    lowering.layers.push(LayerSpec::Attention(spec));
    Ok(lowering.value(index, 0, item, (Shape::Sequence { steps, width }, false)))
}

/// The products of a row `[B, N]` with every timestep of `[B, T, N]`, `[B, T]`.
fn row_with_steps(
    lowering: &mut KerasLowering,
    index: usize,
    item: &Item<'_>,
    (inputs, steps, width): ([&NodeOutput; 2], Option<usize>, usize),
) -> Result<NodeOutput> {
    let inputs =
        [lowering.unmasked_name(item, *inputs[0], "first"), lowering.unmasked_name(item, *inputs[1], "second")];
    let mut parts = Parts::default();
    let name = format!("{}_products", item.name);
    lowering.layers.push(LayerSpec::Join(JoinSpec { name, inputs: inputs.to_vec(), join: Join::Mul }));
    let product = lowering.value(index, usize::MAX, item, (Shape::Sequence { steps, width }, false));
    parts.product(item, (item.name, [1, width]), (None, &[]), PartNumbers::same(1.0));
    Ok(lowering.append_parts(index, item, parts, (product, Shape::Steps(steps), false)))
}

/// Shares `[B, T, 1]` or `[B, T]` and a sequence `[B, T, N]`: their weighted sum, `[B, 1, N]` if `keeps` else `[B, N]`.
fn weighted_sum(
    lowering: &mut KerasLowering,
    index: usize,
    item: &Item<'_>,
    inputs: [&NodeOutput; 2],
    keeps: bool,
) -> Result<NodeOutput> {
    let Shape::Sequence { width, .. } = inputs[1].shape else {
        return Err(item.unsupported(&format!("{} of {}", item.class, inputs[1].shape)));
    };
    if inputs.iter().any(|input| input.masked) {
        return Err(item.unsupported(&format!("{} of masked steps", item.class)));
    }
    let named = inputs.iter().map(|input| lowering.name(input.source)).collect();
    let of = |part: &str| format!("{}_{part}", item.name);
    lowering.layers.extend([
        LayerSpec::Join(JoinSpec { name: of("products"), inputs: named, join: Join::Mul }),
        LayerSpec::GlobalPool(GlobalPoolSpec { name: of("sum"), pool: Pool::Sum }),
    ]);
    if !keeps {
        return Ok(lowering.value(index, 0, item, (Shape::Row(width), false)));
    }
    let step = ReshapeSpec { name: item.name.to_owned(), in_steps: None, out_steps: Some(1) };
    lowering.layers.push(LayerSpec::Reshape(step));
    Ok(lowering.value(index, 0, item, (Shape::Sequence { steps: Some(1), width }, false)))
}

/// The product of two rows, `[B, 1]`; of their directions if `cosine`.
fn row_products(
    lowering: &mut KerasLowering,
    index: usize,
    item: &Item<'_>,
    (first, second): (NodeOutput, NodeOutput),
    cosine: bool,
) -> Result<NodeOutput> {
    let Shape::Row(width) = first.shape else { return Err(item.unsupported(item.class)) };
    let options = LayerOptions::new(item.name, item.class, item.config);
    let mut names = Vec::with_capacity(2);
    let mut parts = Parts::default();
    for (number, input) in [first, second].into_iter().enumerate() {
        if !cosine {
            names.push(lowering.name(input.source));
            continue;
        }
        let prefix = format!("{}_side{number}", item.name);
        let (mut side, name) = reductions::over_norm(lowering, item, &options, (input, prefix))?;
        parts.layers.append(&mut side.layers);
        parts.weights.append(&mut side.weights);
        names.push(name);
    }
    let name = format!("{}_products", item.name);
    parts.layers.push(LayerSpec::Join(JoinSpec { name, inputs: names, join: Join::Mul }));
    parts.product(item, (&format!("{}_sum", item.name), [1, width]), (None, &[]), PartNumbers::same(1.0));
    parts.function(item.name.to_owned(), Activation::Linear);
    Ok(lowering.append_parts(index, item, parts, (first, Shape::Row(1), false)))
}
