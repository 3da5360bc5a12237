//! Banks: what the streams of decoders attend to. The timesteps of all banks lie in arenas, those of one bank side by side.

use super::state::{self, State};
use crate::base::error::{Error, Result};
use crate::network::Network;

/// What a stream of a decoder attends to, in the host's memory.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Bank {
    /// Of each input of the decoder beside the first, in its order.
    pub parts: Vec<BankPart>,
    /// The state, of batch 1, that a stream begins with, where the network's encoder gives one.
    pub start: Option<State>,
}

/// The numbers of one input that is attended to.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct BankPart {
    /// The input's name.
    pub name: String,
    /// N, width of its vectors.
    pub width: usize,
    /// `[S, N]`
    pub values: Vec<f32>,
    /// Which timesteps have a share, `[S]`.
    pub counts: Vec<bool>,
}

impl Bank {
    /// An error if it is not one of the decoder `network`.
    pub(crate) fn check(&self, network: &Network) -> Result<()> {
        let inputs = network.inputs().get(1..).unwrap_or_default();
        let fits = self.parts.len() == inputs.len()
            && self.parts.iter().zip(inputs).all(|(part, input)| {
                let numbers = part.counts.len().checked_mul(part.width);
                part.name == input.name && part.width == input.width && numbers == Some(part.values.len())
            });
        if !fits {
            let expected = inputs.iter().map(|input| format!("`{}` [S, {}]", input.name, input.width));
            let got = self.parts.iter().map(|part| format!("`{}` [{}, {}]", part.name, part.counts.len(), part.width));
            let list = |all: Vec<String>| if all.is_empty() { "none".to_owned() } else { all.join(", ") };
            return Err(Error::shape("bank", list(expected.collect()), list(got.collect())));
        }
        for part in &self.parts {
            if let Some(index) = part.values.iter().position(|number| !number.is_finite()) {
                let name = format!("bank `{}`", part.name);
                return Err(Error::NonFinite { name, index, value: part.values[index] });
            }
        }
        self.start.as_ref().map_or(Ok(()), |start| state::check(network, 1, start))
    }
}

/// The timesteps of all banks of one input of a network, in the host's memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct BankArena {
    /// `[R, N]`
    pub numbers: Vec<f32>,
    /// [`bits`](crate::base::bits) of each, `[R]`.
    pub mask: Vec<u32>,
}

/// Of each input beside the first, where the bank of each batch row lies: its first timestep in the arena, and how many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BankRows(pub Vec<Vec<[u32; 2]>>);

impl BankRows {
    /// S, the most timesteps of a row, of an input by its position among those beside the first; at least 1.
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "the CPU has no plans"))]
    pub fn steps(&self, input: usize) -> usize {
        let most = self.0.get(input).into_iter().flatten().map(|bank| bank[1]).max();
        most.unwrap_or(0).max(1) as usize
    }

    /// The same with rows behind that have none.
    pub fn filled_up(mut self, batch: usize) -> Self {
        self.0.iter_mut().for_each(|rows| rows.resize(batch, [0; 2]));
        self
    }
}
