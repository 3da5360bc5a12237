//! The options of one Keras layer. Each is read by name: an option that was not read is an error, unless it is known not
//! to affect inference.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::malformed;
use super::tensorflow::OPERANDS;
use crate::base::error::{Error, Result};

/// Options that only matter for training, naming or speed.
const NO_MATTER: [&str; 13] = [
    "name",
    "trainable",
    "batch_input_shape", // the model's input, read where it matters
    "input_length",
    "implementation", // two ways to compute the same
    "unroll",
    "stateful", // the caller carries the state
    "seed",
    "dropout",
    "recurrent_dropout",
    "unit_forget_bias", // initial weights
    "autocast",
    "synchronized",
];

/// As [`NO_MATTER`], by the endings of the names.
const NO_MATTER_ENDINGS: [&str; 3] = ["_initializer", "_regularizer", "_constraint"];

/// Policies under which weights are real numbers. All are computed in f32.
const POLICIES: [&str; 6] = ["float32", "float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16"];

/// What stands for numbers that JSON does not have ([`json`](super::json)).
pub(super) const NAN: &str = "NaN";
pub(super) const INFINITY: &str = "Infinity";
pub(super) const MINUS_INFINITY: &str = "-Infinity";

/// Options of a layer, and which of them were asked for.
pub(super) struct LayerOptions<'a> {
    pub layer: &'a str,
    pub class: &'a str,
    values: &'a Map<String, Value>,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a> LayerOptions<'a> {
    pub(super) fn new(layer: &'a str, class: &'a str, values: &'a Map<String, Value>) -> Self {
        Self { layer, class, values, asked: RefCell::default() }
    }

    /// The option, if it is there and not null.
    pub(super) fn get(&self, key: &'static str) -> Option<&'a Value> {
        self.asked.borrow_mut().insert(key);
        self.values.get(key).filter(|value| !value.is_null())
    }

    /// An error if the option is not in the file: its default is not the same in all versions of Keras.
    pub(super) fn present(&self, key: &'static str) -> Result<()> {
        if self.values.contains_key(key) { Ok(()) } else { Err(self.malformed(key, "a value", "none")) }
    }

    pub(super) fn size(&self, key: &'static str) -> Result<usize> {
        let value = self.required(key)?;
        self.as_size(key, value)
    }

    /// The option, if it is there; null is an error, since no layer takes it in the place of this kind of value.
    fn stated(&self, key: &'static str, expected: &str) -> Result<Option<&'a Value>> {
        match self.get(key) {
            None if self.values.contains_key(key) => Err(self.wrong(key, expected, &Value::Null)),
            value => Ok(value),
        }
    }

    /// A size, or a list of one, as Keras writes those of layers with one spatial dimension.
    pub(super) fn length(&self, key: &'static str, default: usize) -> Result<usize> {
        match self.stated(key, "a whole number")? {
            None => Ok(default),
            Some(Value::Array(list)) if list.len() == 1 => self.as_size(key, &list[0]),
            Some(value) => self.as_size(key, value),
        }
    }

    pub(super) fn flag(&self, key: &'static str, default: bool) -> Result<bool> {
        match self.stated(key, "true or false")? {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key, "true or false", value)),
        }
    }

    pub(super) fn number(&self, key: &'static str, default: f32) -> Result<f32> {
        let Some(value) = self.stated(key, "a number")? else { return Ok(default) };
        #[expect(clippy::cast_possible_truncation, reason = "options are rounded to f32 on purpose")]
        let number = value.as_f64().map(|number| number as f32).filter(|number| number.is_finite());
        number.ok_or_else(|| self.wrong(key, "a number", value))
    }

    /// As [`LayerOptions::number`]; it may be infinite, or no number.
    pub(super) fn any_number(&self, key: &'static str, default: f32) -> Result<f32> {
        match self.get(key).and_then(Value::as_str) {
            Some(NAN) => Ok(f32::NAN),
            Some(INFINITY) => Ok(f32::INFINITY),
            Some(MINUS_INFINITY) => Ok(f32::NEG_INFINITY),
            _ => self.number(key, default),
        }
    }

    pub(super) fn text(&self, key: &'static str, default: &'a str) -> Result<&'a str> {
        match self.stated(key, "a text")? {
            None => Ok(default),
            Some(value) => value.as_str().ok_or_else(|| self.wrong(key, "a text", value)),
        }
    }

    /// Whether an axis, or a list of one, is the last of `dimensions`.
    pub(super) fn last_axis(&self, key: &'static str, dimensions: i64) -> Result<()> {
        let axis = match self.stated(key, "an axis")? {
            None => return Ok(()),
            Some(Value::Array(list)) if list.len() == 1 => &list[0],
            Some(value) => value,
        };
        match axis.as_i64() {
            Some(axis) if axis == -1 || axis == dimensions - 1 => Ok(()),
            _ => Err(self.unsupported(&format!("option `{key}` = {}", brief(axis)))),
        }
    }

    /// Demands that an option, if it is there, has the one value that is implemented.
    pub(super) fn only(&self, key: &'static str, value: &Value) -> Result<()> {
        match self.get(key) {
            Some(other) if other != value => Err(self.unsupported(&format!("option `{key}` = {}", brief(other)))),
            _ => Ok(()),
        }
    }

    /// Demands that options are absent, null, false or 0.
    pub(super) fn none_of(&self, keys: &[&'static str]) -> Result<()> {
        for key in keys {
            if let Some(value) = self.get(key)
                && *value != Value::Bool(false)
                && value.as_f64() != Some(0.0)
            {
                return Err(self.unsupported(&format!("option `{key}` = {}", brief(value))));
            }
        }
        Ok(())
    }

    /// Demands that the numbers are of a kind that is read, and that no option is left unread.
    pub(super) fn finish(&self) -> Result<()> {
        if let Some(policy) = self.get("dtype") {
            let name = policy.pointer("/config/name").unwrap_or(policy);
            if !name.as_str().is_some_and(|name| POLICIES.contains(&name)) {
                return Err(self.unsupported(&format!("dtype policy {}", brief(policy))));
            }
        }
        self.nothing_left()
    }

    /// Demands that no option is left unread.
    pub(super) fn nothing_left(&self) -> Result<()> {
        let asked = self.asked.borrow();
        let known = |key: &str| {
            asked.contains(key)
                || OPERANDS.contains(&key)
                || NO_MATTER.contains(&key)
                || NO_MATTER_ENDINGS.iter().any(|ending| key.ends_with(ending))
        };
        match self.values.iter().find(|(key, _)| !known(key)) {
            Some((key, value)) => Err(self.unsupported(&format!("option `{key}` = {}", brief(value)))),
            None => Ok(()),
        }
    }

    pub(super) fn unsupported(&self, what: &str) -> Error {
        Error::Unsupported { place: format!("layer `{}`", self.layer), what: format!("Keras {}: {what}", self.class) }
    }

    pub(super) fn wrong(&self, key: &str, expected: &str, got: &Value) -> Error {
        self.malformed(key, expected, &brief(got))
    }

    fn malformed(&self, key: &str, expected: &str, got: &str) -> Error {
        malformed(&format!("layer `{}` ({}): option `{key}`", self.layer, self.class), expected, &got)
    }

    fn required(&self, key: &'static str) -> Result<&'a Value> {
        self.get(key).ok_or_else(|| self.malformed(key, "a value", "none"))
    }

    fn as_size(&self, key: &str, value: &Value) -> Result<usize> {
        let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
        size.ok_or_else(|| self.wrong(key, "a whole number", value))
    }
}

/// The start of a value's JSON, for messages.
pub(super) fn brief(value: &Value) -> String {
    const SHOWN: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
