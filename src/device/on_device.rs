//! The choice between the CPU and a GPU.

/// What something is on the CPU, or on a GPU. In a build without the feature `gpu` the types of a GPU have no value
/// (`src/gpu/stub.rs`), so the compiler drops that half.
#[derive(Clone, Debug)]
pub(crate) enum OnDevice<C, G> {
    Cpu(C),
    Gpu(G),
}

impl<C, G> OnDevice<C, G> {
    pub fn is_cpu(&self) -> bool {
        matches!(self, Self::Cpu(_))
    }

    pub fn cpu_mut(&mut self) -> Option<&mut C> {
        match self {
            Self::Cpu(cpu) => Some(cpu),
            Self::Gpu(_) => None,
        }
    }

    pub fn gpu(&self) -> Option<&G> {
        match self {
            Self::Cpu(_) => None,
            Self::Gpu(gpu) => Some(gpu),
        }
    }
}
