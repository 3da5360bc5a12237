//! Text in, label out: a vocabulary, a network and its class names together.

use std::sync::Arc;

use crate::base::error::{Error, Result};
use crate::base::wait::wait;
use crate::data::run::Wait;
use crate::device::Device;
use crate::network::Network;
use crate::score::{ScoreInput, Scorer, check_labels};
use crate::session::Session;
use crate::text::TextVectorizer;

/// A network that reads text and answers with one of its labels.
#[derive(Debug)]
pub struct Classifier {
    scorer: Scorer,
    vectorizer: TextVectorizer,
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
        Ok(Self { scorer: Scorer::with_labels(device, network, labels)?, vectorizer })
    }

    /// As [`Classifier::with_labels`], with a session that the caller may use for other runs too.
    ///
    /// # Errors
    /// As [`Classifier::with_labels`], except those of [`Session::new`].
    pub fn from_session(session: impl Into<Arc<Session>>, labels: &[String]) -> Result<Self> {
        let session = session.into();
        let vectorizer = vectorizer(session.network(), labels)?;
        Ok(Self { scorer: Scorer::from_session(session, labels)?, vectorizer })
    }

    /// The session that runs the network.
    #[must_use]
    pub fn session(&self) -> &Session {
        self.scorer.session()
    }

    /// The class names.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        self.scorer.labels()
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

    /// As [`Classifier::classify`], without blocking while the GPU works.
    ///
    /// # Errors
    /// As [`Classifier::classify`].
    pub async fn classify_async<S: AsRef<str>>(&self, texts: &[S]) -> Result<Vec<Prediction>> {
        self.classify_with(texts, |_| {}, Wait::Await).await
    }

    /// As [`Classifier::classify`]; `done` is called after each run with the number of texts that it has classified.
    ///
    /// # Errors
    /// As [`Classifier::classify`].
    pub fn classify_with_progress<S: AsRef<str>>(
        &self,
        texts: &[S],
        done: impl FnMut(usize),
    ) -> Result<Vec<Prediction>> {
        wait("Classifier::classify_async", self.classify_with(texts, done, Wait::Block))
    }

    async fn classify_with<S: AsRef<str>>(
        &self,
        texts: &[S],
        done: impl FnMut(usize),
        wait: Wait,
    ) -> Result<Vec<Prediction>> {
        let (mut ids, mut ends) = (Vec::new(), Vec::with_capacity(texts.len()));
        for (index, text) in texts.iter().enumerate() {
            let tokens = self.encode(text.as_ref());
            if tokens.is_empty() {
                return Err(Error::EmptyText { index: index + 1, got: format!("{:?}", text.as_ref()) });
            }
            ids.extend(tokens);
            ends.push(ids.len());
        }
        let scores = self.scorer.score_with(ScoreInput::tokens(&ids, &ends), done, wait).await?;
        let answers = scores.values.chunks_exact(self.session().network().output_size());
        Ok(answers.map(|answer| self.prediction(answer)).collect())
    }

    fn prediction(&self, answer: &[f32]) -> Prediction {
        let (class, probabilities) = self.scorer.classed(answer);
        Prediction { class, label: self.labels()[class].clone(), probabilities }
    }
}

/// What makes token ids of texts for `network`; an error if it has no vocabulary, or if `labels` are no names of its classes.
fn vectorizer(network: &Network, labels: &[String]) -> Result<TextVectorizer> {
    let text = network.spec().text.as_ref().ok_or_else(|| lacking("a vocabulary (`text`)"))?;
    check_labels(network, labels)?;
    TextVectorizer::new(text)
}

fn lacking(what: &str) -> Error {
    let what = format!("classifying text without {what} in the network's description");
    Error::Unsupported { place: "network".into(), what }
}
