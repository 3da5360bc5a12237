//! LSTM, GRU, SimpleRNN and Bidirectional.

use serde_json::{Value, json};

use super::activation::{Version, elementwise};
use super::layers::{Item, Lowered, Shape};
use super::options::LayerOptions;
use crate::base::error::Result;
use crate::network::{Activation, Cell, LayerSpec, MaskedOutput, MergeMode, NamedSpec, RecurrentOutput, RecurrentSpec};

/// One direction as Keras describes it.
#[derive(PartialEq)]
struct KerasDirection {
    cell: Cell,
    spec: RecurrentSpec,
    go_backwards: bool,
    return_state: bool,
}

pub(super) fn cell(class: &str) -> Option<Cell> {
    match class {
        "LSTM" => Some(Cell::Lstm),
        "GRU" => Some(Cell::Gru),
        "SimpleRNN" => Some(Cell::Rnn),
        _ => None,
    }
}

pub(super) fn single(item: &Item<'_>, options: &LayerOptions<'_>, cell: Cell, width: usize) -> Result<Lowered> {
    let mut direction = direction(item, options, cell, width)?;
    let sequence = direction.spec.output == RecurrentOutput::Sequence;
    if options.flag("zero_output_for_mask", false)? {
        if !sequence {
            return Err(options.unsupported("option `zero_output_for_mask` without return_sequences"));
        }
        direction.spec.masked_output = MaskedOutput::Zero;
    }
    let shape = if sequence { Shape::Sequence(direction.spec.output_size()) } else { row(&direction.spec) };
    let mut layers = vec![layer(cell, RecurrentSpec { reverse: direction.go_backwards, ..direction.spec })];
    if sequence && direction.go_backwards {
        // Keras returns the outputs in the order in which they were computed.
        layers.push(LayerSpec::Reverse(NamedSpec { name: format!("{}_reversed", item.name) }));
    }
    Ok(Lowered { layers, shape })
}

pub(super) fn bidirectional(item: &Item<'_>, options: &LayerOptions<'_>, width: usize) -> Result<Lowered> {
    let forward_config = options.get("layer").ok_or_else(|| options.wrong("layer", "a layer", &Value::Null))?;
    let mut forward = wrapped(item, options, forward_config, width)?;
    if let Some(config) = options.get("backward_layer") {
        let backward = wrapped(item, options, config, width)?;
        if !backward.go_backwards {
            return Err(options.unsupported("a backward_layer with go_backwards = false"));
        }
        let both = [&forward, &backward].map(functions).concat();
        if functions(&forward) != functions(&backward) {
            forward.spec.activations = both;
        }
        let activations = forward.spec.activations.clone();
        let same = KerasDirection {
            go_backwards: forward.go_backwards,
            spec: RecurrentSpec { activations, ..backward.spec },
            ..backward
        };
        if same != forward {
            return Err(options.unsupported("a backward_layer with other options than the forward layer"));
        }
    }
    if forward.go_backwards {
        return Err(options.unsupported("a forward layer with go_backwards = true"));
    }
    let mut spec = forward.spec;
    spec.bidirectional = true;
    spec.merge_mode = match options.get("merge_mode") {
        Some(Value::String(mode)) => match mode.as_str() {
            "concat" => MergeMode::Concat,
            "sum" => MergeMode::Sum,
            "ave" => MergeMode::Ave,
            "mul" => MergeMode::Mul,
            other => return Err(options.unsupported(&format!("merge_mode {other}"))),
        },
        _ => return Err(options.unsupported("merge_mode None, two outputs")),
    };
    let sequence = spec.output == RecurrentOutput::Sequence;
    spec.masked_output = if sequence { MaskedOutput::Zero } else { MaskedOutput::Previous };
    let shape = if sequence { Shape::Sequence(spec.output_size()) } else { row(&spec) };
    Ok(Lowered { layers: vec![layer(forward.cell, spec)], shape })
}

/// The layer inside a Bidirectional.
fn wrapped(item: &Item<'_>, outer: &LayerOptions<'_>, config: &Value, width: usize) -> Result<KerasDirection> {
    let inner = Item::nested(item, outer, config)?;
    let Some(cell) = cell(inner.class) else {
        return Err(outer.unsupported(&format!("a layer of class {} inside", inner.class)));
    };
    let options = LayerOptions::new(item.name, inner.class, inner.config);
    let direction = direction(&inner, &options, cell, width)?;
    // Bidirectional sets this option itself and ignores its value here.
    options.get("zero_output_for_mask");
    options.finish()?;
    Ok(direction)
}

fn direction(item: &Item<'_>, options: &LayerOptions<'_>, cell: Cell, width: usize) -> Result<KerasDirection> {
    let mut spec = RecurrentSpec::new(item.name, width, options.size("units")?);
    spec.batch_first = true;
    spec.bias = options.flag("use_bias", true)?;
    options.present("activation")?;
    let activation = elementwise(options, "activation", item.version)?;
    // The function of the gates, then Keras' one for all else.
    spec.activations = vec![activation; cell.default_activations().len()];
    if spec.activations.len() > 1 {
        options.present("recurrent_activation")?;
        spec.activations[0] = elementwise(options, "recurrent_activation", item.version)?;
    }
    if spec.activations == cell.default_activations() {
        spec.activations.clear();
    }
    if cell == Cell::Gru {
        // Early Keras 2 had no such option, which meant false; later every file states it.
        let absent = (item.version == Version::Two && options.get("reset_after").is_none()).then_some(false);
        let stated = options.get("reset_after").and_then(Value::as_bool).or(absent);
        spec.reset_after = stated.ok_or_else(|| options.wrong("reset_after", "true or false", &Value::Null))?;
    }
    let sequence = options.flag("return_sequences", false)?;
    spec.output = if sequence { RecurrentOutput::Sequence } else { RecurrentOutput::Last };
    spec.masked_output = MaskedOutput::Previous;
    options.only("time_major", &json!(false))?;
    let return_state = options.flag("return_state", false)?;
    Ok(KerasDirection { cell, spec, go_backwards: options.flag("go_backwards", false)?, return_state })
}

fn functions(direction: &KerasDirection) -> Vec<Activation> {
    match direction.spec.activations.as_slice() {
        [] => direction.cell.default_activations().to_vec(),
        given => given.to_vec(),
    }
}

fn layer(cell: Cell, spec: RecurrentSpec) -> LayerSpec {
    LayerSpec::of_cell(cell, spec)
}

fn row(spec: &RecurrentSpec) -> Shape {
    Shape::Row(spec.output_size())
}
