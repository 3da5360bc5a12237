//! The layers to train, in short: `embedding:32,lstm:64,dense`.

use gatefold::NetworkSpec;
use gatefold::network::{
    Activation, Cell, DenseSpec, EmbeddingSpec, FORMAT, LayerSpec, RecurrentOutput, RecurrentSpec, TextSpec,
};

use crate::Result;

/// What the network reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Ids below this.
    Tokens(usize),
    /// Vectors of so many numbers.
    Features(usize),
}

/// What the data ask of a network.
pub struct Task {
    pub reads: Reads,
    /// The vocabulary, where the ids are of words.
    pub text: Option<TextSpec>,
    /// Names of the classes, where they have any.
    pub labels: Vec<String>,
    /// Classes, or numbers of an answer.
    pub outputs: usize,
    /// Whether an answer is a class that is shown with its probability, so that a softmax is last.
    pub classes: bool,
    /// Whether every timestep has an answer.
    pub per_step: bool,
}

impl Task {
    /// The layers where none are given.
    pub fn default_layers(&self) -> &'static str {
        if matches!(self.reads, Reads::Tokens(_)) { "embedding:32,lstm:64,dense" } else { "lstm:64,dense" }
    }

    /// The description of a network for this task. Names are the layers' types; a second layer of a type has a number.
    pub fn network_spec(&self, short: &str) -> Result<NetworkSpec> {
        let parts: Vec<&str> = short.split(',').map(str::trim).collect();
        let mut layers = Vec::new();
        let mut names = std::collections::BTreeMap::<String, usize>::new();
        let (mut width, first_cell) = match self.reads {
            Reads::Tokens(_) => (0, 1),
            Reads::Features(width) => (width, 0),
        };
        for (index, part) in parts.iter().enumerate() {
            let (kind, size) = part.split_once(':').map_or((*part, None), |(kind, size)| (kind, Some(size)));
            let size = size.map(|size| size.parse::<usize>().map_err(|_| self.wrong(part))).transpose()?;
            let count = names.entry(kind.to_owned()).and_modify(|count| *count += 1).or_insert(1);
            let name = if *count == 1 { kind.to_owned() } else { format!("{kind}_{count}") };
            let last_recurrent =
                !parts[index + 1..].iter().any(|later| cell(later.split(':').next().unwrap_or("")).is_some());
            match (kind, size, self.reads) {
                ("embedding", Some(embedding_dim), Reads::Tokens(num_embeddings)) if index == 0 => {
                    // Id 0 of a vocabulary is padding; other ids mean what the data say.
                    let mask_zero = self.text.is_some();
                    layers.push(LayerSpec::Embedding(EmbeddingSpec { name, num_embeddings, embedding_dim, mask_zero }));
                    width = embedding_dim;
                }
                ("dense", size, _) if index > 0 => {
                    let last = index + 1 == parts.len();
                    let out_features = match size {
                        None if last => self.outputs,
                        Some(size) if !last => size,
                        _ => return Err(self.wrong(part)),
                    };
                    let activation = if last { Activation::Linear } else { Activation::Relu };
                    layers.push(LayerSpec::Dense(DenseSpec {
                        name,
                        in_features: width,
                        out_features,
                        bias: true,
                        activation,
                    }));
                    width = out_features;
                }
                (kind, Some(size), _) if index >= first_cell && cell(kind).is_some() => {
                    let last = last_recurrent && !self.per_step;
                    let output = if last { RecurrentOutput::Last } else { RecurrentOutput::Sequence };
                    let spec = RecurrentSpec { output, ..RecurrentSpec::new(name, width, size) };
                    layers.extend(cell(kind).map(|cell| LayerSpec::of_cell(cell, spec)));
                    width = size;
                }
                _ => return Err(self.wrong(part)),
            }
        }
        if parts.last().is_none_or(|part| *part != "dense") {
            return Err(format!("layers: expected `dense` at the end, got {short:?}").into());
        }
        if self.classes {
            layers.push(LayerSpec::Softmax);
        }
        Ok(NetworkSpec { format: FORMAT, layers, text: self.text.clone(), labels: self.labels.clone() })
    }

    fn wrong(&self, part: &str) -> Box<dyn std::error::Error> {
        let cells: Vec<String> = Cell::ALL.iter().map(|cell| format!("{}:H", cell.name())).collect();
        let known = cells.join(", ");
        let first = match self.reads {
            Reads::Tokens(_) => "embedding:E first, then ",
            Reads::Features(_) => "for vectors ",
        };
        format!("layers: expected {first}{known} or dense:N, `dense` last, got {part:?}").into()
    }
}

/// Sets the rates of zoneout, each LAYER=H or LAYER=H:C.
pub fn zone_out(spec: &mut NetworkSpec, rates: &[String]) -> Result<()> {
    for given in rates {
        let wrong = || format!("--zoneout: expected LAYER=RATE or LAYER=RATE:RATE of a recurrent layer, got {given:?}");
        let (name, of_layer) = given.split_once('=').ok_or_else(wrong)?;
        let (of_h, of_c) = of_layer.split_once(':').unwrap_or((of_layer, "0"));
        let mut layers = spec.layers.iter_mut().filter(|layer| layer.name() == name);
        let (_, layer) = layers.next().and_then(LayerSpec::recurrent_mut).ok_or_else(wrong)?;
        layer.zoneout_h = of_h.parse().map_err(|_| wrong())?;
        layer.zoneout_c = of_c.parse().map_err(|_| wrong())?;
    }
    Ok(())
}

fn cell(kind: &str) -> Option<Cell> {
    Cell::ALL.into_iter().find(|cell| cell.name() == kind)
}
