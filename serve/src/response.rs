//! The answer to an inference request: JSON, or JSON followed by the binary data of its tensors.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use serde::Serialize;

use crate::request::{JSON_LENGTH, Request};

/// An output of a run.
pub struct Computed {
    pub name: String,
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

#[derive(Serialize)]
struct Answer<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<Given<'a>>,
}

#[derive(Serialize)]
struct Given<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: Vec<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Sizes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Elements<'a>>,
}

#[derive(Serialize)]
struct Sizes {
    binary_data_size: usize,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Elements<'a> {
    Numbers(&'a [f32]),
    Texts(Vec<String>),
}

impl Elements<'_> {
    /// Puts them behind other binary data.
    fn write(&self, binary: &mut Vec<u8>) {
        match self {
            Self::Numbers(numbers) => binary.extend(numbers.iter().flat_map(|number| number.to_le_bytes())),
            Self::Texts(texts) => {
                for text in texts {
                    binary.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
                    binary.extend(text.as_bytes());
                }
            }
        }
    }
}

/// The answer with those of the outputs that were asked for, in the order in which they were, or all.
pub fn response(model: &str, version: &str, request: &Request, outputs: &[Computed], labels: &[String]) -> Response {
    let wanted: Vec<(&Computed, bool, Option<usize>)> = if request.outputs.is_empty() {
        outputs.iter().map(|output| (output, request.binary, None)).collect()
    } else {
        let found = request.outputs.iter().filter_map(|wanted| {
            let output = outputs.iter().find(|output| output.name == wanted.name)?;
            Some((output, wanted.binary.unwrap_or(request.binary), wanted.classes))
        });
        found.collect()
    };
    let mut binary: Vec<u8> = Vec::new();
    let has_binary = wanted.iter().any(|&(_, as_binary, _)| as_binary);
    let mut given = Vec::with_capacity(wanted.len());
    for (output, as_binary, classes) in wanted {
        let (datatype, shape, elements) = match classes {
            None => ("FP32", output.shape.clone(), Elements::Numbers(&output.values)),
            Some(most) => {
                let (shape, texts) = classified(output, most, labels);
                ("BYTES", shape, Elements::Texts(texts))
            }
        };
        let (parameters, data) = if as_binary {
            let before = binary.len();
            elements.write(&mut binary);
            (Some(Sizes { binary_data_size: binary.len() - before }), None)
        } else {
            (None, Some(elements))
        };
        given.push(Given { name: &output.name, datatype, shape, parameters, data });
    }
    let answer = Answer { model_name: model, model_version: version, id: request.id.as_deref(), outputs: given };
    // Texts and numbers are all that it has, so that there is no error.
    let mut body = serde_json::to_vec(&answer).unwrap_or_default();
    let json = body.len();
    body.append(&mut binary);
    let kind = if has_binary { "application/octet-stream" } else { "application/json" };
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if has_binary {
        response.headers_mut().insert(HeaderName::from_static(JSON_LENGTH), HeaderValue::from(json));
    }
    response
}

/// `value:index:label` of the largest numbers of each row, the largest first.
fn classified(output: &Computed, most: usize, labels: &[String]) -> (Vec<usize>, Vec<String>) {
    let mut shape = output.shape.clone();
    let width = shape.last().copied().unwrap_or(1).max(1);
    let most = most.min(width);
    if let Some(last) = shape.last_mut() {
        *last = most;
    }
    let mut texts = Vec::new();
    for row in output.values.chunks_exact(width) {
        let mut classes: Vec<usize> = (0..width).collect();
        classes.sort_by(|&a, &b| row[b].total_cmp(&row[a]).then(a.cmp(&b)));
        for &class in &classes[..most] {
            let label = labels.get(class).filter(|_| labels.len() == width);
            texts.push(
                label.map_or_else(
                    || format!("{}:{class}", row[class]),
                    |label| format!("{}:{class}:{label}", row[class]),
                ),
            );
        }
    }
    (shape, texts)
}
