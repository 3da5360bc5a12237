//! Columns of JSON values.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::{BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow_schema::DataType;

use super::encoder::{Fault, wrong};

/// What all values of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonKind {
    Bool,
    Integer,
    Number,
    Text,
    /// Anything, as the text of the JSON.
    Json,
}

impl JsonKind {
    /// The narrowest kind of all `values`.
    pub fn of<'a>(values: impl Iterator<Item = &'a str>) -> Self {
        let mut kinds: Vec<Self> = values.filter(|value| *value != "null").map(Self::of_value).collect();
        kinds.dedup();
        match kinds[..] {
            [only] => only,
            [_, ..] if kinds.iter().all(|kind| matches!(kind, Self::Integer | Self::Number)) => Self::Number,
            _ => Self::Json,
        }
    }

    fn of_value(value: &str) -> Self {
        match value.as_bytes().first() {
            Some(b'"') => Self::Text,
            Some(b't' | b'f') => Self::Bool,
            Some(b'[' | b'{') => Self::Json,
            _ if value.parse::<i64>().is_ok() => Self::Integer,
            // An integer that no type holds exactly.
            _ if !value.contains(['.', 'e', 'E']) => Self::Json,
            _ => Self::Number,
        }
    }

    pub fn data_type(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Integer => DataType::Int64,
            Self::Number => DataType::Float64,
            Self::Text | Self::Json => DataType::Utf8,
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Bool => "true or false as in the first rows",
            Self::Integer => "an integer as in the first rows",
            Self::Number => "a number as in the first rows",
            Self::Text => "a text as in the first rows",
            Self::Json => "a value",
        }
    }
}

/// A column that is being filled.
pub enum JsonColumn {
    Bool(BooleanBuilder),
    Integer(Int64Builder),
    Number(Float64Builder),
    Text(StringBuilder),
    Json(StringBuilder),
}

impl JsonColumn {
    pub fn new(kind: JsonKind) -> Self {
        match kind {
            JsonKind::Bool => Self::Bool(BooleanBuilder::new()),
            JsonKind::Integer => Self::Integer(Int64Builder::new()),
            JsonKind::Number => Self::Number(Float64Builder::new()),
            JsonKind::Text => Self::Text(StringBuilder::new()),
            JsonKind::Json => Self::Json(StringBuilder::new()),
        }
    }

    fn kind(&self) -> JsonKind {
        match self {
            Self::Bool(_) => JsonKind::Bool,
            Self::Integer(_) => JsonKind::Integer,
            Self::Number(_) => JsonKind::Number,
            Self::Text(_) => JsonKind::Text,
            Self::Json(_) => JsonKind::Json,
        }
    }

    /// Whether the column can hold `value`; a missing one is null.
    pub fn check(&self, value: Option<&str>) -> Result<(), Fault> {
        let (own, Some(value)) = (self.kind(), value.filter(|value| *value != "null")) else { return Ok(()) };
        let fits = match (own, JsonKind::of_value(value)) {
            (JsonKind::Json, _) => true,
            // Larger ones would lose digits.
            (JsonKind::Number, JsonKind::Integer) => {
                value.parse::<i64>().is_ok_and(|whole| whole.unsigned_abs() <= 1 << 53)
            }
            (JsonKind::Number, JsonKind::Number) => value.parse::<f64>().is_ok_and(f64::is_finite),
            (JsonKind::Text, JsonKind::Text) => serde_json::from_str::<String>(value).is_ok(),
            (own, other) => own == other,
        };
        if fits { Ok(()) } else { Err(wrong(own.expected(), value)) }
    }

    /// Adds a value that was checked.
    pub fn push(&mut self, value: Option<&str>) {
        let value = value.filter(|value| *value != "null");
        match self {
            Self::Bool(builder) => builder.append_option(value.map(|value| value == "true")),
            Self::Integer(builder) => builder.append_option(value.and_then(|value| value.parse().ok())),
            Self::Number(builder) => builder.append_option(value.and_then(|value| value.parse().ok())),
            Self::Text(builder) => {
                builder.append_option(value.and_then(|value| serde_json::from_str::<String>(value).ok()));
            }
            Self::Json(builder) => builder.append_option(value),
        }
    }

    pub fn finish(self) -> ArrayRef {
        match self {
            Self::Bool(mut builder) => Arc::new(builder.finish()),
            Self::Integer(mut builder) => Arc::new(builder.finish()),
            Self::Number(mut builder) => Arc::new(builder.finish()),
            Self::Text(mut builder) | Self::Json(mut builder) => Arc::new(builder.finish()),
        }
    }
}
