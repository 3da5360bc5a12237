//! Values of rows as the numbers that a network reads.

use gatefold::{ScoreInput, Scorer, TextVectorizer};

use super::input::Reads;
use crate::units::shortened;

/// Most characters of a value in a message.
const SHOWN: usize = 60;

/// Why a row cannot be scored.
pub type Fault = String;

/// Sequences of the rows of a window, each checked as it is added.
pub struct Encoder<'a> {
    scorer: &'a Scorer,
    vectorizer: Option<&'a TextVectorizer>,
    ids: Vec<u32>,
    values: Vec<f32>,
    ends: Vec<usize>,
    tokens: bool,
}

pub fn wrong(expected: &str, got: &str) -> Fault {
    format!("expected {expected}, got {}", shortened(got, SHOWN))
}

impl<'a> Encoder<'a> {
    pub fn new(scorer: &'a Scorer, vectorizer: Option<&'a TextVectorizer>, reads: Reads) -> Self {
        let tokens = reads != Reads::Features;
        Self { scorer, vectorizer, ids: Vec::new(), values: Vec::new(), ends: Vec::new(), tokens }
    }

    pub fn sequences(&self) -> ScoreInput<'_> {
        match self.tokens {
            true => ScoreInput::tokens(&self.ids, &self.ends),
            false => ScoreInput::features(&self.values, &self.ends),
        }
    }

    pub fn text(&mut self, text: &str) -> Result<(), Fault> {
        let ids = self.vectorizer.map(|vectorizer| vectorizer.encode(text)).unwrap_or_default();
        if ids.is_empty() {
            return Err(wrong("at least one word", &format!("{text:?}")));
        }
        self.tokens(ids)
    }

    pub fn tokens(&mut self, ids: impl IntoIterator<Item = u32>) -> Result<(), Fault> {
        self.ids.extend(ids);
        self.end(self.ids.len())
    }

    /// The numbers of one sequence, in vectors of `width`, or of one number each.
    pub fn features(&mut self, values: impl IntoIterator<Item = f32>, width: Option<usize>) -> Result<(), Fault> {
        let network = self.scorer.session().network();
        let expected = network.input_size();
        let one_vector = network.inputs().first().is_some_and(|input| input.kind == gatefold::network::InputKind::Row);
        match width {
            None if expected != 1 && !one_vector => {
                return Err(wrong(&format!("one list of {expected} numbers for each timestep"), "one list of numbers"));
            }
            Some(width) if width != expected => {
                return Err(wrong(&format!("lists of {expected} numbers"), &format!("one of {width}")));
            }
            _ => {}
        }
        self.values.extend(values);
        self.end(self.values.len())
    }

    fn end(&mut self, end: usize) -> Result<(), Fault> {
        let start = self.ends.last().copied().unwrap_or(0);
        self.ends.push(end);
        match self.scorer.fault(self.sequences(), self.ends.len() - 1) {
            None => Ok(()),
            Some(fault) => {
                self.ends.pop();
                if self.tokens {
                    self.ids.truncate(start);
                } else {
                    self.values.truncate(start);
                }
                Err(fault)
            }
        }
    }
}
