//! Where the states of a pool lie.

use crate::network::Network;
use crate::reference::{gather, scatter};
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
    pub fn new(network: &Network, count: usize) -> Self {
        let part = |shape: PartShape| (shape, vec![0.0; count * shape.width]);
        Self { parts: PartShape::all(network).into_iter().map(part).collect() }
    }

    pub fn grow(&mut self, count: usize) {
        for (shape, numbers) in &mut self.parts {
            numbers.resize(count * shape.width, 0.0);
        }
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
