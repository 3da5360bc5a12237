//! A benchmark case: one recurrent network and the size of its input.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use gatefold::network::{self, FORMAT, LayerSpec, RecurrentSpec};
use gatefold::{NetworkSpec, RandomInput};
use serde::{Deserialize, Serialize};

/// The kind of recurrent layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    #[default]
    Lstm,
    Gru,
    Rnn,
    MinGru,
    MinLstm,
    Sru,
    Qrnn,
    IndRnn,
}

impl Cell {
    const ALL: [Self; 8] =
        [Self::Lstm, Self::Gru, Self::Rnn, Self::MinGru, Self::MinLstm, Self::Sru, Self::Qrnn, Self::IndRnn];

    /// The library's.
    fn cell(self) -> network::Cell {
        match self {
            Self::Lstm => network::Cell::Lstm,
            Self::Gru => network::Cell::Gru,
            Self::Rnn => network::Cell::Rnn,
            Self::MinGru => network::Cell::MinGru,
            Self::MinLstm => network::Cell::MinLstm,
            Self::Sru => network::Cell::Sru,
            Self::Qrnn => network::Cell::Qrnn,
            Self::IndRnn => network::Cell::IndRnn,
        }
    }
}

impl Display for Cell {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lstm => "LSTM",
            Self::Gru => "GRU",
            Self::Rnn => "RNN",
            Self::MinGru => "minGRU",
            Self::MinLstm => "minLSTM",
            Self::Sru => "SRU",
            Self::Qrnn => "QRNN",
            Self::IndRnn => "IndRNN",
        })
    }
}

/// A recurrent network with its T and B.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    pub cell: Cell,
    /// H
    pub hidden: usize,
    /// I
    pub input: usize,
    /// L
    pub layers: usize,
    pub bidirectional: bool,
    /// T
    pub steps: usize,
    /// B
    pub batch: usize,
}

const KEYS: &str = "cell, hidden, input, layers, bidirectional, steps, batch";

impl Shape {
    /// One layer, I as H.
    pub fn new(cell: Cell, hidden: usize, steps: usize, batch: usize) -> Self {
        Self { cell, hidden, input: hidden, layers: 1, bidirectional: false, steps, batch }
    }

    /// A short sequence, a long one, a wide network, and one with a batch that fills a GPU.
    pub fn defaults(quick: bool) -> Vec<Self> {
        let shape = |hidden, steps, batch| Self::new(Cell::Lstm, hidden, steps, batch);
        if quick {
            return vec![shape(64, 20, 1), shape(128, 20, 8)];
        }
        vec![shape(64, 100, 1), shape(256, 100, 1), shape(512, 25, 1), shape(256, 25, 32)]
    }

    /// What `--train` times: small and large ones, with vectors of 64 from an embedding.
    pub fn of_training(quick: bool) -> Vec<Self> {
        let shape = |cell, hidden, steps, batch| Self { input: 64, ..Self::new(cell, hidden, steps, batch) };
        if quick {
            return vec![shape(Cell::Lstm, 64, 20, 8), shape(Cell::Gru, 64, 20, 8)];
        }
        let lstm = [(128, 50, 16), (128, 100, 32), (256, 100, 32), (512, 50, 16)];
        let lstm = lstm.map(|(hidden, steps, batch)| shape(Cell::Lstm, hidden, steps, batch));
        lstm.into_iter().chain([shape(Cell::Gru, 128, 100, 32)]).collect()
    }

    /// The network.
    pub fn spec(&self) -> NetworkSpec {
        let layer = RecurrentSpec {
            num_layers: self.layers,
            bidirectional: self.bidirectional,
            ..RecurrentSpec::new("layer", self.input, self.hidden)
        };
        let layer = LayerSpec::of_cell(self.cell.cell(), layer);
        NetworkSpec { format: FORMAT, layers: vec![layer], text: None, labels: Vec::new() }
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut hidden, mut input, mut bidirectional) = (None, None, None);
        let (mut layers, mut steps, mut batch, mut cell) = (None, None, None, None);
        for pair in text.split(',') {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(format!("expected key=value, got `{pair}`"));
            };
            let (key, value) = (key.trim(), value.trim());
            let slot = match key {
                "hidden" => &mut hidden,
                "input" => &mut input,
                "layers" => &mut layers,
                "steps" => &mut steps,
                "batch" => &mut batch,
                "cell" => {
                    let names = Cell::ALL.map(|cell| cell.cell().name());
                    let kind = Cell::ALL.into_iter().find(|kind| kind.cell().name() == value);
                    let kind =
                        kind.ok_or_else(|| format!("cell: expected one of {}, got `{value}`", names.join(", ")))?;
                    if cell.replace(kind).is_some() {
                        return Err("expected cell once, got it twice".into());
                    }
                    continue;
                }
                "bidirectional" => {
                    let truth =
                        value.parse().map_err(|_| format!("bidirectional: expected true or false, got `{value}`"))?;
                    if bidirectional.replace(truth).is_some() {
                        return Err("expected bidirectional once, got it twice".into());
                    }
                    continue;
                }
                _ => return Err(format!("expected one of {KEYS}, got `{key}`")),
            };
            let number: usize = value
                .parse()
                .ok()
                .filter(|&n| n > 0)
                .ok_or_else(|| format!("{key}: expected a whole number of at least 1, got `{value}`"))?;
            if slot.replace(number).is_some() {
                return Err(format!("expected {key} once, got it twice"));
            }
        }
        let hidden = hidden.ok_or("expected hidden=N, got no such key")?;
        let shape = Self {
            cell: cell.unwrap_or_default(),
            hidden,
            input: input.unwrap_or(hidden),
            layers: layers.unwrap_or(1),
            bidirectional: bidirectional.unwrap_or(false),
            steps: steps.unwrap_or(25),
            batch: batch.unwrap_or(1),
        };
        let directions = if shape.bidirectional { 2 } else { 1 };
        let width = shape.input.max(shape.hidden.saturating_mul(directions));
        let numbers = [shape.steps, shape.batch, width].into_iter().fold(1, usize::saturating_mul);
        if numbers > RandomInput::MOST {
            return Err(format!("expected steps * batch * width of at most 2^28, got {numbers}"));
        }
        Ok(shape)
    }
}

impl Display for Shape {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.cell != Cell::Lstm {
            write!(f, "{} ", self.cell)?;
        }
        write!(f, "H{} T{} B{}", self.hidden, self.steps, self.batch)?;
        if self.input != self.hidden {
            write!(f, " I{}", self.input)?;
        }
        if self.layers != 1 {
            write!(f, " L{}", self.layers)?;
        }
        f.write_str(if self.bidirectional { " bi" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_needs_only_its_width() {
        let shape: Shape = "hidden=512".parse().expect("a shape");
        assert_eq!(shape.to_string(), "H512 T25 B1");
        assert_eq!("cell=gru,hidden=4".parse::<Shape>().expect("a shape").to_string(), "GRU H4 T25 B1");
        let full: Shape = "hidden=8, steps=3,batch=2,input=4,layers=2,bidirectional=true".parse().expect("a shape");
        assert_eq!(full.to_string(), "H8 T3 B2 I4 L2 bi");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, word) in [
            ("", "key=value"),
            ("steps=3", "hidden"),
            ("hidden=0", "at least 1"),
            ("hidden=-1", "at least 1"),
            ("hidden=8,hidden=8", "twice"),
            ("hidden=8,bidirectional=yes", "true or false"),
            ("cell=tlu,hidden=8", "lstm, gru, rnn, min_gru"),
            ("cell=gru,cell=gru,hidden=8", "twice"),
            ("hidden=8,width=3", "width"),
            ("hidden=99999,steps=99999,batch=9", "2^28"),
        ] {
            let error = text.parse::<Shape>().expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
