//! The networks, by how much they keep.

use std::fmt;

use clap::ValueEnum;
use gatefold::network::{
    Activation, AttentionScore, AttentionSpec, Cell, DenseSpec, EmbeddingSpec, FinalStateSpec, HiddenOrCell, Init,
    Join, JoinSpec, LayerSpec, NtmSpec, RecurrentOutput, RecurrentSpec,
};
use gatefold::{Network, NetworkSpec};

use super::task::Task;
use crate::Result;

/// A kind of network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Model {
    Lstm,
    Gru,
    /// A memory with one read and one write head, and an LSTM as its controller
    Ntm,
    /// An LSTM and one look at all of its outputs
    Attention,
    /// Two layers, as the gates of one see the input alone
    #[value(name = "min_gru")]
    MinGru,
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lstm => "LSTM",
            Self::Gru => "GRU",
            Self::Ntm => "NTM",
            Self::Attention => "attention",
            Self::MinGru => "minGRU",
        })
    }
}

/// Width of a word.
const EMBEDDING: usize = 32;
/// M, width of a row of a memory.
const COLUMNS: usize = 16;
/// Layers of minGRU.
const LAYERS: usize = 2;
/// Fewest numbers of state of which every kind can be made.
pub const LEAST: usize = 128;

/// A network of a kind for a task.
pub struct Sized {
    pub network: Network,
    /// As a person would say it: `H 256`.
    pub size: String,
    /// Numbers that a stream keeps at the end of the longest sequence.
    pub kept: usize,
}

impl Model {
    /// Fewest numbers of state of a network of this kind.
    pub fn least(self) -> usize {
        if self == Self::Ntm { LEAST } else { 8 }
    }

    /// The largest network that keeps at most `numbers` numbers, with random weights.
    pub fn sized(self, task: Task, numbers: usize, seed: u64) -> Result<Sized> {
        let (cell, size) = self.cell(task, numbers);
        let (head, inputs) = match task.rules() {
            Some(rules) => (None, rules.inputs),
            None => (Some(embedding()), EMBEDDING),
        };
        let last = task.rules().is_none();
        let (layers, width) = match cell {
            Part::Ntm { rows, hidden } => {
                let mut layer = NtmSpec::new("memory", inputs, hidden, [rows, COLUMNS]);
                // The memory's start is random numbers; what is read first is 0.
                layer.output = output(last);
                let width = layer.output_size();
                (vec![LayerSpec::Ntm(layer)], width)
            }
            Part::Cell { cell, hidden, layers } => {
                let layer = RecurrentSpec {
                    num_layers: layers,
                    output: output(last),
                    ..RecurrentSpec::new("cell", inputs, hidden)
                };
                (vec![LayerSpec::of_cell(cell, layer)], hidden)
            }
            Part::Attention { hidden } => (looking_back(inputs, hidden, last), 2 * hidden),
        };
        let answer = dense("answer", width, task.outputs());
        let layers = head.into_iter().chain(layers).chain([answer]).collect();
        let spec = NetworkSpec { format: 1, layers, text: None, labels: Vec::new() };
        let network = Network::initialized(spec, Init::Keras, seed)?;
        let parts = network.kept().iter().flat_map(|layer| &layer.parts);
        let of_parts: usize = parts.map(|part| part.rows * part.width()).sum();
        // What is looked back at is kept too: the outputs of all timesteps.
        let looked_at = if let Part::Attention { hidden } = cell { task.longest() * hidden } else { 0 };
        Ok(Sized { network, size, kept: of_parts + looked_at })
    }

    /// Its recurrent layer and the name of its size.
    fn cell(self, task: Task, numbers: usize) -> (Part, String) {
        let cell = |cell, hidden, layers| Part::Cell { cell, hidden, layers };
        match self {
            // h and c
            Self::Lstm => (cell(Cell::Lstm, numbers / 2, 1), format!("H {}", numbers / 2)),
            Self::Gru => (cell(Cell::Gru, numbers, 1), format!("H {numbers}")),
            Self::MinGru => {
                (cell(Cell::MinGru, numbers / LAYERS, LAYERS), format!("{LAYERS} x H {}", numbers / LAYERS))
            }
            Self::Ntm => {
                // A row has its numbers and a weight of either head; a row is read. Three quarters are rows, the rest is h and c.
                let row = COLUMNS + 2;
                let rows = numbers * 3 / 4 / row;
                let hidden = (numbers - COLUMNS - rows * row) / 2;
                (Part::Ntm { rows, hidden }, format!("H {hidden}, {rows} x {COLUMNS}"))
            }
            Self::Attention => {
                let hidden = (numbers / (2 + task.longest())).max(1);
                (Part::Attention { hidden }, format!("H {hidden}"))
            }
        }
    }
}

enum Part {
    Cell { cell: Cell, hidden: usize, layers: usize },
    Ntm { rows: usize, hidden: usize },
    Attention { hidden: usize },
}

fn output(last: bool) -> RecurrentOutput {
    if last { RecurrentOutput::Last } else { RecurrentOutput::Sequence }
}

fn embedding() -> LayerSpec {
    LayerSpec::Embedding(EmbeddingSpec {
        name: "embedding".into(),
        num_embeddings: Task::words(),
        embedding_dim: EMBEDDING,
        mask_zero: true,
    })
}

fn dense(name: &str, in_features: usize, out_features: usize) -> LayerSpec {
    LayerSpec::Dense(DenseSpec {
        name: name.into(),
        in_features,
        out_features,
        bias: true,
        activation: Activation::Linear,
    })
}

/// An LSTM whose h, of every timestep or of the last, looks at those of all timesteps; h and what was seen.
fn looking_back(inputs: usize, hidden: usize, last: bool) -> Vec<LayerSpec> {
    let end =
        FinalStateSpec { name: "end".into(), layer: "cell".into(), part: HiddenOrCell::H, level: None, direction: 0 };
    let asking = if last { "end" } else { "cell" };
    let mut layers = vec![LayerSpec::Lstm(RecurrentSpec::new("cell", inputs, hidden))];
    layers.extend(last.then_some(LayerSpec::FinalState(end)));
    layers.extend([
        dense("query", hidden, hidden),
        LayerSpec::Attention(AttentionSpec {
            name: "seen".into(),
            embed_dim: hidden,
            keys: "cell".into(),
            values: None,
            score: AttentionScore::Dot,
            num_heads: 1,
            scale: 1.0,
        }),
        LayerSpec::Join(JoinSpec {
            name: "both".into(),
            inputs: vec!["seen".into(), asking.into()],
            join: Join::Concat,
        }),
    ]);
    layers
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn small(task: Task) -> Network {
        Model::Lstm.sized(task, LEAST, 1).expect("a network").network
    }

    /// Exactly as asked where one number is the smallest step; attention, whose step is `T + 2` numbers, keeps less.
    #[test]
    fn networks_of_one_size_keep_the_same() {
        for task in [Task::Copy, Task::Recall, Task::Questions] {
            for numbers in [LEAST, 256, 258] {
                for model in [Model::Lstm, Model::Gru, Model::Ntm, Model::MinGru] {
                    let kept = model.sized(task, numbers, 1).expect("a network").kept;
                    assert_eq!(kept, numbers, "{model} {task}");
                }
                let kept = Model::Attention.sized(task, numbers, 1).expect("a network").kept;
                let step = task.longest() + 2;
                assert!(kept <= numbers && kept + step > numbers && kept.is_multiple_of(step), "{kept} {task}");
            }
        }
    }
}
