//! Converts text to token ids, as Keras' `TextVectorization` does with its defaults, or by characters or words as they stand.
//!
//! By default ASCII letters become lower case (others stay), ASCII punctuation is dropped, the rest is
//! split at ASCII white space. Id 0 is padding and never given out, id 1 stands for every
//! token that is not in the vocabulary.

use std::collections::HashMap;

use crate::base::error::{Error, Result};
use crate::network::{Split, Standardize, TextSpec};

const PADDING: u32 = 0;
const UNKNOWN: u32 = 1;

/// Turns text into the token ids a network was trained with.
#[derive(Clone, Debug)]
pub struct TextVectorizer {
    ids: HashMap<String, u32>,
    standardize: Standardize,
    split: Split,
    length: Option<usize>,
}

impl TextVectorizer {
    /// Indexes the vocabulary of `spec`.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the vocabulary lacks its two reserved entries, repeats a token,
    /// or has more tokens than ids.
    pub fn new(spec: &TextSpec) -> Result<Self> {
        let &TextSpec { standardize, split, ref vocabulary, output_sequence_length: length } = spec;
        let malformed = |expected: &str, got: String| Error::Malformed {
            what: "vocabulary".into(),
            expected: expected.into(),
            got,
        };
        if vocabulary.len() < 2 {
            return Err(malformed("padding, the unknown word and then tokens", format!("{} tokens", vocabulary.len())));
        }
        let mut ids = HashMap::with_capacity(vocabulary.len());
        for (id, token) in vocabulary.iter().enumerate().skip(2) {
            let id = u32::try_from(id).map_err(|_| malformed("fewer than 2^32 tokens", format!("{id}")))?;
            if ids.insert(token.clone(), id).is_some() {
                return Err(malformed("every token once", format!("`{token}` twice")));
            }
        }
        Ok(Self { ids, standardize, split, length })
    }

    /// The token ids of `text`; none if there is no token in it.
    #[must_use]
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut found = Vec::new();
        Self::tokens(text, self.standardize, self.split, |token| {
            found.push(self.ids.get(token).copied().unwrap_or(UNKNOWN));
        });
        if let Some(length) = self.length.filter(|_| !found.is_empty()) {
            found.resize(length, PADDING);
        }
        found
    }

    /// Calls `take` with each token of `text`, as a vocabulary holds it.
    pub fn tokens(text: &str, standardize: Standardize, split: Split, mut take: impl FnMut(&str)) {
        let standard;
        let (lower, strip) = match standardize {
            Standardize::LowerAndStripPunctuation => (true, true),
            Standardize::Lower => (true, false),
            Standardize::StripPunctuation => (false, true),
            Standardize::None => (false, false),
        };
        let text = if lower || strip {
            let kept = text.chars().filter(|c| !strip || !c.is_ascii_punctuation());
            standard = kept.map(|c| if lower { c.to_ascii_lowercase() } else { c }).collect::<String>();
            &standard
        } else {
            text
        };
        match split {
            Split::Whitespace => text.split(is_space).filter(|word| !word.is_empty()).for_each(take),
            Split::Character => text.chars().for_each(|c| take(c.encode_utf8(&mut [0; 4]))),
        }
    }

    /// A vocabulary of the words of `texts`: the commonest, at most `size` with the two reserved ones; of equally common ones the
    /// first in order.
    ///
    /// # Errors
    /// [`Error::Malformed`] if there is no word, or no room for one.
    pub fn vocabulary<'a>(texts: impl IntoIterator<Item = &'a str>, size: usize) -> Result<TextSpec> {
        let mut counts = HashMap::<String, u64>::new();
        for text in texts {
            for word in Self::words(text) {
                *counts.entry(word).or_default() += 1;
            }
        }
        let mut words: Vec<(String, u64)> = counts.into_iter().collect();
        words.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let reserved = [String::new(), "[UNK]".to_owned()];
        let vocabulary: Vec<String> =
            reserved.into_iter().chain(words.into_iter().map(|(word, _)| word)).take(size).collect();
        if vocabulary.len() < 3 {
            let expected = "texts with words, and a size of at least 3".into();
            let got = format!("{} tokens", vocabulary.len());
            return Err(Error::Malformed { what: "vocabulary".into(), expected, got });
        }
        let (standardize, split) = (Standardize::LowerAndStripPunctuation, Split::Whitespace);
        Ok(TextSpec { standardize, split, vocabulary, output_sequence_length: None })
    }

    /// The words of `text`, as a vocabulary holds them.
    pub fn words(text: &str) -> impl Iterator<Item = String> {
        let mut words = Vec::new();
        let (standardize, split) = (Standardize::LowerAndStripPunctuation, Split::Whitespace);
        Self::tokens(text, standardize, split, |word| words.push(word.to_owned()));
        words.into_iter()
    }
}

/// White space in the C locale, which is what TensorFlow splits at.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commonest_words_come_first() {
        let spec = TextVectorizer::vocabulary(["b a, B", "c a b"], 4).unwrap();
        assert_eq!(spec.vocabulary, ["", "[UNK]", "b", "a"]);
        assert_eq!(TextVectorizer::new(&spec).unwrap().encode("A b c"), [3, 2, 1]);
        for (texts, size) in [(["", "?!"], 10), (["a", "b"], 2)] {
            let error = TextVectorizer::vocabulary(texts, size).expect_err("no words").to_string();
            assert_eq!(error, "vocabulary: expected texts with words, and a size of at least 3, got 2 tokens");
        }
    }
}
