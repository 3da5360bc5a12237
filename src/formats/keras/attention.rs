//! Attention, AdditiveAttention and MultiHeadAttention. One query becomes layers that make a row of a sequence, several a layer
//! of attention.

use serde_json::json;

use super::layers::{Item, Shape, steps, width};
use super::lower::{KerasLowering, NodeOutput, unmask};
use super::options::LayerOptions;
use super::parts::{PartNumbers, PartTensor, Parts};
use crate::base::error::Result;
use crate::network::{
    Activation, AttentionScore, AttentionSpec, DenseSpec, FromSpec, GlobalPoolSpec, Join, JoinSpec, LayerSpec,
    NamedSpec, Pool, ReshapeSpec, TransposeSpec,
};

/// Whether layers of this class are read.
pub(super) fn is_known(class: &str) -> bool {
    matches!(class, "Attention" | "AdditiveAttention" | "MultiHeadAttention")
}

/// What a layer of attention reads: the names of the query, one vector for each row or a sequence, and of the others.
struct Given {
    query: String,
    /// Of several queries their timesteps, where they are fixed; none of one query.
    several: Option<Option<usize>>,
    /// Width of the query.
    width: usize,
    key: (String, usize),
    value: (String, usize),
    /// Whether the timesteps of the value that are masked have a share all the same.
    unmasks: bool,
}

/// The output of `item`, and the shares of the timesteps where `scores` says that something reads them.
pub(super) fn lower(
    lowering: &mut KerasLowering,
    index: usize,
    item: &Item<'_>,
    (inputs, scores): (&[NodeOutput], bool),
) -> Result<Vec<NodeOutput>> {
    let options = LayerOptions::new(item.name, item.class, item.config);
    let mut parts = Parts::default();
    let given = given(lowering, item, &options, (inputs, &mut parts))?;
    let many = item.class == "MultiHeadAttention";
    let width = if many {
        heads(item, &options, &given, &mut parts)?
    } else {
        one_head(item, &options, &given, &mut parts)?;
        given.value.1
    };
    options.finish()?;
    if let Some(steps) = given.several {
        if scores {
            return Err(options.unsupported("`return_attention_scores` of several queries"));
        }
        let shape = Shape::Sequence { steps, width };
        return Ok(vec![lowering.append_parts(index, item, parts, (inputs[0], shape, false))]);
    }
    let shares = format!("{}_shares", item.name);
    let shape = Shape::Sequence { steps: Some(1), width };
    let output = lowering.append_parts(index, item, parts, (inputs[0], shape, false));
    if !scores {
        return Ok(vec![output]);
    }
    let steps = inputs.get(2).or(inputs.get(1)).and_then(|key| steps(key.shape));
    let (false, Some(steps)) = (many, steps) else {
        let what = "option `return_attention_scores` of several heads, or of an open number of timesteps";
        return Err(options.unsupported(what));
    };
    let layers = vec![
        LayerSpec::From(FromSpec { layer: shares }),
        LayerSpec::Transpose(TransposeSpec { name: format!("{}_rows", item.name), steps }),
    ];
    lowering.layers.extend(layers);
    let shape = Shape::Sequence { steps: Some(1), width: steps };
    Ok(vec![output, lowering.value(index, 1, item, (shape, false))])
}

/// The inputs of a layer of attention.
fn given(
    lowering: &mut KerasLowering,
    item: &Item<'_>,
    options: &LayerOptions<'_>,
    (inputs, parts): (&[NodeOutput], &mut Parts),
) -> Result<Given> {
    let [query, value, others @ ..] = inputs else {
        return Err(options.unsupported("inputs other than a query, a value and a key"));
    };
    let key = others.first().unwrap_or(value);
    let several = match query.shape {
        Shape::Sequence { .. } if query.masked || others.len() > 1 => {
            return Err(options.unsupported("a query that is masked"));
        }
        Shape::Sequence { steps: Some(1), .. } => None,
        Shape::Sequence { steps, .. } => Some(steps),
        other => return Err(options.unsupported(&format!("a query that is not a sequence [B, T, N] but {other}"))),
    };
    let wide = |input: &NodeOutput| match input.shape {
        Shape::Sequence { width, .. } => Ok(width),
        other => Err(options.unsupported(&format!("a value or key that is not a sequence [B, T, N] but {other}"))),
    };
    let (key_width, value_width) = (wide(key)?, wide(value)?);
    // The mask is the value's; the shares come from the key.
    if value.masked && (!key.masked || key.origin != value.origin) {
        return Err(options.unsupported("a mask of the value that is not the key's"));
    }
    let query_width = width(options, query.shape)?;
    let query = match several {
        Some(_) => lowering.name(query.source),
        None => {
            let row = format!("{}_query", item.name);
            let (name, in_steps, out_steps) = (row.clone(), Some(1), None);
            parts.layers.push(LayerSpec::Reshape(ReshapeSpec { name, in_steps, out_steps }));
            row
        }
    };
    Ok(Given {
        query,
        several,
        width: query_width,
        key: (lowering.name(key.source), key_width),
        value: (lowering.name(value.source), value_width),
        unmasks: key.masked && !value.masked,
    })
}

fn one_head(item: &Item<'_>, options: &LayerOptions<'_>, given: &Given, parts: &mut Parts) -> Result<()> {
    options.none_of(&["causal"])?;
    let additive = item.class == "AdditiveAttention";
    let use_scale = options.flag("use_scale", additive)?;
    let mode = if additive { "concat" } else { options.text("score_mode", "dot")? };
    let of = |part: &str| format!("{}_{part}", item.name);
    let width = given.width;
    if width != given.key.1 {
        return Err(options.unsupported(&format!("a query of {width} features and a key of {}", given.key.1)));
    }
    let join = match mode {
        "dot" => Join::Mul,
        "concat" => Join::Add,
        other => return Err(options.unsupported(&format!("option `score_mode` = {other}"))),
    };
    let mut arrays = Vec::new();
    if use_scale {
        arrays.push(("scale", if additive { vec![width] } else { Vec::new() }));
    }
    if given.several.is_some() {
        // The number that a score has for all features.
        let common = (mode == "concat" && !additive).then_some(arrays.len());
        if common.is_some() {
            arrays.push(("concat_score_weight", Vec::new()));
        }
        let scores = QueryScores { arrays: &arrays, scaled: use_scale && !additive, common, sum: join == Join::Add };
        many_queries(item, given, &scores, parts);
        return Ok(());
    }
    let inputs = vec![given.key.0.clone(), given.query.clone()];
    parts.layers.push(LayerSpec::Join(JoinSpec { name: of("pairs"), inputs, join }));
    let sums = if join == Join::Mul || additive {
        if use_scale { PartNumbers::Cycled(0) } else { PartNumbers::same(1.0) }
    } else {
        arrays.push(("concat_score_weight", Vec::new()));
        if use_scale {
            parts.scale(item, (&of("scaled"), width), &arrays, PartNumbers::Cycled(0));
        }
        PartNumbers::Cycled(arrays.len() - 1)
    };
    if join == Join::Add {
        parts.function(of("tanh"), Activation::Tanh);
    }
    parts.product(item, (&of("scores"), [1, width]), (None, &arrays), sums);
    pooled(item, given, &given.value.0, &of("shares"), parts);
    let (name, in_steps, out_steps) = (item.name.to_owned(), None, Some(1));
    parts.layers.push(LayerSpec::Reshape(ReshapeSpec { name, in_steps, out_steps }));
    Ok(())
}

/// How the scores of one head of several queries are made.
struct QueryScores<'a> {
    /// The layer's arrays.
    arrays: &'a [(&'static str, Vec<usize>)],
    /// Whether queries and, of a sum, keys are multiplied by the first of them.
    scaled: bool,
    /// The array of a number that a score has for all features.
    common: Option<usize>,
    /// Whether scores are made of sums, else of products.
    sum: bool,
}

/// One head of several queries.
fn many_queries(
    item: &Item<'_>,
    given: &Given,
    &QueryScores { arrays, scaled, common, sum }: &QueryScores<'_>,
    parts: &mut Parts,
) {
    let of = |part: &str| format!("{}_{part}", item.name);
    let from = |layer: &str| LayerSpec::From(FromSpec { layer: layer.to_owned() });
    let embed_dim = given.width;
    let (mut query, mut keys) = (given.query.clone(), given.key.0.clone());
    if scaled {
        query = of("queries");
        parts.scale(item, (&query, embed_dim), arrays, PartNumbers::Cycled(0));
    }
    let scales_keys = scaled && sum;
    if scales_keys || given.unmasks {
        parts.layers.push(from(&keys));
        if scales_keys {
            keys = of("keys");
            parts.scale(item, (&keys, embed_dim), arrays, PartNumbers::Cycled(0));
        }
        keys = unmasked(item, given, keys, parts);
        parts.layers.push(from(&query));
    }
    let score = if sum { AttentionScore::Additive } else { AttentionScore::Dot };
    let values = Some(given.value.0.clone());
    let spec = AttentionSpec { name: item.name.to_owned(), embed_dim, keys, values, score, num_heads: 1, scale: 1.0 };
    if !sum {
        parts.layers.push(LayerSpec::Attention(spec));
        return;
    }
    let numbers = match (common, arrays) {
        (Some(array), _) => PartNumbers::Cycled(array),
        (None, []) => PartNumbers::same(1.0),
        (None, _) => PartNumbers::Cycled(0),
    };
    let tensors = vec![PartTensor { name: "weight", shape: vec![embed_dim], numbers }];
    parts.push(item, LayerSpec::Attention(spec), (None, arrays), tensors);
}

/// The name of the keys that were made last, of which all count where the values have no mask.
fn unmasked(item: &Item<'_>, given: &Given, keys: String, parts: &mut Parts) -> String {
    if !given.unmasks {
        return keys;
    }
    let layer = unmask(item);
    let name = layer.name().to_owned();
    parts.layers.push(layer);
    name
}

/// Several heads; returns the width of the output.
fn heads(item: &Item<'_>, options: &LayerOptions<'_>, given: &Given, parts: &mut Parts) -> Result<usize> {
    let (count, key_dim) = (options.size("num_heads")?, options.size("key_dim")?);
    let value_dim = options.get("value_dim").map_or(Ok(key_dim), |_| options.size("value_dim"))?;
    options.none_of(&["use_gate", "sliding_window"])?;
    options.only("attention_axes", &json!([1]))?;
    for shape in ["query_shape", "key_shape", "value_shape", "softmax_robust_masking", "flash_attention"] {
        options.get(shape); // as the inputs are; ways to compute the same
    }
    let outputs = if options.get("output_shape").is_some() { options.length("output_shape", 0)? } else { given.width };
    let bias = options.flag("use_bias", true)?;
    let wide = |each: usize| count.checked_mul(each).filter(|&wide| wide > 0);
    let (Some(keys), Some(values)) = (wide(key_dim), wide(value_dim)) else {
        return Err(options.unsupported(&format!("{count} heads of {key_dim} and {value_dim} features")));
    };
    let of = |part: &str| format!("{}_{part}", item.name);
    let from = |layer: &str| LayerSpec::From(FromSpec { layer: layer.to_owned() });
    let dense = |parts: &mut Parts, name: String, inner, [inputs, heads, outputs]: [usize; 3]| {
        let out = inner == "attention_output";
        let (kernel, offset, out_features, in_features) = match out {
            true => (vec![inputs, heads, outputs], vec![outputs], outputs, inputs * heads),
            false => (vec![inputs, heads, outputs], vec![heads, outputs], heads * outputs, inputs),
        };
        let mut arrays = vec![("kernel", kernel)];
        let numbers = PartNumbers::Transposed(0, in_features);
        let mut tensors = vec![PartTensor { name: "weight", shape: vec![out_features, in_features], numbers }];
        if bias {
            arrays.push(("bias", offset));
            tensors.push(PartTensor { name: "bias", shape: vec![out_features], numbers: PartNumbers::Cycled(1) });
        }
        let spec = DenseSpec { name, in_features, out_features, bias, activation: Activation::Linear };
        parts.push(item, LayerSpec::Dense(spec), (Some(inner), &arrays), tensors);
    };
    dense(parts, of("queries"), "query", [given.width, count, key_dim]);
    let several = given.several.is_some();
    parts.layers.push(from(&given.value.0));
    dense(parts, of("values"), "value", [given.value.1, count, value_dim]);
    parts.layers.push(from(&given.key.0));
    dense(parts, of("keys"), "key", [given.key.1, count, key_dim]);
    #[expect(clippy::cast_precision_loss, reason = "widths are at most 2^24")]
    let factor = (key_dim as f32).sqrt().recip();
    if several {
        let key_layer = unmasked(item, given, of("keys"), parts);
        parts.layers.push(from(&of("queries")));
        parts.layers.push(LayerSpec::Attention(AttentionSpec {
            name: of("heads"),
            embed_dim: keys,
            keys: key_layer,
            values: Some(of("values")),
            score: AttentionScore::Dot,
            num_heads: count,
            scale: factor,
        }));
        dense(parts, item.name.to_owned(), "attention_output", [count, value_dim, outputs]);
        return Ok(outputs);
    }
    let inputs = vec![of("keys"), of("queries")];
    parts.layers.push(LayerSpec::Join(JoinSpec { name: of("pairs"), inputs, join: Join::Mul }));
    // The sum over the features of each head, and the share of each head for all of its features.
    let none = (Some("softmax"), &[][..]);
    let in_head = move |place: usize| if place / keys == place % keys / key_dim { factor } else { 0.0 };
    parts.product(item, (&of("scores"), [count, keys]), none, PartNumbers::Known(Box::new(in_head)));
    softmax(item, given, &of("shares"), parts);
    let of_head = move |place: usize| if place / count / value_dim == place % count { 1.0 } else { 0.0 };
    parts.product(item, (&of("spread"), [values, count]), none, PartNumbers::Known(Box::new(of_head)));
    weighted(item, &of("values"), &of("spread"), parts);
    dense(parts, of("output"), "attention_output", [count, value_dim, outputs]);
    let (name, in_steps, out_steps) = (item.name.to_owned(), None, Some(1));
    parts.layers.push(LayerSpec::Reshape(ReshapeSpec { name, in_steps, out_steps }));
    Ok(outputs)
}

/// The sum of `value` over time, weighted by the softmax of the scores before it.
fn pooled(item: &Item<'_>, given: &Given, value: &str, shares: &str, parts: &mut Parts) {
    softmax(item, given, shares, parts);
    weighted(item, value, shares, parts);
}

fn softmax(item: &Item<'_>, given: &Given, shares: &str, parts: &mut Parts) {
    parts.layers.extend(given.unmasks.then(|| unmask(item)));
    parts.layers.push(LayerSpec::TimeSoftmax(NamedSpec { name: shares.to_owned() }));
}

fn weighted(item: &Item<'_>, value: &str, shares: &str, parts: &mut Parts) {
    let inputs = vec![value.to_owned(), shares.to_owned()];
    let of = |part: &str| format!("{}_{part}", item.name);
    parts.layers.push(LayerSpec::Join(JoinSpec { name: of("weighted"), inputs, join: Join::Mul }));
    parts.layers.push(LayerSpec::GlobalPool(GlobalPoolSpec { name: of("sum"), pool: Pool::Sum }));
}
