//! An inference request: JSON, or JSON followed by the binary data of its tensors.

use std::borrow::Cow;

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

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    parameters: RequestParameters,
    #[serde(borrow)]
    inputs: Vec<InputBody<'a>>,
    #[serde(default)]
    outputs: Vec<OutputBody>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RequestParameters {
    sequence_id: Option<Value>,
    sequence_start: bool,
    sequence_end: bool,
    binary_data_output: bool,
}

#[derive(Deserialize)]
struct InputBody<'a> {
    name: String,
    shape: Vec<usize>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    #[serde(default)]
    parameters: InputParameters,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct InputParameters {
    binary_data_size: Option<usize>,
}

#[derive(Deserialize)]
struct OutputBody {
    name: String,
    #[serde(default)]
    parameters: OutputParameters,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OutputParameters {
    binary_data: Option<bool>,
    classification: Option<usize>,
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
        let json: Body<'_> = serde_json::from_slice(&body[..length])
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
        let RequestParameters { sequence_id, sequence_start, sequence_end, binary_data_output } = json.parameters;
        let request = Self {
            id: json.id,
            inputs,
            outputs: json.outputs.into_iter().map(Wanted::from).collect(),
            binary: binary_data_output,
            sequence: sequence_id.as_ref().map(sequence).transpose()?.flatten(),
            start: sequence_start,
            end: sequence_end,
        };
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
        // The protocol's way to say that there is no sequence. In a path, as the text "0" and in a tensor, 0 is a name as any other.
        Value::String(name) if name.is_empty() => Ok(None),
        Value::Number(number) if number.as_u64() == Some(0) => Ok(None),
        Value::String(name) => checked_name(name).map(Some),
        Value::Number(number) if number.is_i64() || number.is_u64() => Ok(Some(number.to_string())),
        other => Err(Failure::bad(format!("sequence_id: expected a string or an integer, got {other}"))),
    }
}

/// A tensor, whose binary data are taken from the front of `binary`.
fn tensor(input: InputBody<'_>, binary: &mut Bytes, most: usize) -> Result<Tensor> {
    let of = format!("input `{}`", input.name);
    let datatype = Datatype::of(&input.datatype).map_err(|error| Failure::bad(format!("{of}: {}", error.message)))?;
    let content = match (input.parameters.binary_data_size, input.data) {
        (Some(size), None) if size <= binary.len() => Content::Binary(binary.split_to(size)),
        (Some(size), None) => {
            let got = format!("{} that are left of the body", binary.len());
            return Err(Failure::bad(format!("{of}: expected {size} bytes of binary data, got {got}")));
        }
        (None, Some(raw)) => Content::Json(raw.to_owned()),
        (Some(_), Some(_)) => return Err(Failure::bad(format!("{of}: expected data or binary_data_size, got both"))),
        (None, None) => return Err(Failure::bad(format!("{of}: expected data or binary_data_size, got neither"))),
    };
    let tensor = Tensor { name: input.name, datatype, shape: input.shape, content };
    let elements = tensor.elements()?;
    if elements > most {
        let message = format!("{of}: expected at most {most} elements, got {elements}");
        return Err(Failure::new(Kind::TooLarge, message));
    }
    Ok(tensor)
}

impl From<OutputBody> for Wanted {
    fn from(output: OutputBody) -> Self {
        let OutputParameters { binary_data, classification } = output.parameters;
        Self { name: output.name, binary: binary_data, classes: classification.filter(|&count| count > 0) }
    }
}
