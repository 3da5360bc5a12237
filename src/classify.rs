//! Text in, label out: a vocabulary, a network and its class names together.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::error::{Error, Result};
use crate::data::input::Input;
use crate::device::Device;
use crate::network::{Activation, LayerSpec, Network, NetworkSpec};
use crate::session::Session;
use crate::text::TextVectorizer;

/// Rows in one run; more rows need more memory and are not faster.
const MAX_BATCH: usize = 256;

/// A network that reads text and answers with one of its labels.
#[derive(Debug)]
pub struct Classifier {
    session: Arc<Session>,
    vectorizer: TextVectorizer,
    labels: Vec<String>,
}

/// The answer to one text.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Prediction {
    /// Index of the most probable label.
    pub class: usize,
    /// Its name.
    pub label: String,
    /// The network's output for every label, in the labels' order.
    pub probabilities: Vec<f32>,
}

impl Prediction {
    /// Probability of [`Prediction::label`].
    #[must_use]
    pub fn probability(&self) -> f32 {
        self.probabilities[self.class]
    }
}

impl Classifier {
    /// Loads `network` onto `device`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the network has no vocabulary or no labels, and everything
    /// [`Session::new`] refuses.
    pub fn new(device: &Device, network: &Network) -> Result<Self> {
        if network.spec().labels.is_empty() {
            return Err(lacking("class names (`labels`)"));
        }
        Self::with_labels(device, network, &network.spec().labels)
    }

    /// As [`Classifier::new`], with the names of the classes: one per number of the output, or two for one sigmoid, which is
    /// the probability of the second.
    ///
    /// # Errors
    /// As [`Classifier::new`]; [`Error::Malformed`] for another number of names, or one that is given twice.
    pub fn with_labels(device: &Device, network: &Network, labels: &[String]) -> Result<Self> {
        let vectorizer = vectorizer(network, labels)?;
        Ok(Self { session: Arc::new(Session::new(device, network)?), vectorizer, labels: labels.to_vec() })
    }

    /// As [`Classifier::with_labels`], with a session that the caller may use for other runs too.
    ///
    /// # Errors
    /// As [`Classifier::with_labels`], except those of [`Session::new`].
    pub fn from_session(session: impl Into<Arc<Session>>, labels: &[String]) -> Result<Self> {
        let session = session.into();
        let vectorizer = vectorizer(session.network(), labels)?;
        Ok(Self { session, vectorizer, labels: labels.to_vec() })
    }

    /// The session that runs the network.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The class names.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The token ids the network reads for `text`.
    #[must_use]
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.vectorizer.encode(text)
    }

    /// Classifies every text; the answers are in the order of the texts.
    ///
    /// # Errors
    /// [`Error::EmptyText`] for a text without a word, before anything runs, and everything
    /// [`Session::run`] can fail with.
    pub fn classify<S: AsRef<str>>(&self, texts: &[S]) -> Result<Vec<Prediction>> {
        self.classify_with_progress(texts, |_| {})
    }

    /// As [`Classifier::classify`]; `done` is called after each run with the number of texts that it has classified.
    ///
    /// # Errors
    /// As [`Classifier::classify`].
    pub fn classify_with_progress<S: AsRef<str>>(
        &self,
        texts: &[S],
        mut done: impl FnMut(usize),
    ) -> Result<Vec<Prediction>> {
        // Texts of one length share a batch, so that no row needs padding.
        let mut by_length: BTreeMap<usize, Vec<(usize, Vec<u32>)>> = BTreeMap::new();
        for (index, text) in texts.iter().enumerate() {
            let tokens = self.encode(text.as_ref());
            if tokens.is_empty() {
                return Err(Error::EmptyText { index: index + 1, got: format!("{:?}", text.as_ref()) });
            }
            by_length.entry(tokens.len()).or_default().push((index, tokens));
        }
        let (batch_first, width) = (self.session.network().batch_first(), self.session.network().output_size());
        let mut answers: Vec<Option<Prediction>> = vec![None; texts.len()];
        for (steps, group) in &by_length {
            for rows in group.chunks(MAX_BATCH) {
                let (ids, shape): (Vec<u32>, _) = if batch_first {
                    (rows.iter().flat_map(|(_, tokens)| tokens).copied().collect(), [rows.len(), *steps])
                } else {
                    let by_step = (0..*steps).flat_map(|t| rows.iter().map(move |(_, tokens)| tokens[t]));
                    (by_step.collect(), [*steps, rows.len()])
                };
                let output = self.session.run(Input::tokens(&ids, shape), None)?;
                for ((index, _), row) in rows.iter().zip(output.values.chunks_exact(width)) {
                    answers[*index] = Some(self.prediction(row));
                }
                done(rows.len());
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    fn prediction(&self, row: &[f32]) -> Prediction {
        let of_two;
        let row = match *row {
            [second] if self.labels.len() == 2 => {
                of_two = [1.0 - second, second];
                &of_two
            }
            _ => row,
        };
        // The first of equal values, as argmax does everywhere.
        let class = (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best });
        Prediction { class, label: self.labels[class].clone(), probabilities: row.to_vec() }
    }
}

/// What makes token ids of texts for `network`; an error if it has no vocabulary, or if `labels` are no names of its classes.
fn vectorizer(network: &Network, labels: &[String]) -> Result<TextVectorizer> {
    let text = network.spec().text.as_ref().ok_or_else(|| lacking("a vocabulary (`text`)"))?;
    let one_sigmoid = network.output_size() == 1 && ends_with_sigmoid(network.spec());
    let expected = if one_sigmoid { 2 } else { network.output_size() };
    if labels.len() != expected || network.output_is_sequence() {
        let expected = match network.output_is_sequence() {
            true => "a network with one output per row".to_owned(),
            false => format!("{expected}, since the output is [B, {}]", network.output_size()),
        };
        return Err(Error::Malformed { what: "labels".into(), expected, got: labels.len().to_string() });
    }
    if let Some((_, name)) = labels.iter().enumerate().find(|(index, name)| labels[..*index].contains(name)) {
        let (expected, got) = ("every name once".into(), format!("`{name}` twice"));
        return Err(Error::Malformed { what: "labels".into(), expected, got });
    }
    TextVectorizer::new(text)
}

fn lacking(what: &str) -> Error {
    let what = format!("classifying text without {what} in the network's description");
    Error::Unsupported { place: "network".into(), what }
}

fn ends_with_sigmoid(spec: &NetworkSpec) -> bool {
    let activation = match spec.layers.last() {
        Some(LayerSpec::Dense(dense)) => dense.activation,
        Some(LayerSpec::Activation(layer)) => layer.activation,
        _ => return false,
    };
    matches!(activation, Activation::Sigmoid)
}
