//! `gatefold inspect`: what is in a model file.

use gatefold::Network;
use gatefold::network::{LayerSpec, RecurrentOutput, Split, Standardize, TextSpec};

use crate::Result;
use crate::args::InspectArgs;
use crate::report::Report;
use crate::source;
use crate::table::{Table, bold, left, right};
use crate::units::{bytes, count, grouped, printable, shape};

/// Shows layers, tensors, vocabulary and labels.
pub fn run(args: &InspectArgs) -> Result<Report> {
    let network = source::network(args.model.as_deref())?;
    let size: usize = network.tensors().values().map(|tensor| size_of_val(tensor.data())).sum();
    let mut text = format!(
        "{}\n{}, {} in f32\n\n",
        bold(&source::name(args.model.as_deref())),
        count(network.parameters(), "parameter"),
        bytes(size as u64)
    );
    text += &format!(
        "input   {}\noutput  {}\n\n{}\n{}",
        input(&network),
        output(&network),
        layers(&network),
        tensors(&network)
    );
    if let Some(TextSpec { standardize, split, vocabulary }) = &network.spec().text {
        let rule = match standardize {
            Standardize::LowerAndStripPunctuation => "ASCII letters in lower case, ASCII punctuation dropped",
            _ => "a rule newer than this command",
        };
        let split = match split {
            Split::Whitespace => "split at white space",
            _ => "split by a rule newer than this command",
        };
        text += &format!("\nvocabulary  {}; {rule}, {split}\n", count(vocabulary.len(), "token"));
    }
    if !network.spec().labels.is_empty() {
        text += &format!("labels      {}\n", printable(&network.spec().labels.join(", ")));
    }
    Ok(Report::new(text))
}

fn input(network: &Network) -> String {
    let order = if network.batch_first() { "B, T" } else { "T, B" };
    match network.num_embeddings() {
        Some(ids) => format!("token ids [{order}] below {}", grouped(ids)),
        None => format!("vectors [{order}, {}]", network.input_size()),
    }
}

fn output(network: &Network) -> String {
    let width = network.output_size();
    match (network.output_is_sequence(), network.batch_first()) {
        (false, _) => format!("[B, {width}]"),
        (true, false) => format!("[T, B, {width}]"),
        (true, true) => format!("[B, T, {width}]"),
    }
}

fn layers(network: &Network) -> Table {
    let mut table = Table::new([right("#"), left("layer"), left("name"), left("options")]);
    for (index, layer) in network.spec().layers.iter().enumerate() {
        let (kind, name, options) = match layer {
            LayerSpec::Embedding(e) => {
                ("embedding", e.name.as_str(), format!("{} -> {}", grouped(e.num_embeddings), grouped(e.embedding_dim)))
            }
            LayerSpec::Lstm(lstm) => {
                let mut options =
                    vec![format!("{} -> {}", grouped(lstm.input_size), grouped(lstm.directions() * lstm.hidden_size))];
                options.push(count(lstm.num_layers, "level"));
                options.push(if lstm.bidirectional { "both directions" } else { "forward" }.into());
                options.push(if lstm.bias { "bias" } else { "no bias" }.into());
                options.push(if lstm.batch_first { "batch first" } else { "time first" }.into());
                options.push(if lstm.output == RecurrentOutput::Last { "last step" } else { "every step" }.into());
                ("lstm", lstm.name.as_str(), options.join(", "))
            }
            LayerSpec::Dense(dense) => {
                let activation = format!("{:?}", dense.activation).to_lowercase();
                let bias = if dense.bias { "bias" } else { "no bias" };
                let sizes = format!("{} -> {}", grouped(dense.in_features), grouped(dense.out_features));
                ("dense", dense.name.as_str(), format!("{sizes}, {bias}, {activation}"))
            }
            LayerSpec::Softmax => ("softmax", "-", "-".to_owned()),
            _ => ("newer than this command", "-", "-".to_owned()),
        };
        table.row([(index + 1).to_string(), kind.to_owned(), printable(name), options]);
    }
    table
}

fn tensors(network: &Network) -> Table {
    let mut table = Table::new([left("tensor"), right("shape"), right("elements"), right("bytes")]);
    for (name, dimensions) in gatefold::network::expected_tensors(network.spec()) {
        let elements: usize = dimensions.iter().product();
        let size = bytes(elements as u64 * 4);
        table.row([printable(&name), shape(&dimensions), grouped(elements), size]);
    }
    table
}
