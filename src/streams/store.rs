//! The storage of a pool's states: slots on its device.

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

    /// The numbers of the states of these slots, slot after slot.
    fn rows(&self, slots: &[u32]) -> Vec<f32> {
        let mut rows = Vec::with_capacity(slots.len() * PartShape::row_width(&self.parts));
        slots.iter().for_each(|&slot| PartShape::take_row(&self.parts, &self.state, slot as usize, &mut rows));
        rows
    }

    /// Puts such numbers into these slots.
    fn put_rows(&mut self, slots: &[u32], rows: &[f32]) {
        let width = PartShape::row_width(&self.parts);
        for (&slot, row) in slots.iter().zip(rows.chunks_exact(width)) {
            PartShape::put_row(&self.parts, &mut self.state, slot as usize, row);
        }
    }

    /// Copies states from slots to slots, all of them before any is written; from no slot zeros.
    pub fn copy(&mut self, from: &[u32], to: &[u32]) {
        let apart = from.iter().zip(to).filter(|(from, to)| from != to);
        let (from, to): (Vec<u32>, Vec<u32>) = apart.map(|(&from, &to)| (from, to)).unzip();
        let mut rows = Vec::new();
        for part in self.parts.iter().filter(|_| !from.is_empty()) {
            rows.resize(from.len() * part.width, 0.0);
            gather(part.of(&self.state), &from, part.width, &mut rows);
            scatter(&rows, &to, part.width, part.of_mut(&mut self.state));
        }
    }

    /// A run in which row r continues from slot `from[r]` and ends in slot `to[r]`; no two rows end in the same slot. Gives the output; an
    /// error changes no slot that is in `from` alone, and none that is both of one row.
    pub fn advance(&mut self, session: &Session, input: &Checked<'_>, from: &[u32], to: &[u32]) -> Result<Vec<f32>> {
        self.copy(from, to);
        let done = session.advance_on_cpu(input, &mut self.state, to, &self.banks);
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

    /// The numbers of the states of these slots, slot after slot, part after part.
    pub fn rows(&self, session: &Session, slots: &[u32]) -> Result<Vec<f32>> {
        match self {
            Self::Cpu(own) => Ok(own.rows(slots)),
            Self::Gpu(_) if slots.is_empty() => Ok(Vec::new()),
            Self::Gpu(own) => Ok(own.read(session.engine()?, slots)?.wait()?.stages.pop().unwrap_or_default()),
        }
    }

    /// Puts such numbers into these slots.
    pub fn put_rows(&mut self, session: &Session, slots: &[u32], rows: &[f32]) -> Result<()> {
        match self {
            Self::Cpu(own) => own.put_rows(slots, rows),
            Self::Gpu(_) if slots.is_empty() => {}
            Self::Gpu(own) => own.write(session.engine()?, slots, rows)?,
        }
        Ok(())
    }

    /// Copies states from slots to slots, none of which is both; from no slot zeros.
    pub fn copy(&mut self, session: &Session, from: &[u32], to: &[u32]) -> Result<()> {
        match self {
            Self::Cpu(own) => own.copy(from, to),
            Self::Gpu(own) => own.copy(session.engine()?, from, to)?,
        }
        Ok(())
    }
}
