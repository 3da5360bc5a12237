//! Options of a generation, and its result.

use crate::base::error::{Error, Result};
use crate::reference::Filter;

/// Options of [`StreamPool::generate`](crate::StreamPool::generate), with Hugging Face's names.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// Most tokens that are added to a prompt.
    pub max_new_tokens: usize,
    /// Tokens after which a stream stops.
    pub eos: Vec<u32>,
    /// How tokens are drawn; `None` always takes the most probable one (greedy), and the lowest of equally probable ones.
    pub sampling: Option<Sampling>,
    /// Steps between two checks whether every stream has stopped. On a GPU nothing is read back in between.
    pub read_every: usize,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self { max_new_tokens: 64, eos: Vec::new(), sampling: None, read_every: 16 }
    }
}

/// How tokens are drawn. The filters apply in this order: temperature, `top_k`, `top_p` of what is left. Tokens exactly
/// as probable as the last one that a filter keeps are kept too, and tokens 2^31 times less probable than the best are
/// never drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; above 0. Below 1 the probable become more probable.
    pub temperature: f32,
    /// Keeps so many of the most probable tokens, at least 1 (Fan, Lewis & Dauphin 2018).
    pub top_k: Option<usize>,
    /// Keeps the most probable tokens that have this probability together, in (0, 1] (nucleus sampling, Holtzman et
    /// al. 2020).
    pub top_p: f32,
    /// Equal seeds draw equal tokens from equal logits, on every device. A prompt's place in the call is part of it.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: None, top_p: 1.0, seed: 0 }
    }
}

/// Options of [`StreamPool::beam_search`](crate::StreamPool::beam_search), with Hugging Face's names.
#[derive(Clone, Debug, PartialEq)]
pub struct BeamOptions {
    /// How many continuations are extended at once and returned.
    pub num_beams: usize,
    /// Most tokens that are added to a prompt.
    pub max_new_tokens: usize,
    /// Tokens that end a continuation.
    pub eos: Vec<u32>,
    /// Continuations are ranked by log-probability / length^this; 0 ranks by probability alone.
    pub length_penalty: f32,
}

impl Default for BeamOptions {
    fn default() -> Self {
        Self { num_beams: 4, max_new_tokens: 64, eos: Vec::new(), length_penalty: 1.0 }
    }
}

/// A continuation of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Sequence {
    /// The tokens after the prompt, the one that ended it included.
    pub tokens: Vec<u32>,
    /// The logarithm of the probability that the network gives to all of them, independent of the temperature.
    pub log_probability: f32,
    /// Whether the last token is one of `eos`.
    pub stopped: bool,
}

impl Sequence {
    /// The tokens without the one that ended it.
    #[must_use]
    pub fn text(&self) -> &[u32] {
        &self.tokens[..self.tokens.len() - usize::from(self.stopped)]
    }

    /// The score by which a beam search ranks it.
    #[must_use]
    pub fn score(&self, length_penalty: f32) -> f32 {
        #[expect(clippy::cast_precision_loss, reason = "lengths are far below 2^24")]
        let length = self.tokens.len().max(1) as f32;
        self.log_probability / length.powf(length_penalty)
    }
}

impl GenerateOptions {
    pub(super) fn check(&self, vocabulary: usize) -> Result<()> {
        at_least_one("max_new_tokens", self.max_new_tokens)?;
        at_least_one("read_every", self.read_every)?;
        check_eos(&self.eos, vocabulary)?;
        self.sampling.map_or(Ok(()), Sampling::check)
    }
}

impl Sampling {
    fn check(self) -> Result<()> {
        let Self { temperature, top_k, top_p, .. } = self;
        if !(temperature > 0.0 && temperature.is_finite()) {
            return Err(Error::option("temperature", "a finite number above 0", &temperature));
        }
        if top_k == Some(0) {
            return Err(Error::option("top_k", "at least 1", &0));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(Error::option("top_p", "a number above 0 and up to 1", &top_p));
        }
        Ok(())
    }

    pub(super) fn filter(self) -> Filter {
        Filter::new(self.temperature, self.top_k, self.top_p)
    }
}

impl BeamOptions {
    pub(super) fn check(&self, vocabulary: usize) -> Result<()> {
        at_least_one("num_beams", self.num_beams)?;
        at_least_one("max_new_tokens", self.max_new_tokens)?;
        check_eos(&self.eos, vocabulary)?;
        if !self.length_penalty.is_finite() {
            return Err(Error::option("length_penalty", "a finite number", &self.length_penalty));
        }
        Ok(())
    }
}

fn at_least_one(option: &str, value: usize) -> Result<()> {
    if value == 0 { Err(Error::option(option, "at least 1", &value)) } else { Ok(()) }
}

fn check_eos(eos: &[u32], vocabulary: usize) -> Result<()> {
    match eos.iter().find(|&&token| token as usize >= vocabulary) {
        Some(token) => Err(Error::option("eos", &format!("tokens below {vocabulary}"), token)),
        None => Ok(()),
    }
}
