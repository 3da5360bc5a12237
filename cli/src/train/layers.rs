//! The layers to train, in short: `embedding:32,lstm:64,dense`.

use gatefold::network::{Cell, DenseSpec, EmbeddingSpec, FORMAT, LayerSpec, RecurrentOutput, RecurrentSpec, TextSpec};
use gatefold::{NetworkSpec, network};

use crate::Result;

/// The description of a network for texts of `text` and answers of `labels`. Names are the layers' types; a second layer
/// of a type has a number.
pub fn network_spec(short: &str, text: TextSpec, labels: Vec<String>) -> Result<NetworkSpec> {
    let parts: Vec<&str> = short.split(',').map(str::trim).collect();
    let mut layers = Vec::new();
    let mut names = std::collections::BTreeMap::<String, usize>::new();
    let mut width = 0;
    for (index, part) in parts.iter().enumerate() {
        let (kind, size) = part.split_once(':').map_or((*part, None), |(kind, size)| (kind, Some(size)));
        let size = size.map(|size| size.parse::<usize>().map_err(|_| wrong(part))).transpose()?;
        let count = names.entry(kind.to_owned()).and_modify(|count| *count += 1).or_insert(1);
        let name = if *count == 1 { kind.to_owned() } else { format!("{kind}_{count}") };
        let last_recurrent =
            !parts[index + 1..].iter().any(|later| cell(later.split(':').next().unwrap_or("")).is_some());
        match (kind, size) {
            ("embedding", Some(embedding_dim)) if index == 0 => {
                let num_embeddings = text.vocabulary.len();
                layers.push(LayerSpec::Embedding(EmbeddingSpec {
                    name,
                    num_embeddings,
                    embedding_dim,
                    mask_zero: true,
                }));
                width = embedding_dim;
            }
            ("dense", size) if index > 0 => {
                let last = index + 1 == parts.len();
                let out_features = match size {
                    None if last => labels.len(),
                    Some(size) if !last => size,
                    _ => return Err(wrong(part)),
                };
                let activation = if last { network::Activation::Linear } else { network::Activation::Relu };
                layers.push(LayerSpec::Dense(DenseSpec {
                    name,
                    in_features: width,
                    out_features,
                    bias: true,
                    activation,
                }));
                width = out_features;
            }
            (kind, Some(size)) if index > 0 && cell(kind).is_some() => {
                let output = if last_recurrent { RecurrentOutput::Last } else { RecurrentOutput::Sequence };
                let spec = RecurrentSpec { output, ..RecurrentSpec::new(name, width, size) };
                layers.extend(cell(kind).map(|cell| LayerSpec::of_cell(cell, spec)));
                width = size;
            }
            _ => return Err(wrong(part)),
        }
    }
    if parts.last().is_none_or(|part| *part != "dense") {
        return Err(format!("layers: expected `dense` at the end, got {short:?}").into());
    }
    layers.push(LayerSpec::Softmax);
    Ok(NetworkSpec { format: FORMAT, layers, text: Some(text), labels })
}

fn cell(kind: &str) -> Option<Cell> {
    Cell::ALL.into_iter().find(|cell| cell.name() == kind)
}

fn wrong(part: &str) -> Box<dyn std::error::Error> {
    let cells: Vec<String> = Cell::ALL.iter().map(|cell| format!("{}:H", cell.name())).collect();
    let known = cells.join(", ");
    format!("layers: expected embedding:E first, then {known} or dense:N, `dense` last, got {part:?}").into()
}
