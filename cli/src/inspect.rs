//! `gatefold inspect`: the contents of a model file.

use std::path::Path;

use gatefold::Network;
use gatefold::network::{
    Axis, FileStateRow, FileTensor, LayerSpec, RecurrentOutput, Split, Standardize, TextSpec, letters,
};

use serde_json::{Map, Value, json};

use crate::Result;
use crate::args::InspectArgs;
use crate::report::{ERROR, Report};
use crate::source;
use crate::table::{Table, bold, left, right};
use crate::terminal::one_line;
use crate::units::{bytes, count, grouped, shape};

/// Shows layers, tensors, vocabulary and labels.
pub fn run(args: &InspectArgs) -> Result<Report> {
    let network = match source::network(args.model.as_deref()) {
        Ok(network) => network,
        Err(error) => return refused(args.model.as_deref(), error),
    };
    let size: usize = network.tensors().values().map(gatefold::Tensor::stored_bytes).sum();
    let mut text = format!(
        "{}\n{}, {}\n\n",
        bold(&source::name(args.model.as_deref())),
        count(network.parameters(), "parameter"),
        bytes(size as u64)
    );
    text += &format!(
        "input   {}\noutput  {}\n{}\n{}\n{}",
        input(&network),
        output(&network),
        file_axes(&network),
        layers(&network),
        tensors(&network)
    );
    if let Some(TextSpec { standardize, split, vocabulary, output_sequence_length }) = &network.spec().text {
        let rule = match standardize {
            Standardize::LowerAndStripPunctuation => "ASCII letters in lower case, ASCII punctuation dropped",
            Standardize::Lower => "ASCII letters in lower case",
            Standardize::StripPunctuation => "ASCII punctuation dropped",
            Standardize::None => "as it stands",
            _ => "a rule newer than this command",
        };
        let split = match split {
            Split::Whitespace => "split at white space",
            Split::Character => "split behind every character",
            _ => "split by a rule newer than this command",
        };
        let length = output_sequence_length.map(|length| format!(", cut or filled up to {}", count(length, "token")));
        let length = length.unwrap_or_default();
        text += &format!("\nvocabulary  {}; {rule}, {split}{length}\n", count(vocabulary.len(), "token"));
    }
    if !network.spec().labels.is_empty() {
        text += &format!("labels      {}\n", network.spec().labels.join(", "));
    }
    Ok(Report::new(text))
}

/// Everything in a Keras or ONNX file that is not supported; for other files the error.
fn refused(path: Option<&Path>, error: Box<dyn std::error::Error>) -> Result<Report> {
    let Some(Ok(Some(survey))) = path.map(gatefold::formats::survey) else { return Err(error) };
    if survey.refusals.is_empty() {
        return Err(error);
    }
    let mut text = format!("{}\nrefused; not supported in it:\n", bold(&source::name(path)));
    for refusal in &survey.refusals {
        text += &format!("  {}\n", one_line(refusal));
    }
    text += &format!("{} of {} read", grouped(survey.read), count(survey.nodes, "node"));
    if survey.behind > 0 {
        text += &format!(", {} behind what is refused", grouped(survey.behind));
    }
    text += "\n";
    let mut report = Report::new(text);
    report.notes = format!("gatefold: {}\n", one_line(&error.to_string()));
    report.code = ERROR;
    Ok(report)
}

/// The inputs, each with its name where there are several.
fn input(network: &Network) -> String {
    let inputs = network.inputs();
    let each = inputs.iter().enumerate().map(|(number, input)| {
        let axes = network.axes_of_input(number);
        let what = match input.num_embeddings {
            Some(ids) => format!("token ids {} below {}", letters(axes), grouped(ids)),
            None => format!("vectors {}", sized(axes, input.width)),
        };
        if inputs.len() == 1 { what } else { format!("`{}` {what}", gatefold::printable(&input.name, 80)) }
    });
    each.collect::<Vec<_>>().join(", ")
}

fn output(network: &Network) -> String {
    let last = sized(network.output_axes(), network.output_size());
    let others = network.outputs().iter().map(|output| {
        let (axes, features) = network.output_of(output);
        format!(", `{}` {}", gatefold::printable(&output.name, 80), sized(axes, features))
    });
    last + &others.collect::<String>()
}

/// Axes as letters, with the number of features instead of N.
fn sized(axes: &[Axis], features: usize) -> String {
    letters(axes).replace('N', &features.to_string())
}

/// The axes of the file's input and outputs beside those of a run.
fn file_axes(network: &Network) -> String {
    let Some(file) = network.file_axes() else { return String::new() };
    let mut lines = String::new();
    let mut differ = false;
    let mut line = |what: &str, tensor: &FileTensor, run: &[Axis]| {
        differ |= tensor.axes != run;
        let name = gatefold::printable(&tensor.name, 80);
        let [own, run] = [&tensor.axes, run].map(letters);
        lines += &format!("the file's {what} `{name}` is {own}; a run has {run}\n");
    };
    line("input", &file.input, network.input_axes());
    line("output", &file.output, network.output_axes());
    for other in &file.others {
        if let Some(output) = network.outputs().iter().find(|output| output.name == other.name) {
            line("output", other, network.output_of(output).0);
        }
    }
    if differ {
        lines += "T timesteps, B batch rows, D directions, N features (of a run: of all directions)\n";
    }
    for input in &file.fixed {
        let name = gatefold::printable(&input.name, 80);
        lines +=
            &format!("the file's input `{name}` is {}; --integer {name}=N reads it with another number\n", input.value);
    }
    for (what, states) in [("input", &file.states), ("output", &file.final_states)] {
        for state in states {
            let name = gatefold::printable(&state.name, 80);
            let rows: Vec<String> = state.rows.iter().map(state_row).collect();
            lines += &format!("the file's {what} `{name}` [{}, B, N] is the state {}\n", rows.len(), rows.join(", "));
        }
    }
    lines
}

/// `layer.h`, with the row of one that has several.
fn state_row(row: &FileStateRow) -> String {
    let name = gatefold::printable(&format!("{}.{}", row.layer, row.part), 80);
    if row.row == 0 { name } else { format!("{name}[{}]", row.row) }
}

fn layers(network: &Network) -> Table {
    let mut table = Table::new([right("#"), left("layer"), left("name"), left("options")]);
    for (index, layer) in network.spec().layers.iter().enumerate() {
        let name = if layer.name().is_empty() { "-" } else { layer.name() };
        let kind = stored(layer).get("type").map_or_else(|| "-".to_owned(), text);
        table.row([(index + 1).to_string(), kind, name.to_owned(), options(layer)]);
    }
    table
}

/// The layer as stored in the file.
fn stored(layer: &LayerSpec) -> Map<String, Value> {
    match serde_json::to_value(layer) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// Options that the other columns do not show.
fn options(layer: &LayerSpec) -> String {
    let mut options = Vec::new();
    let mut fields = stored(layer);
    for known in ["type", "name", "input_size", "hidden_size", "num_embeddings", "embedding_dim", "in_features"] {
        fields.remove(known);
    }
    for known in ["out_features", "in_channels", "out_channels", "num_layers", "batch_first", "bidirectional", "output"]
    {
        fields.remove(known);
    }
    let mut sizes = |from: usize, to: usize| options.push(format!("{} -> {}", grouped(from), grouped(to)));
    match layer {
        LayerSpec::Input(i) => sizes(i.input_size, i.input_size),
        LayerSpec::Embedding(e) => sizes(e.num_embeddings, e.embedding_dim),
        LayerSpec::Dense(d) => sizes(d.in_features, d.out_features),
        LayerSpec::Conv1d(c) => sizes(c.in_channels, c.out_channels),
        _ => {}
    }
    if let Some((_, recurrent)) = layer.recurrent() {
        options.push(format!("{} -> {}", grouped(recurrent.input_size), grouped(recurrent.output_size())));
        options.push(count(recurrent.num_layers, "level"));
        options.push(
            match (recurrent.bidirectional, recurrent.reverse) {
                (true, _) => "both directions",
                (false, true) => "backwards",
                (false, false) => "forward",
            }
            .into(),
        );
        options.push(if recurrent.batch_first { "batch first" } else { "time first" }.into());
        options.push(if recurrent.output == RecurrentOutput::Last { "last step" } else { "every step" }.into());
    }
    for (option, value) in &fields {
        let words = option.replace('_', " ");
        match value {
            Value::Bool(true) if option != "reset_after" => options.push(words),
            Value::Bool(false) if matches!(option.as_str(), "bias" | "weight") => options.push(format!("no {words}")),
            Value::Bool(false) if option == "reset_after" => options.push("reset before".into()),
            Value::Bool(_) => {}
            Value::Number(number)
                if number.as_u64() == Some(1) && matches!(option.as_str(), "stride" | "dilation" | "groups") => {}
            value if option == "padding" && *value == json!({"zeros": {"left": 0, "right": 0}}) => {}
            Value::String(word) if option == "activation" => options.push(word.clone()),
            value => options.push(format!("{words} {}", text(value))),
        }
    }
    if options.is_empty() { "-".into() } else { options.join(", ") }
}

/// A value without JSON's quotes: `scaled_tanh(alpha 1.7, beta 0.67)`, `[left, right]`.
fn text(value: &Value) -> String {
    match value {
        Value::String(word) => word.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let nested = |(name, value): (&String, &Value)| match value {
                Value::Object(_) => format!("{name}({})", text(value)),
                _ => format!("{name} {}", text(value)),
            };
            fields.iter().map(nested).collect::<Vec<_>>().join(", ")
        }
        // Stored as f32, printed as such instead of with the digits of its f64.
        Value::Number(number) => match number.as_f64() {
            #[expect(clippy::cast_possible_truncation, reason = "it was an f32")]
            Some(float) if number.is_f64() => (float as f32).to_string(),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

fn tensors(network: &Network) -> Table {
    let mut table = Table::new([left("tensor"), right("shape"), right("elements"), left("format"), right("bytes")]);
    for (name, dimensions) in gatefold::network::expected_tensors(network.spec()) {
        let Some(tensor) = network.tensors().get(&name) else { continue };
        let size = bytes(tensor.stored_bytes() as u64);
        let elements = grouped(tensor.data().len());
        table.row([name, shape(&dimensions), elements, tensor.format().to_string(), size]);
    }
    table
}
