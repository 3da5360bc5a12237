//! TextVectorization and StringLookup as the network's text part.

use serde_json::{Value, json};

use super::graph::KerasGraph;
use super::layers::{Item, Shape};
use super::malformed;
use super::options::LayerOptions;
use crate::base::error::Result;
use crate::network::{Split, Standardize, TextSpec};

/// Whether a layer turns texts into token ids.
pub(super) fn is_text(class: &str) -> bool {
    matches!(class, "TextVectorization" | "StringLookup")
}

/// The shape of what a text layer gives.
pub(super) fn shape(item: &Item<'_>) -> Result<Shape> {
    Ok(Shape::Tokens(read(item)?.0.output_sequence_length))
}

/// The text part of a model; `file` gives the content of a layer's `vocabulary.txt`, by the layer's group.
pub(super) fn of_model<'f>(graph: &KerasGraph<'_>, file: impl Fn(&str) -> Option<&'f str>) -> Result<Option<TextSpec>> {
    let mut layers = graph.nodes.iter().filter(|node| is_text(node.item.class));
    let Some(node) = layers.next() else { return Ok(None) };
    let item = node.item;
    if let Some(other) = layers.next() {
        return Err(other.item.unsupported(&format!("{} beside another one", other.item.class)));
    }
    let (spec, listed) = read(&item)?;
    let stored = || {
        let group = graph.groups.get(item.name).map_or(item.name, String::as_str);
        file(group).map(|text| text.split('\n').map(str::to_owned).collect())
    };
    let Some(tokens) = listed.or_else(stored) else {
        let expected = "a vocabulary, in its options or in a file `vocabulary.txt` of the .keras archive";
        return Err(malformed(&format!("layer `{}`", item.name), expected, &"none"));
    };
    let reserved = ["", "[UNK]"].map(str::to_owned);
    let states_reserved = tokens.starts_with(&reserved);
    let vocabulary = if states_reserved { tokens } else { [reserved.to_vec(), tokens].concat() };
    Ok(Some(TextSpec { vocabulary, ..spec }))
}

/// The options of a text layer, and the vocabulary among them.
fn read(item: &Item<'_>) -> Result<(TextSpec, Option<Vec<String>>)> {
    let options = LayerOptions::new(item.name, item.class, item.config);
    let mut spec = TextSpec {
        standardize: Standardize::None,
        split: Split::Whitespace,
        vocabulary: Vec::new(),
        output_sequence_length: None,
    };
    options.only("output_mode", &json!("int"))?;
    options.only("encoding", &json!("utf-8"))?;
    options.none_of(&["sparse", "ragged", "invert", "ngrams", "idf_weights"])?;
    // The sizes bound the vocabulary, which is given; the type is that of texts or ids.
    for unused in ["max_tokens", "pad_to_max_tokens", "vocabulary_size", "dtype"] {
        options.get(unused);
    }
    if item.class == "StringLookup" {
        // Words of no vocabulary and padding have the ids that TextVectorization gives them.
        options.only("num_oov_indices", &json!(1))?;
        options.only("mask_token", &json!(""))?;
        if options.get("mask_token").is_none() {
            return Err(options.unsupported("option `mask_token` = null (supported: \"\", so that id 0 is padding)"));
        }
        for unused in ["oov_token", "oov_method", "salt"] {
            options.get(unused);
        }
    } else {
        let standardize = options.get("standardize").map_or(Some("none"), Value::as_str);
        spec.standardize = match standardize {
            Some("lower_and_strip_punctuation") => Standardize::LowerAndStripPunctuation,
            Some("lower") => Standardize::Lower,
            Some("strip_punctuation") => Standardize::StripPunctuation,
            Some("none") => Standardize::None,
            _ => return Err(options.unsupported("option `standardize`: a function of its own")),
        };
        spec.split = match options.get("split").map(Value::as_str) {
            Some(Some("whitespace")) => Split::Whitespace,
            Some(Some("character")) => Split::Character,
            None => return Err(options.unsupported("option `split` = null: texts that are not split")),
            _ => return Err(options.unsupported("option `split`: a function of its own")),
        };
        let length = options.get("output_sequence_length").map(|_| options.length("output_sequence_length", 1));
        spec.output_sequence_length = length.transpose()?;
    }
    let listed = options.get("vocabulary").map(|list| {
        let tokens = list.as_array().map(|list| list.iter().map(|token| token.as_str().map(str::to_owned)).collect());
        tokens.flatten().ok_or_else(|| options.wrong("vocabulary", "a list of texts", list))
    });
    options.nothing_left()?;
    Ok((spec, listed.transpose()?))
}
