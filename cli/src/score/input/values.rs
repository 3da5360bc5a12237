//! Sequences in text: JSON, or numbers with spaces between them as CSV files have them.

use std::borrow::Cow;

use super::super::encoder::{Encoder, Fault, wrong};
use super::Reads;

/// Adds the sequence that a value in JSON holds.
pub fn from_json(json: &str, reads: Reads, encoder: &mut Encoder<'_>) -> Result<(), Fault> {
    /// A text without a copy, where it has no escapes.
    #[derive(serde::Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    match reads {
        Reads::Text => match serde_json::from_str::<Text<'_>>(json) {
            Ok(text) => encoder.text(&text.0),
            Err(_) => Err(wrong("a text", json)),
        },
        Reads::Tokens => match serde_json::from_str::<Vec<u32>>(json) {
            Ok(ids) => encoder.tokens(ids),
            Err(_) => Err(wrong("a list of token ids", json)),
        },
        Reads::Features => {
            if let Ok(numbers) = serde_json::from_str::<Vec<f32>>(json) {
                return encoder.features(numbers, None);
            }
            let Ok(steps) = serde_json::from_str::<Vec<Vec<f32>>>(json) else {
                return Err(wrong("a list of numbers, or of lists of numbers", json));
            };
            let width = steps.first().map_or(0, Vec::len);
            if let Some((step, other)) = steps.iter().enumerate().find(|(_, step)| step.len() != width) {
                let expected = format!("lists of {width} numbers as at step 0");
                return Err(wrong(&expected, &format!("{} at step {step}", other.len())));
            }
            encoder.features(steps.into_iter().flatten(), Some(width))
        }
    }
}

/// Adds the sequence of a field of a CSV file: a text, or numbers with spaces between them, or a list in JSON.
pub fn from_field(field: &str, reads: Reads, encoder: &mut Encoder<'_>) -> Result<(), Fault> {
    if reads == Reads::Text {
        return encoder.text(field);
    }
    if field.trim_start().starts_with('[') {
        return from_json(field, reads, encoder);
    }
    match reads {
        Reads::Features => match field.split_whitespace().map(str::parse).collect::<Result<Vec<f32>, _>>() {
            Ok(numbers) => encoder.features(numbers, None),
            Err(_) => Err(wrong("numbers with spaces between them, or lists in JSON", field)),
        },
        _ => match field.split_whitespace().map(str::parse).collect::<Result<Vec<u32>, _>>() {
            Ok(ids) => encoder.tokens(ids),
            Err(_) => Err(wrong("token ids with spaces between them, or a list in JSON", field)),
        },
    }
}

/// Bytes as text.
pub fn utf8(bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        format!("expected UTF-8, got byte 0x{:02x} at offset {at}", bytes[at])
    })
}
