//! The storage of a pool's states.

use crate::base::bits;
use crate::base::error::{Error, Result};
use crate::base::room::room;
use crate::data::banks::{Bank, BankArena};
use crate::data::input::Checked;
use crate::data::state::{PartShape, State};
use crate::device::OnDevice;
use crate::gpu;
use crate::network::Network;
use crate::reference::{gather, scatter};
use crate::session::Session;

/// A pool's states: in the host's memory, or on a GPU.
pub(crate) type Store = OnDevice<HostSlots, gpu::Slots>;

/// States in the host's memory: one of S batch rows, each a slot.
#[derive(Debug)]
pub(crate) struct HostSlots {
    parts: Vec<PartShape>,
    state: State,
    /// Of each input beside the first.
    pub banks: Vec<BankArena>,
}

impl HostSlots {
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge) if this machine has no memory for it.
    pub fn new(network: &Network, count: usize) -> Result<Self> {
        let banks = vec![BankArena::default(); network.inputs().len() - 1];
        let mut slots = Self { parts: PartShape::all(network), state: State::zeros(network, 0)?, banks };
        slots.grow(network, count)?;
        Ok(slots)
    }

    /// # Errors
    /// As [`HostSlots::new`]; then nothing has changed.
    pub fn grow(&mut self, network: &Network, count: usize) -> Result<()> {
        let mut grown = State::zeros(network, count)?;
        for part in &self.parts {
            let before = part.of(&self.state);
            part.of_mut(&mut grown)[..before.len()].copy_from_slice(before);
        }
        self.state = grown;
        Ok(())
    }

    /// The states of these slots as one of as many rows.
    pub fn gather(&self, network: &Network, list: &[u32]) -> Result<State> {
        let mut state = State::zeros(network, list.len())?;
        for part in &self.parts {
            gather(part.of(&self.state), list, part.width, part.of_mut(&mut state));
        }
        Ok(state)
    }

    /// Puts the rows of a state into these slots.
    pub fn scatter(&mut self, state: &State, list: &[u32]) {
        for part in &self.parts {
            scatter(part.of(state), list, part.width, part.of_mut(&mut self.state));
        }
    }

    /// A run in which row r continues in slot `list[r]`; no two rows use the same slot. Gives the output; an error
    /// changes nothing.
    pub fn advance(&mut self, session: &Session, input: &Checked<'_>, list: &[u32]) -> Result<Vec<f32>> {
        let done = session.advance_on_cpu(input, &mut self.state, list, &self.banks);
        done.unwrap_or_else(|| Err(Error::Unsupported { place: "pool".into(), what: "a step on the host".into() }))
    }

    /// Puts a bank behind `first` timesteps of the arenas, which have `end` then, or more.
    pub fn put_bank(&mut self, bank: &Bank, first: usize, end: usize) -> Result<()> {
        for (arena, part) in self.banks.iter_mut().zip(&bank.parts) {
            let numbers = end.saturating_mul(part.width);
            room(|| "banks [R, N]".into(), numbers.saturating_sub(arena.numbers.capacity()), size_of::<f32>())?;
            if arena.mask.len() < end {
                arena.numbers.resize(numbers, 0.0);
                arena.mask.resize(end, 0);
            }
            arena.numbers[first * part.width..][..part.values.len()].copy_from_slice(&part.values);
            for (to, &counts) in arena.mask[first..].iter_mut().zip(&part.counts) {
                *to = if counts { bits::VALID } else { 0 };
            }
        }
        Ok(())
    }

    pub fn bytes(&self) -> u64 {
        let numbers = self.state.parts().map(|part| part.data.len()).sum::<usize>();
        (numbers * size_of::<f32>()) as u64
    }
}

impl Store {
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Cpu(slots) => slots.bytes(),
            Self::Gpu(slots) => slots.bytes(),
        }
    }
}
