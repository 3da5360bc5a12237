//! LSTM, GRU, SimpleRNN, RNN of cells and Bidirectional.

use serde_json::{Value, json};

use super::activation::{Version, elementwise};
use super::layers::{Item, Lowered, Shape, sequence, steps};
use super::options::LayerOptions;
use crate::base::error::Result;
use crate::network::{
    Activation, Cell, ChannelsSpec, FinalStateSpec, HiddenOrCell, Join, JoinSpec, LayerSpec, MaskedOutput, MergeMode,
    NamedSpec, RecurrentOutput, RecurrentSpec,
};

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
        "LSTM" | "CuDNNLSTM" => Some(Cell::Lstm),
        "GRU" | "CuDNNGRU" => Some(Cell::Gru),
        "SimpleRNN" => Some(Cell::Rnn),
        _ => None,
    }
}

/// Whether the weights of a layer, or of the layer inside it, are in cuDNN's order.
pub(super) fn is_cudnn(item: &Item<'_>) -> bool {
    let inner = item.config.get("layer").and_then(|layer| layer.get("class_name")).and_then(Value::as_str);
    [Some(item.class), inner].into_iter().flatten().any(|class| class.starts_with("CuDNN"))
}

/// Whether a layer has states that it takes and gives.
pub(super) fn is_recurrent(item: &Item<'_>) -> bool {
    item.class == "Bidirectional" || is_of_one_direction(item.class)
}

pub(super) fn is_of_one_direction(class: &str) -> bool {
    class == "RNN" || cell(class).is_some()
}

/// Where the weights of one of several cells are.
pub(super) struct StackedCell {
    /// The layer of all cells.
    pub layer: String,
    /// The cell's group in numbered files.
    pub group: String,
    /// Its own name, which legacy files have.
    pub name: String,
}

/// Of an RNN of StackedRNNCells, its cells by the names of the layers that they become.
pub(super) fn stacked_cells(item: &Item<'_>) -> Vec<(String, StackedCell)> {
    let mut classes: Vec<&str> = Vec::new();
    let cells = cells_of_stack(item).into_iter().flatten().enumerate().map(|(number, cell)| {
        let class = match class_of(cell) {
            "LSTMCell" => "lstm_cell",
            "GRUCell" => "gru_cell",
            _ => "simple_rnn_cell",
        };
        let before = classes.iter().filter(|other| **other == class).count();
        classes.push(class);
        let group = if before == 0 { class.to_owned() } else { format!("{class}_{before}") };
        let name = cell.pointer("/config/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        (name_in_stack(item.name, number), StackedCell { layer: item.name.to_owned(), group, name })
    });
    cells.collect()
}

const STACKED: &str = "StackedRNNCells";

fn class_of(layer: &Value) -> &str {
    layer.get("class_name").and_then(Value::as_str).unwrap_or_default()
}

/// The configurations of the cells, if the layer has StackedRNNCells.
pub(super) fn cells_of_stack<'a>(item: &Item<'a>) -> Option<&'a Vec<Value>> {
    let cell = item.config.get("cell").filter(|cell| class_of(cell) == STACKED && item.class == "RNN");
    cell?.pointer("/config/cells")?.as_array()
}

/// The layer that one of several cells of `layer` becomes.
pub(super) fn name_in_stack(layer: &str, number: usize) -> String {
    format!("{layer}_cell{number}")
}

pub(super) fn single(item: &Item<'_>, options: &LayerOptions<'_>, shape: Shape) -> Result<Lowered> {
    let width = sequence(options, shape)?;
    let mut stack = stack(item, options, width)?;
    let last = stack.len() - 1;
    let sequence = stack[last].spec.output == RecurrentOutput::Sequence;
    if options.flag("zero_output_for_mask", false)? {
        if !sequence {
            return Err(options.unsupported("option `zero_output_for_mask` without return_sequences"));
        }
        stack[last].spec.masked_output = MaskedOutput::Zero;
    }
    let (go_backwards, shape) = (stack[last].go_backwards, output(&stack[last].spec, shape));
    let reverse = |direction: KerasDirection| RecurrentSpec { reverse: go_backwards, ..direction.spec };
    let mut layers: Vec<LayerSpec> =
        stack.into_iter().map(|direction| layer(direction.cell, reverse(direction))).collect();
    if sequence && go_backwards {
        // Keras returns the outputs in the order in which they were computed.
        layers.push(LayerSpec::Reverse(NamedSpec { name: format!("{}_reversed", item.name) }));
    }
    Ok(Lowered { layers, shape })
}

pub(super) fn bidirectional(item: &Item<'_>, options: &LayerOptions<'_>, shape: Shape) -> Result<Lowered> {
    let width = sequence(options, shape)?;
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
        // Two outputs, which are taken apart afterwards.
        _ => MergeMode::Concat,
    };
    let sequence = spec.output == RecurrentOutput::Sequence;
    spec.masked_output = if sequence { MaskedOutput::Zero } else { MaskedOutput::Previous };
    let shape = output(&spec, shape);
    Ok(Lowered { layers: vec![layer(forward.cell, spec)], shape })
}

/// The layer inside a Bidirectional.
fn wrapped(item: &Item<'_>, outer: &LayerOptions<'_>, config: &Value, width: usize) -> Result<KerasDirection> {
    let inner = Item::nested(item, outer, config)?;
    if !is_of_one_direction(inner.class) {
        return Err(outer.unsupported(&format!("a layer of class {} inside", inner.class)));
    }
    let options = LayerOptions::new(item.name, inner.class, inner.config);
    let mut stack = stack(&inner, &options, width)?;
    let Some(direction) = stack.pop().filter(|_| stack_of_one(&stack, &inner)) else {
        return Err(outer.unsupported(&format!("{STACKED} inside")));
    };
    // Bidirectional sets this option itself and ignores its value here.
    options.get("zero_output_for_mask");
    options.finish()?;
    Ok(direction)
}

/// Whether a layer without its last cell, which are these, has one cell, not in a list.
fn stack_of_one(others: &[KerasDirection], item: &Item<'_>) -> bool {
    others.is_empty() && stacked_cells(item).is_empty()
}

/// The cells of a layer, the first first, at least one.
fn stack(item: &Item<'_>, options: &LayerOptions<'_>, width: usize) -> Result<Vec<KerasDirection>> {
    let last = |spec, cell| finish(options, KerasDirection { cell, spec, go_backwards: false, return_state: false });
    if let Some(cell) = cell(item.class) {
        return Ok(vec![last(spec(item, options, cell, width)?, cell)?]);
    }
    let config = options.get("cell").ok_or_else(|| options.wrong("cell", "a cell", &Value::Null))?;
    let inner = Item::nested(item, options, config)?;
    let cells = match inner.class {
        STACKED => {
            let stacked = LayerOptions::new(item.name, STACKED, inner.config);
            let cells = stacked.get("cells").and_then(Value::as_array).filter(|cells| !cells.is_empty());
            let cells = cells.ok_or_else(|| stacked.wrong("cells", "a list of cells", &Value::Null))?;
            stacked.finish()?;
            cells.iter().map(|cell| Item::nested(item, options, cell)).collect::<Result<Vec<_>>>()?
        }
        _ => vec![inner],
    };
    let (mut width, mut stack) = (width, Vec::with_capacity(cells.len()));
    for (number, inner) in cells.iter().enumerate() {
        let Some(cell) = inner.class.strip_suffix("Cell").and_then(cell) else {
            let supported = "LSTMCell, GRUCell, SimpleRNNCell and StackedRNNCells of them";
            return Err(options.unsupported(&format!("a cell of class {} (supported: {supported})", inner.class)));
        };
        let own = LayerOptions::new(item.name, inner.class, inner.config);
        let mut spec = spec(inner, &own, cell, width)?;
        own.finish()?;
        if class_of(config) == STACKED {
            spec.name = name_in_stack(item.name, number);
        }
        width = spec.hidden_size;
        stack.push(match number + 1 == cells.len() {
            true => last(spec, cell)?,
            false => KerasDirection { cell, spec, go_backwards: false, return_state: false },
        });
    }
    if stack.len() > 1 && stack.last().is_some_and(|last| last.return_state) {
        return Err(options.unsupported(&format!("option `return_state` with {STACKED}")));
    }
    Ok(stack)
}

/// The cell that the options of a layer, or of a cell, describe.
fn spec(item: &Item<'_>, options: &LayerOptions<'_>, cell: Cell, width: usize) -> Result<RecurrentSpec> {
    let mut spec = RecurrentSpec::new(item.name, width, options.size("units")?);
    spec.batch_first = true;
    spec.masked_output = MaskedOutput::Previous;
    if is_cudnn(item) {
        // It has no options for functions and biases.
        return Ok(spec);
    }
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
    Ok(spec)
}

/// The options that all recurrent layers have.
fn finish(options: &LayerOptions<'_>, mut direction: KerasDirection) -> Result<KerasDirection> {
    let sequence = options.flag("return_sequences", false)?;
    direction.spec.output = if sequence { RecurrentOutput::Sequence } else { RecurrentOutput::Last };
    options.only("time_major", &json!(false))?;
    direction.return_state = options.flag("return_state", false)?;
    direction.go_backwards = options.flag("go_backwards", false)?;
    Ok(direction)
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

/// The shape of a layer's output for an input of `shape`.
fn output(spec: &RecurrentSpec, shape: Shape) -> Shape {
    let width = spec.output_size();
    match spec.output {
        RecurrentOutput::Sequence => Shape::Sequence { steps: steps(shape), width },
        RecurrentOutput::Last => Shape::Row(width),
    }
}

/// Makes the recurrent layer among `layers` start from what the layers of these names give; the layers that must come
/// before it.
pub(super) fn set_states(
    item: &Item<'_>,
    layers: &mut [LayerSpec],
    states: &[String],
    rows: bool,
) -> Result<Vec<LayerSpec>> {
    let Some((cell, spec)) = layers.iter_mut().find_map(LayerSpec::recurrent_mut) else { return Ok(Vec::new()) };
    if states.is_empty() {
        return Ok(Vec::new());
    }
    let (directions, parts) = (spec.directions(), if cell.keeps_c() { 2 } else { 1 });
    if states.len() != directions * parts || !rows {
        let expected = format!("{} vectors per row", directions * parts);
        return Err(item.unsupported(&format!("an initial state of other than {expected}")));
    }
    let mut before = Vec::new();
    for part in 0..parts {
        // Those of the second direction come after those of the first.
        let both: Vec<String> = (0..directions).map(|direction| states[direction * parts + part].clone()).collect();
        let name = match &both[..] {
            [one] => one.clone(),
            _ => {
                let name = format!("{}_initial_{}", item.name, ["h", "c"][part]);
                before.push(LayerSpec::Join(JoinSpec { name: name.clone(), inputs: both, join: Join::Concat }));
                name
            }
        };
        *[&mut spec.initial_h, &mut spec.initial_c][part] = Some(name);
    }
    Ok(before)
}

/// The outputs that a layer has after its first: the second direction, if they are not merged, then the states.
pub(super) fn further_outputs(
    item: &Item<'_>,
    cell: Cell,
    spec: &RecurrentSpec,
    shape: Shape,
) -> Vec<(LayerSpec, Shape)> {
    let mut outputs = Vec::new();
    outputs.extend(half(item, spec, shape, 1));
    for direction in 0..spec.directions() {
        for (part, letter) in [(HiddenOrCell::H, "h"), (HiddenOrCell::C, "c")] {
            if part == HiddenOrCell::C && !cell.keeps_c() {
                continue;
            }
            let way = if direction == 1 { "_reverse" } else { "" };
            let (name, layer) = (format!("{}_state_{letter}{way}", item.name), item.name.to_owned());
            let state = FinalStateSpec { name, layer, part, level: None, direction };
            outputs.push((LayerSpec::FinalState(state), Shape::Row(spec.hidden_size)));
        }
    }
    outputs
}

/// The forward direction of a layer that does not merge its two.
pub(super) fn first_half(item: &Item<'_>, spec: &RecurrentSpec, shape: Shape) -> Option<(LayerSpec, Shape)> {
    half(item, spec, shape, 0)
}

fn half(item: &Item<'_>, spec: &RecurrentSpec, shape: Shape, direction: usize) -> Option<(LayerSpec, Shape)> {
    let merges = item.config.get("merge_mode").is_none_or(|mode| !mode.is_null());
    if merges || !spec.bidirectional {
        return None;
    }
    let width = spec.hidden_size;
    let name = format!("{}_{}", item.name, ["forward", "backward"][direction]);
    let part = LayerSpec::Channels(ChannelsSpec { name, start: direction * width, count: width });
    let shape = match shape {
        Shape::Sequence { steps, .. } => Shape::Sequence { steps, width },
        _ => Shape::Row(width),
    };
    Some((part, shape))
}
