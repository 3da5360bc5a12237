//! Models that come with the crate.

use crate::base::error::Result;
use crate::network::Network;

/// The sentiment classifier of `models/sentiment/`: Embedding, LSTM, Dense(softmax), trained on
/// one-sentence film reviews in English. Its model card states accuracy and limits.
///
/// # Errors
/// None in practice: the file is part of the crate.
pub fn sentiment() -> Result<Network> {
    Network::from_bytes("sentiment.safetensors", include_bytes!("../models/sentiment/sentiment.safetensors"))
}
