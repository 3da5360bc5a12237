//! Named sets of shapes, for comparisons with published results.

use clap::ValueEnum;

use super::shape::{Cell, Shape};

/// A named set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Set {
    /// One-layer LSTMs and GRUs of DeepBench's inference, B 1, 2, 4
    Deepbench,
    /// LSTM H 768, B 16, T 1024
    Flashrnn,
    /// LSTM 4 x 512, B 64, T 100
    Stacked,
    /// LSTM H 128, B 1 to 256, T 100
    Audio,
    /// LSTM 5 x 384, B 64, T 1600
    Basecall,
    /// LSTM, GRU, NTM, attention and minGRU that learn to remember, at equal bytes of state and at equal time of a step
    Memory,
}

/// H and T.
const LSTM: [(usize, usize); 5] = [(512, 25), (1024, 25), (2048, 25), (1536, 50), (256, 150)];
const GRU: [(usize, usize); 5] = [(2816, 750), (2560, 375), (2048, 375), (1536, 375), (1024, 1500)];

impl Set {
    /// Its shapes, the smaller batch first.
    pub fn shapes(self) -> Vec<Shape> {
        let lstm = |hidden, steps, batch| Shape::new(Cell::Lstm, hidden, steps, batch);
        let stack = |layers, hidden, steps, batch| Shape { layers, ..lstm(hidden, steps, batch) };
        match self {
            Self::Deepbench => {
                let cells = [(Cell::Lstm, LSTM), (Cell::Gru, GRU)];
                let sizes = cells.into_iter().flat_map(|(cell, sizes)| sizes.map(|(h, t)| (cell, h, t)));
                sizes.flat_map(|(cell, h, t)| [1, 2, 4].map(|b| Shape::new(cell, h, t, b))).collect()
            }
            Self::Flashrnn => vec![lstm(768, 1024, 16)],
            Self::Stacked => vec![stack(4, 512, 100, 64)],
            Self::Audio => (0..=8).map(|power| lstm(128, 100, 1 << power)).collect(),
            Self::Basecall => vec![stack(5, 384, 1600, 64)],
            // Its networks are those of `memory`.
            Self::Memory => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sets_are_as_published() {
        let text = |set: Set| set.shapes().iter().map(ToString::to_string).collect::<Vec<_>>();
        let deepbench = text(Set::Deepbench);
        assert_eq!(deepbench.len(), 30);
        for one in ["H512 T25 B1", "H256 T150 B4", "H1536 T50 B2", "GRU H1024 T1500 B1", "GRU H2816 T750 B4"] {
            assert!(deepbench.iter().any(|shape| shape == one), "{one} in {deepbench:?}");
        }
        assert_eq!(text(Set::Flashrnn), ["H768 T1024 B16"]);
        assert_eq!(text(Set::Stacked), ["H512 T100 B64 L4"]);
        assert_eq!(text(Set::Basecall), ["H384 T1600 B64 L5"]);
        let audio = text(Set::Audio);
        assert_eq!((audio.len(), audio[0].as_str(), audio[8].as_str()), (9, "H128 T100 B1", "H128 T100 B256"));
    }
}
