//! Where the states of a pool lie.

use crate::error::Result;
use crate::network::Network;
use crate::reference::{gather, scatter};
use crate::room::room;
use crate::state::{PartShape, State};

/// A pool's states.
#[derive(Debug)]
pub(crate) enum Store {
    /// In the host's memory, for the CPU device.
    Host(HostSlots),
    #[cfg(feature = "gpu")]
    Gpu(crate::gpu::Slots),
}

/// States in the host's memory, `[S, H]` for each part.
#[derive(Debug)]
pub(crate) struct HostSlots {
    parts: Vec<(PartShape, Vec<f32>)>,
}

impl HostSlots {
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge) if this machine has no memory for it.
    pub fn new(network: &Network, count: usize) -> Result<Self> {
        let mut slots = Self { parts: PartShape::all(network).into_iter().map(|shape| (shape, Vec::new())).collect() };
        slots.grow(count)?;
        Ok(slots)
    }

    /// # Errors
    /// As [`HostSlots::new`]; then nothing has changed.
    pub fn grow(&mut self, count: usize) -> Result<()> {
        let width = self.parts.iter().map(|(shape, _)| shape.width).sum::<usize>();
        room(|| format!("states of {count} streams"), count.saturating_mul(width), size_of::<f32>())?;
        for (shape, numbers) in &mut self.parts {
            numbers.resize(count * shape.width, 0.0);
        }
        Ok(())
    }

    /// The states of these slots as one of as many rows.
    pub fn gather(&self, network: &Network, list: &[u32]) -> State {
        let mut state = State::zeros(network, list.len());
        for (shape, numbers) in &self.parts {
            gather(numbers, list, shape.width, shape.of_mut(&mut state, list.len()));
        }
        state
    }

    /// Puts the rows of a state into these slots.
    pub fn scatter(&mut self, state: &State, list: &[u32]) {
        for (shape, numbers) in &mut self.parts {
            scatter(shape.of(state, list.len()), list, shape.width, numbers);
        }
    }

    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|(_, numbers)| size_of_val(&numbers[..]) as u64).sum()
    }
}

impl Store {
    /// The states, if they are in the host's memory.
    pub fn host(&mut self) -> Option<&mut HostSlots> {
        match self {
            Self::Host(slots) => Some(slots),
            #[cfg(feature = "gpu")]
            Self::Gpu(_) => None,
        }
    }

    pub fn bytes(&self) -> u64 {
        match self {
            Self::Host(slots) => slots.bytes(),
            #[cfg(feature = "gpu")]
            Self::Gpu(slots) => slots.bytes(),
        }
    }
}
