//! Networks: from bytes, from a description, and back.

use gatefold::network::{Init, InputKind, NetworkInput};
use gatefold::{NetworkSpec, WeightFormat};
use serde::Serialize;
use wasm_bindgen::prelude::*;

use crate::{error_of, js_error, json, parsed};

/// A network.
#[wasm_bindgen]
pub struct WasmNetwork(pub(crate) gatefold::Network);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Info<'a> {
    spec: &'a NetworkSpec,
    parameters: usize,
    inputs: Vec<InputInfo<'a>>,
    output_size: usize,
    output_is_sequence: bool,
    batch_first: bool,
    labels: &'a [String],
    stages: Vec<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InputInfo<'a> {
    name: &'a str,
    kind: InputKind,
    width: usize,
    num_embeddings: Option<usize>,
}

impl<'a> InputInfo<'a> {
    fn new(input: &'a NetworkInput) -> Self {
        let NetworkInput { name, kind, width, num_embeddings, .. } = input;
        Self { name, kind: *kind, width: *width, num_embeddings: *num_embeddings }
    }
}

#[wasm_bindgen]
impl WasmNetwork {
    /// Reads a file, whose format its content says.
    #[wasm_bindgen(js_name = fromBytes)]
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, JsValue> {
        gatefold::Network::from_bytes(name, bytes).map(Self).map_err(|error| {
            // A server that does not find a file often answers with a page.
            if bytes.trim_ascii_start().starts_with(b"<") {
                let text = format!("{name}: expected a network, got a page of HTML or XML; is the address right?");
                return error_of("file", &text);
            }
            js_error(&error)
        })
    }

    /// A network with random weights of a description in JSON; `init` is `PyTorch` or `Keras`.
    pub fn initialized(spec: &str, init: &str, seed: u32) -> Result<Self, JsValue> {
        let init = match init {
            "PyTorch" => Init::PyTorch,
            "Keras" => Init::Keras,
            other => return Err(error_of("option", &format!("init: expected PyTorch or Keras, got {other:?}"))),
        };
        let spec = parsed("description", spec)?;
        gatefold::Network::initialized(spec, init, seed.into()).map(Self).map_err(|error| js_error(&error))
    }

    /// The same network with weights `f32`, `f16` or `int8`.
    #[wasm_bindgen(js_name = withWeights)]
    pub fn with_weights(&self, format: &str) -> Result<Self, JsValue> {
        let format: WeightFormat = format.parse().map_err(|error| js_error(&error))?;
        self.0.with_weights(format).map(Self).map_err(|error| js_error(&error))
    }

    /// Layers, inputs and output as JSON.
    pub fn info(&self) -> Result<String, JsValue> {
        let network = &self.0;
        json(&Info {
            spec: network.spec(),
            parameters: network.parameters(),
            inputs: network.inputs().iter().map(InputInfo::new).collect(),
            output_size: network.output_size(),
            output_is_sequence: network.output_is_sequence(),
            batch_first: network.batch_first(),
            labels: &network.spec().labels,
            stages: network.stages().iter().map(|stage| stage.label.as_str()).collect(),
        })
    }

    /// A safetensors file.
    #[wasm_bindgen(js_name = toBytes)]
    pub fn to_bytes(&self) -> Result<Vec<u8>, JsValue> {
        self.0.to_bytes().map_err(|error| js_error(&error))
    }
}
