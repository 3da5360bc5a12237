//! Checks of a description that do not depend on neighbouring layers.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Activation, Cell, Conv1dSpec, FORMAT, INPUT, InputKind, LayerSpec, MAX_DIMENSION, MAX_LAYERS, MergeMode,
    NetworkSpec, PadMode, Padding, RecurrentSpec, Stage, Tensor,
};
use crate::base::error::{Error, Result};

/// All checks of options that do not need the neighbouring layers.
pub(super) fn options(spec: &NetworkSpec) -> Result<()> {
    if spec.format == 0 || spec.format > FORMAT {
        return Err(Error::Malformed {
            what: "network description".into(),
            expected: format!("format 1 to {FORMAT}"),
            got: format!("format {}", spec.format),
        });
    }
    if spec.layers.is_empty() || spec.layers.len() > MAX_LAYERS {
        let expected = format!("1 to {MAX_LAYERS}");
        return Err(Error::network("network", "number of layers", expected, &spec.layers.len()));
    }
    let (mut names, mut outputs) = (BTreeSet::from([INPUT]), BTreeSet::new());
    let mut batch_first = None;
    for (index, layer) in spec.layers.iter().enumerate() {
        let name = layer.name();
        let unnamed = match layer {
            // The first is called so in any case.
            LayerSpec::Input(input) => input.name.is_empty() || index == 0 && input.name == INPUT,
            LayerSpec::Softmax | LayerSpec::From(_) => true,
            // Outputs have names of their own.
            LayerSpec::Output(output) => {
                if output.name.is_empty() || !outputs.insert(name) {
                    let expected = "a name that no other output has";
                    return Err(Error::network(name, "name", expected, &format!("{name:?}")));
                }
                true
            }
            _ => false,
        };
        if !unnamed && (name.is_empty() || !names.insert(name)) {
            return Err(Error::network(name, "name", "a name that no other layer has", &format!("{name:?}")));
        }
        for (option, size) in sizes(layer) {
            let most = if option == "num_layers" { MAX_LAYERS } else { MAX_DIMENSION };
            if size == 0 || size > most {
                return Err(Error::network(name, option, format!("1 to {most}"), &size));
            }
        }
        match layer {
            LayerSpec::Conv1d(c) => conv1d(c)?,
            LayerSpec::Pool1d(p) => padding(&p.name, p.padding)?,
            LayerSpec::Input(i) if i.kind == InputKind::Tokens && i.input_size > 0 => {
                return Err(Error::network(name, "input_size", "none, since it is token ids", &i.input_size));
            }
            LayerSpec::Pad(p) if p.mode == PadMode::Reflect && p.left.min(p.right) < 0 => {
                return Err(Error::network(name, "padding", "0 or more, since it is reflected", &p.left.min(p.right)));
            }
            LayerSpec::Pad(p) => [p.left, p.right].into_iter().try_for_each(|side| within(name, "padding", side))?,
            LayerSpec::Slice(s) => {
                [s.start, s.end.unwrap_or(0)].into_iter().try_for_each(|place| within(name, "timestep", place))?;
            }
            LayerSpec::Masking(m) if m.mask_value.is_nan() => {
                return Err(Error::network(name, "mask_value", "a number", &m.mask_value));
            }
            LayerSpec::Dense(d) => activation(name, d.activation)?,
            LayerSpec::Activation(a) => activation(name, a.activation)?,
            LayerSpec::LayerNorm(n) | LayerSpec::BatchNorm(n) if !(n.eps >= 0.0 && n.eps.is_finite()) => {
                return Err(Error::network(name, "eps", "a number from 0", &n.eps));
            }
            LayerSpec::Attention(a) if !a.embed_dim.is_multiple_of(a.num_heads) => {
                return Err(Error::network(
                    name,
                    "num_heads",
                    format!("a divisor of embed_dim, {}", a.embed_dim),
                    &a.num_heads,
                ));
            }
            LayerSpec::Attention(a) if !a.scale.is_finite() => {
                return Err(Error::network(name, "scale", "a finite number", &a.scale));
            }
            LayerSpec::Ntm(n) => n.check()?,
            LayerSpec::Join(j) if j.inputs.len() < 2 => {
                return Err(Error::network(name, "inputs", "at least 2", &j.inputs.len()));
            }
            _ => {}
        }
        if let Some((cell, r)) = layer.recurrent() {
            recurrent(cell, r)?;
            if *batch_first.get_or_insert(r.batch_first) != r.batch_first {
                let expected = "the same in every recurrent layer of a network";
                return Err(Error::network(name, "batch_first", expected, &r.batch_first));
            }
        }
    }
    vocabulary(spec)
}

/// The options of `layer` that count something, none of which may be 0.
fn sizes(layer: &LayerSpec) -> Vec<(&'static str, usize)> {
    if let Some((_, r)) = layer.recurrent() {
        return vec![("input_size", r.input_size), ("hidden_size", r.hidden_size), ("num_layers", r.num_layers)];
    }
    match layer {
        LayerSpec::Input(i) if i.kind == InputKind::Tokens => Vec::new(),
        LayerSpec::Input(i) => vec![("input_size", i.input_size)],
        LayerSpec::Embedding(e) => vec![("num_embeddings", e.num_embeddings), ("embedding_dim", e.embedding_dim)],
        LayerSpec::Dense(d) => vec![("in_features", d.in_features), ("out_features", d.out_features)],
        LayerSpec::Conv1d(c) => vec![
            ("in_channels", c.in_channels),
            ("out_channels", c.out_channels),
            ("kernel_size", c.kernel_size),
            ("stride", c.stride),
            ("dilation", c.dilation),
            ("groups", c.groups),
        ],
        LayerSpec::Pool1d(p) => vec![("kernel_size", p.kernel_size), ("stride", p.stride)],
        LayerSpec::LayerNorm(n) | LayerSpec::BatchNorm(n) => vec![("num_features", n.num_features)],
        LayerSpec::Repeat(r) => vec![("times", r.times)],
        LayerSpec::Reshape(r) => {
            let steps = [("in_steps", r.in_steps), ("out_steps", r.out_steps)];
            steps.into_iter().filter_map(|(option, steps)| Some((option, steps?))).collect()
        }
        LayerSpec::Slice(s) => vec![("step", s.step)],
        LayerSpec::Transpose(t) => vec![("steps", t.steps)],
        LayerSpec::Channels(c) => vec![("count", c.count)],
        LayerSpec::Ntm(n) => n.sizes(),
        LayerSpec::Attention(a) => vec![("embed_dim", a.embed_dim), ("num_heads", a.num_heads)],
        LayerSpec::Feedback(f) => vec![("num_features", f.num_features)],
        _ => Vec::new(),
    }
}

fn recurrent(cell: Cell, spec: &RecurrentSpec) -> Result<()> {
    let name = &spec.name;
    let fail =
        |what: &str, expected: String, got: &dyn std::fmt::Display| Err(Error::network(name, what, expected, got));
    for (option, set) in spec.cell_options() {
        if set && !cell.has_option(option) {
            return fail(option, format!("it only on {}", Cell::with_option(option)), &cell.name());
        }
    }
    if spec.proj_size >= spec.hidden_size && spec.proj_size > 0 {
        return fail("proj_size", format!("less than hidden_size, {}", spec.hidden_size), &spec.proj_size);
    }
    if spec.reverse && spec.bidirectional {
        return fail("reverse", "false, since bidirectional has both directions".into(), &true);
    }
    if spec.merge_mode != MergeMode::Concat && !spec.bidirectional {
        let got = format!("{:?}", spec.merge_mode).to_lowercase();
        return fail("merge_mode", "concat, unless bidirectional".into(), &got);
    }
    let functions = cell.default_activations().len();
    let wanted = [0, functions, functions * spec.directions()];
    if !wanted.contains(&spec.activations.len()) {
        let expected = format!("none, {functions} or {} functions", functions * spec.directions());
        return fail("activations", expected, &spec.activations.len());
    }
    for &function in &spec.activations {
        activation(name, function)?;
    }
    if spec.num_heads == 0 || !spec.hidden_size.is_multiple_of(spec.num_heads) {
        return fail("num_heads", format!("a divisor of hidden_size, {}", spec.hidden_size), &spec.num_heads);
    }
    if cell == Cell::Slstm {
        slstm(spec)?;
    }
    if !(spec.layer_norm_eps >= 0.0 && spec.layer_norm_eps.is_finite()) {
        return fail("layer_norm_eps", "a number from 0".into(), &spec.layer_norm_eps);
    }
    for (option, rate) in [("zoneout_h", spec.zoneout_h), ("zoneout_c", spec.zoneout_c)] {
        if !(0.0..1.0).contains(&rate) {
            return fail(option, "a rate from 0 to below 1".into(), &rate);
        }
    }
    for (option, bound) in [("clip", spec.clip), ("cell_clip", spec.cell_clip)] {
        if let Some(bound) = bound.filter(|&bound| !(bound > 0.0 && bound.is_finite())) {
            return fail(option, "a number above 0".into(), &bound);
        }
    }
    Ok(())
}

/// What an sLSTM cannot do.
fn slstm(spec: &RecurrentSpec) -> Result<()> {
    let functions = Cell::Slstm.default_activations().len();
    let of_forget = spec.activations.iter().step_by(functions);
    if let Some(function) = of_forget.clone().find(|&&one| !matches!(one, Activation::Sigmoid | Activation::Exp)) {
        let expected = "sigmoid or exp as the function of an sLSTM's forget gate";
        return Err(Error::network(&spec.name, "activations", expected, &format!("{function:?}")));
    }
    if spec.num_heads > 1 {
        spread(
            &spec.name,
            [4, spec.hidden_size, spec.hidden_size],
            "4 * hidden_size * hidden_size of an sLSTM with heads",
        )?;
    }
    // A c means nothing without its n and m.
    let stored = [(spec.initial_state, "initial_state"), (spec.initial_c.is_some(), "initial_c")];
    match stored.into_iter().find(|(given, _)| *given) {
        Some((_, option)) => {
            Err(Error::network(&spec.name, option, "none of an sLSTM, whose c has an n and an m", &"one"))
        }
        None => Ok(()),
    }
}

/// Numbers of a matrix that is stored in parts.
const MAX_SPREAD: usize = 1 << 30;

/// Refuses what would be too large where devices multiply by all inputs, with 0 for those of other groups or heads: few weights can
/// stand for many numbers.
fn spread(name: &str, sizes: [usize; 3], what: &str) -> Result<()> {
    let needed = sizes.into_iter().fold(1, usize::saturating_mul);
    if needed <= MAX_SPREAD {
        return Ok(());
    }
    Err(Error::TooLarge {
        what: format!("layer `{name}`: {what}"),
        needed: needed as u64,
        limit: MAX_SPREAD as u64,
        limit_name: "gatefold's own".into(),
    })
}

fn conv1d(spec: &Conv1dSpec) -> Result<()> {
    let divides = |channels: usize| channels.is_multiple_of(spec.groups);
    if !divides(spec.in_channels) || !divides(spec.out_channels) {
        let expected = format!("a divisor of {} and {} channels", spec.in_channels, spec.out_channels);
        return Err(Error::network(&spec.name, "groups", expected, &spec.groups));
    }
    if spec.kernel_size.checked_mul(spec.dilation).is_none_or(|span| span > MAX_DIMENSION) {
        let expected = format!("kernel_size * dilation up to {MAX_DIMENSION}");
        return Err(Error::network(&spec.name, "dilation", expected, &spec.dilation));
    }
    if spec.groups > 1 {
        let sizes = [spec.out_channels, spec.in_channels, spec.kernel_size];
        spread(&spec.name, sizes, "out_channels * in_channels * kernel_size of a convolution in groups")?;
    }
    activation(&spec.name, spec.activation)?;
    padding(&spec.name, spec.padding)
}

fn padding(name: &str, padding: Padding) -> Result<()> {
    match padding {
        Padding::Zeros { left, right } if left.max(right) > MAX_DIMENSION => {
            Err(Error::network(name, "padding", format!("up to {MAX_DIMENSION}"), &left.max(right)))
        }
        _ => Ok(()),
    }
}

/// A number of timesteps that may count from the end.
fn within(name: &str, option: &str, steps: i64) -> Result<()> {
    if usize::try_from(steps.unsigned_abs()).is_ok_and(|steps| steps <= MAX_DIMENSION) {
        return Ok(());
    }
    Err(Error::network(name, option, format!("-{MAX_DIMENSION} to {MAX_DIMENSION}"), &steps))
}

fn activation(name: &str, activation: Activation) -> Result<()> {
    activation.parameters().into_iter().try_for_each(|parameter| finite(name, "activation", parameter))
}

fn finite(name: &str, option: &str, number: f32) -> Result<()> {
    if number.is_finite() { Ok(()) } else { Err(Error::network(name, option, "finite numbers", &number)) }
}

fn vocabulary(spec: &NetworkSpec) -> Result<()> {
    let Some(text) = &spec.text else { return Ok(()) };
    if let Some(length) = text.output_sequence_length.filter(|length| !(1..=MAX_DIMENSION).contains(length)) {
        let expected = format!("1 to {MAX_DIMENSION}");
        return Err(Error::network("text", "output_sequence_length", expected, &length));
    }
    match spec.layers.iter().find(|layer| !matches!(layer, LayerSpec::Input(_))) {
        Some(LayerSpec::Embedding(e)) if e.num_embeddings >= text.vocabulary.len() => Ok(()),
        Some(LayerSpec::Embedding(e)) => {
            let expected = format!("at least the vocabulary's {} tokens", text.vocabulary.len());
            Err(Error::network(&e.name, "num_embeddings", expected, &e.num_embeddings))
        }
        _ => Err(Error::network("network", "first layer", "an embedding, since there is a vocabulary", &"none")),
    }
}

/// Class names need one vector per row, as wide as there are names.
pub(super) fn labels(spec: &NetworkSpec, stages: &[Stage]) -> Result<()> {
    let Some(last) = stages.last().filter(|_| !spec.labels.is_empty()) else { return Ok(()) };
    if last.sequence_out || last.out_features != spec.labels.len() {
        let width = last.out_features;
        let got = if last.sequence_out { format!("[T, B, {width}]") } else { format!("[B, {width}]") };
        return Err(Error::network(&last.label, "output", format!("[B, {}], one per label", spec.labels.len()), &got));
    }
    Ok(())
}

/// A batch normalization divides by the root of these.
pub(super) fn variances(spec: &NetworkSpec, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    for layer in &spec.layers {
        let LayerSpec::BatchNorm(norm) = layer else { continue };
        let name = format!("{}.running_var", norm.name);
        let Some(variance) = tensors.get(&name) else { continue };
        if let Some(&bad) = variance.data().iter().find(|&&variance| variance + norm.eps <= 0.0) {
            let expected = format!("variances above {}, so that with eps they are positive", -norm.eps);
            return Err(Error::network(&norm.name, "running_var", expected, &bad));
        }
    }
    Ok(())
}
