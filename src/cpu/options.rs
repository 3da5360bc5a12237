//! Options of the CPU device.

use std::fmt::{self, Display, Formatter};
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::sync::Once;

use fearless_simd::prelude::*;

use super::simd::{Token, on};
use super::threads::{WORK_OF_NUMBER, share, worth};
use crate::base::error::{Error, Result};

/// The environment variable of [`CpuOptions::default_threads`].
const THREADS: &str = "GATEFOLD_THREADS";

/// Options of the CPU device. The defaults suit nearly all uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuOptions {
    /// Threads that a run may use, including the caller's; by default as many as the system
    /// offers, or as the environment variable `GATEFOLD_THREADS` says. Small runs use one thread in any case. The results are bit-identical for any
    /// number.
    pub threads: Option<NonZeroUsize>,
    /// The instruction set; by default the widest one there is.
    pub instruction_set: Option<InstructionSet>,
}

/// Instruction sets that the CPU device has kernels for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InstructionSet {
    /// 512-bit vectors, as of Ice Lake and Zen 4, with products of 8-bit integers.
    Avx512,
    /// 256-bit vectors, as of Haswell and Zen.
    Avx2,
    /// 128-bit vectors, on every x86-64.
    Sse2,
    /// 128-bit vectors, on every 64-bit ARM.
    Neon,
    /// WebAssembly's 128-bit vectors.
    Simd128,
    /// Plain Rust, anywhere.
    Portable,
}

impl CpuOptions {
    /// The threads of a run where [`CpuOptions::threads`] says nothing: `GATEFOLD_THREADS` if it is a number from 1, else as many
    /// as the system offers.
    #[must_use]
    pub fn default_threads() -> usize {
        let offered = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let Some(given) = std::env::var_os(THREADS) else { return offered() };
        match given.to_str().and_then(|given| given.trim().parse::<NonZeroUsize>().ok()) {
            Some(threads) => threads.get(),
            None => {
                static WARNED: Once = Once::new();
                WARNED.call_once(|| log::warn!("{THREADS}: expected a number from 1, got {given:?}; it is ignored"));
                offered()
            }
        }
    }
}

impl InstructionSet {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Avx512, Self::Avx2, Self::Sse2, Self::Neon, Self::Simd128, Self::Portable];

    /// Those of this CPU, the widest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        Token::available().into_iter().map(Self::of).collect()
    }

    fn of(token: Token) -> Self {
        match token {
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Token::Avx512(_) => Self::Avx512,
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Token::Avx2(_) => Self::Avx2,
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Token::Sse2(_) => Self::Sse2,
            #[cfg(target_arch = "aarch64")]
            Token::Neon(_) => Self::Neon,
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Token::Simd128(_) => Self::Simd128,
            Token::Portable(_) => Self::Portable,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Sse2 => "sse2",
            Self::Neon => "neon",
            Self::Simd128 => "simd128",
            Self::Portable => "portable",
        }
    }
}

impl Display for InstructionSet {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for InstructionSet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|set| set.name() == text).ok_or_else(|| Error::Malformed {
            what: "instruction set".into(),
            expected: Self::ALL.map(Self::name).join(", "),
            got: format!("{text:?}"),
        })
    }
}

/// The CPU device with its options resolved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    pub(super) token: Token,
    pub(super) threads: usize,
}

impl Cpu {
    /// All that this CPU offers.
    pub fn best() -> Self {
        Self::with(Token::best(), None)
    }

    pub fn new(options: CpuOptions) -> Result<Self> {
        let Some(set) = options.instruction_set else { return Ok(Self::with(Token::best(), options.threads)) };
        let present = Token::available();
        match present.iter().find(|&&token| InstructionSet::of(token) == set) {
            Some(&token) => Ok(Self::with(token, options.threads)),
            None => Err(Error::NoAdapter {
                wanted: format!("the CPU's `{set}`"),
                present: present.into_iter().map(|token| InstructionSet::of(token).to_string()).collect(),
            }),
        }
    }

    fn with(token: Token, threads: Option<NonZeroUsize>) -> Self {
        Self { token, threads: threads.map_or_else(CpuOptions::default_threads, NonZeroUsize::get) }
    }

    /// Does `work` with each of `items`, which up to its number of threads take in turn; fewer where so few `numbers` are
    /// not worth them.
    pub fn share<T: Send>(self, numbers: usize, items: impl Iterator<Item = T> + Send, work: impl Fn(T) + Sync) {
        share(self.threads.min(worth(numbers.saturating_mul(WORK_OF_NUMBER))), items, work);
    }

    /// Calls `work`, compiled for its instruction set if it is inlined.
    #[inline(always)]
    pub fn vectorize(self, work: impl FnOnce()) {
        on!(self.token, simd => simd.vectorize(work));
    }

    /// Its instruction set and threads, as a [`driver`](crate::DeviceInfo::driver).
    pub fn describe(self) -> String {
        let threads = if self.threads == 1 { "1 thread".into() } else { format!("{} threads", self.threads) };
        format!("{}, {threads}", InstructionSet::of(self.token))
    }
}
