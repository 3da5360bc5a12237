//! What a file says about the dropout that its network was trained with.

use serde::{Deserialize, Serialize};

use super::Network;

/// Dropout that a file states. No run reads it; a training may go on with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FileDropout {
    /// Of the numbers of the output of a layer.
    Elements {
        /// The layer's name.
        layer: String,
        /// The share that is dropped.
        rate: f32,
    },
    /// Of the channels of the output of a layer, at all steps.
    Channels {
        /// The layer's name.
        layer: String,
        /// The share that is dropped.
        rate: f32,
    },
    /// Inside a recurrent layer, with masks that stay for all steps.
    Recurrent {
        /// The layer's name.
        layer: String,
        /// The share of the input.
        input: f32,
        /// The share of h.
        state: f32,
    },
    /// What no training of this crate does.
    Other {
        /// The layer's name in the file.
        layer: String,
        /// What it is.
        what: String,
    },
}

impl Network {
    /// The dropout that the network's file states, in the order of its layers.
    #[must_use]
    pub fn file_dropout(&self) -> &[FileDropout] {
        &self.file_dropout
    }

    /// With the dropout that a file states.
    #[must_use]
    pub(crate) fn with_file_dropout(mut self, dropout: Vec<FileDropout>) -> Self {
        self.file_dropout = dropout;
        self
    }
}
