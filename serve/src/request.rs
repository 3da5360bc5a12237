//! An inference request: JSON, or JSON followed by the binary data of its tensors.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::datatype::Datatype;
use crate::failure::{Failure, Kind, Result};
use crate::tensor::{Content, Tensor};

/// Header with the length of the JSON part, where binary data follow it.
pub const JSON_LENGTH: &str = "inference-header-content-length";
/// Longest name of a sequence in bytes.
const MOST_NAME: usize = 256;
/// Most inputs or outputs that a request may name.
const MOST_TENSORS: usize = 256;

type Parameters = BTreeMap<String, Value>;

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    parameters: Parameters,
    inputs: Vec<InputBody>,
    #[serde(default)]
    outputs: Vec<OutputBody>,
}

#[derive(Deserialize)]
struct InputBody {
    name: String,
    shape: Vec<u64>,
    datatype: String,
    #[serde(default)]
    parameters: Parameters,
    #[serde(default)]
    data: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct OutputBody {
    name: String,
    #[serde(default)]
    parameters: Parameters,
}

/// What a client asks for.
#[derive(Debug)]
pub struct Request {
    pub id: Option<String>,
    pub inputs: Vec<Tensor>,
    /// The outputs that were named; none for all.
    pub outputs: Vec<Wanted>,
    /// Whether outputs that say nothing else are sent as binary data.
    pub binary: bool,
    /// The sequence that the request belongs to.
    pub sequence: Option<String>,
    pub start: bool,
    pub end: bool,
}

/// An output that a client asks for.
#[derive(Debug)]
pub struct Wanted {
    pub name: String,
    pub binary: Option<bool>,
    /// How many classes are wanted instead of the numbers.
    pub classes: Option<usize>,
}

impl Request {
    /// Reads a request; `most` is the largest number of elements of a tensor.
    pub fn parse(headers: &HeaderMap, body: &Bytes, most: usize) -> Result<Self> {
        if let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|&encoding| encoding != "identity") {
            return Err(Failure::new(
                Kind::Encoding,
                format!("Content-Encoding: expected a body that is not compressed, got {encoding:?}"),
            ));
        }
        let length = match headers.get(JSON_LENGTH) {
            None => body.len(),
            Some(value) => {
                let length = value.to_str().ok().and_then(|text| text.parse().ok());
                length.filter(|&length: &usize| length <= body.len()).ok_or_else(|| {
                    let expected = format!("a number up to {}, the length of the body", body.len());
                    Failure::bad(format!("Inference-Header-Content-Length: expected {expected}, got {value:?}"))
                })?
            }
        };
        let json: Body = serde_json::from_slice(&body[..length])
            .map_err(|error| Failure::bad(format!("request: expected JSON of an inference request, got {error}")))?;
        if json.inputs.len().max(json.outputs.len()) > MOST_TENSORS {
            return Err(Failure::bad(format!("request: expected at most {MOST_TENSORS} inputs and outputs")));
        }
        let mut binary = body.slice(length..);
        let mut inputs: Vec<Tensor> = Vec::with_capacity(json.inputs.len());
        for input in json.inputs {
            if inputs.iter().any(|other| other.name == input.name) {
                return Err(Failure::bad(format!("input `{}`: expected once, got it twice", input.name)));
            }
            inputs.push(tensor(input, &mut binary, most)?);
        }
        if !binary.is_empty() {
            let got = format!("{} bytes behind the last input", binary.len());
            return Err(Failure::bad(format!(
                "binary data: expected as many bytes as binary_data_size says, got {got}"
            )));
        }
        let mut request = Self {
            id: json.id,
            inputs,
            outputs: json.outputs.into_iter().map(wanted).collect::<Result<_>>()?,
            binary: false,
            sequence: None,
            start: false,
            end: false,
        };
        for (name, value) in &json.parameters {
            match name.as_str() {
                "sequence_id" => request.sequence = sequence(value)?,
                "sequence_start" => request.start = truth(name, value)?,
                "sequence_end" => request.end = truth(name, value)?,
                "binary_data_output" => request.binary = truth(name, value)?,
                _ => {
                    let known = "sequence_id, sequence_start, sequence_end, binary_data_output";
                    return Err(unknown("the request", name, known));
                }
            }
        }
        if request.sequence.is_none() && (request.start || request.end) && request.input("sequence_id").is_none() {
            return Err(Failure::bad("sequence_start, sequence_end: expected a sequence_id beside them, got none"));
        }
        Ok(request)
    }

    /// The input of this name, if the client sent it.
    pub fn input(&self, name: &str) -> Option<&Tensor> {
        self.inputs.iter().find(|input| input.name == name)
    }
}

/// The name of a sequence in a parameter or in a path. The number 7 and the text "7" are the same name.
pub fn checked_name(name: &str) -> Result<String> {
    if name.is_empty() || name.len() > MOST_NAME || name.chars().any(char::is_control) {
        let expected = format!("a name of 1 to {MOST_NAME} bytes without control characters");
        return Err(Failure::bad(format!("sequence_id: expected {expected}, got {} bytes", name.len())));
    }
    Ok(name.to_owned())
}

fn sequence(value: &Value) -> Result<Option<String>> {
    match value {
        // The protocol's way to say that there is no sequence.
        Value::String(name) if name.is_empty() => Ok(None),
        Value::Number(number) if number.as_u64() == Some(0) => Ok(None),
        Value::String(name) => checked_name(name).map(Some),
        Value::Number(number) if number.is_i64() || number.is_u64() => Ok(Some(number.to_string())),
        other => Err(Failure::bad(format!("sequence_id: expected a string or an integer, got {other}"))),
    }
}

fn truth(name: &str, value: &Value) -> Result<bool> {
    value.as_bool().ok_or_else(|| Failure::bad(format!("parameter {name}: expected true or false, got {value}")))
}

fn unknown(of: &str, name: &str, known: &str) -> Failure {
    Failure::bad(format!("parameters of {of}: expected one of {known}, got `{name}`"))
}

fn count(of: &str, name: &str, value: &Value) -> Result<usize> {
    let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| Failure::bad(format!("parameter {name} of {of}: expected a whole number, got {value}")))
}

/// A tensor, whose binary data are taken from the front of `binary`.
fn tensor(input: InputBody, binary: &mut Bytes, most: usize) -> Result<Tensor> {
    let of = format!("input `{}`", input.name);
    let datatype = Datatype::of(&input.datatype).map_err(|error| Failure::bad(format!("{of}: {}", error.message)))?;
    let mut size = None;
    for (name, value) in &input.parameters {
        match name.as_str() {
            "binary_data_size" => size = Some(count(&of, name, value)?),
            _ => return Err(unknown(&of, name, "binary_data_size")),
        }
    }
    let content = match (size, input.data) {
        (Some(size), None) if size <= binary.len() => Content::Binary(binary.split_to(size)),
        (Some(size), None) => {
            let got = format!("{} that are left of the body", binary.len());
            return Err(Failure::bad(format!("{of}: expected {size} bytes of binary data, got {got}")));
        }
        (None, Some(raw)) => Content::Json(raw),
        (Some(_), Some(_)) => return Err(Failure::bad(format!("{of}: expected data or binary_data_size, got both"))),
        (None, None) => return Err(Failure::bad(format!("{of}: expected data or binary_data_size, got neither"))),
    };
    let shape = input.shape.iter().map(|&n| usize::try_from(n).unwrap_or(usize::MAX)).collect();
    let tensor = Tensor { name: input.name, datatype, shape, content };
    let elements = tensor.elements()?;
    if elements > most {
        let message = format!("{of}: expected at most {most} elements, got {elements}");
        return Err(Failure::new(Kind::TooLarge, message));
    }
    Ok(tensor)
}

fn wanted(output: OutputBody) -> Result<Wanted> {
    let of = format!("output `{}`", output.name);
    let (mut binary, mut classes) = (None, None);
    for (name, value) in &output.parameters {
        match name.as_str() {
            "binary_data" => binary = Some(truth(name, value)?),
            "classification" => classes = Some(count(&of, name, value)?).filter(|&count| count > 0),
            _ => return Err(unknown(&of, name, "binary_data, classification")),
        }
    }
    Ok(Wanted { name: output.name, binary, classes })
}
