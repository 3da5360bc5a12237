//! Networks on a device: runs, states, texts and checks.

use std::sync::{Arc, OnceLock};

use gatefold::{
    Classifier, Device, DeviceChoice, Input, PlanOptions, RandomInput, Session, State, Verdict, verify_async,
};
use js_sys::{Array, Float32Array, Object, Uint32Array};
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;

use crate::network::WasmNetwork;
use crate::{error_of, js_error, json, parsed, set};

/// A network on a device.
#[wasm_bindgen]
pub struct WasmSession {
    session: Arc<Session>,
    classifier: OnceLock<Classifier>,
}

/// The state after a run, for the next.
#[wasm_bindgen]
pub struct WasmState(State);

/// What a caller may say about the plan.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    strategy: Option<String>,
    arithmetic: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeviceInfo<'a> {
    name: &'a str,
    backend: &'a str,
    kind: String,
    text: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Check {
    label: String,
    shape: Vec<usize>,
    max_error: f64,
    allowed: String,
    verdict: &'static str,
}

#[derive(Serialize)]
struct Verified {
    passed: bool,
    device: String,
    steps: usize,
    batch: usize,
    checks: Vec<Check>,
}

/// Numbers or token ids with their shape, as JavaScript passes them.
enum Values {
    Tokens(Vec<u32>),
    Features(Vec<f32>),
}

impl Values {
    fn new(values: &JsValue) -> Result<Self, JsValue> {
        if let Some(ids) = values.dyn_ref::<Uint32Array>() {
            return Ok(Self::Tokens(ids.to_vec()));
        }
        if let Some(numbers) = values.dyn_ref::<Float32Array>() {
            return Ok(Self::Features(numbers.to_vec()));
        }
        Err(error_of("shape", "input: expected a Float32Array, or a Uint32Array of token ids"))
    }

    fn input<'a>(&'a self, shape: &[usize], network: &'a gatefold::Network) -> Result<Input<'a>, JsValue> {
        let input = match (self, shape) {
            (Self::Tokens(ids), &[outer, inner]) => Input::tokens(ids, [outer, inner]),
            (Self::Features(values), &[outer, inner, width]) => Input::features(values, [outer, inner, width]),
            (Self::Features(values), &[batch, width]) => return Ok(Input::rows(values, [batch, width])),
            _ => {
                let expected = "[T, B] of token ids, [T, B, I] of a sequence or [B, I] of vectors";
                return Err(error_of("shape", &format!("input: expected the shape {expected}, got {shape:?}")));
            }
        };
        Ok(input.with_axes(network.input_axes()))
    }
}

fn sizes(shape: &[u32]) -> Vec<usize> {
    shape.iter().map(|&size| size as usize).collect()
}

fn array(values: &[f32], shape: &[usize]) -> Object {
    let object = Object::new();
    set(&object, "values", Float32Array::from(values));
    let shape: Array = shape.iter().map(|&size| JsValue::from_f64(size as f64)).collect();
    set(&object, "shape", shape);
    object
}

#[wasm_bindgen]
impl WasmState {
    /// A safetensors file.
    #[wasm_bindgen(js_name = toBytes)]
    pub fn to_bytes(&self, network: &WasmNetwork) -> Result<Vec<u8>, JsValue> {
        self.0.to_bytes(&network.0).map_err(|error| js_error(&error))
    }

    /// Reads what `toBytes` gave.
    #[wasm_bindgen(js_name = fromBytes)]
    pub fn from_bytes(bytes: &[u8], network: &WasmNetwork) -> Result<Self, JsValue> {
        State::from_bytes(bytes, &network.0).map(Self).map_err(|error| js_error(&error))
    }

    /// All its numbers, layer after layer.
    #[must_use]
    pub fn numbers(&self) -> Vec<f32> {
        self.0.layers.iter().flat_map(|layer| &layer.parts).flat_map(|part| part.data.iter().copied()).collect()
    }
}

#[wasm_bindgen]
impl WasmSession {
    /// Loads a network onto a device: `auto`, `webgpu`, `cpu`.
    pub async fn open(network: &WasmNetwork, device: &str, options: &str) -> Result<Self, JsValue> {
        let Options { strategy, arithmetic } = parsed("options", options)?;
        let mut plan = PlanOptions::default();
        if let Some(strategy) = strategy {
            plan = plan.strategy(strategy.parse().map_err(|error| js_error(&error))?);
        }
        if let Some(arithmetic) = arithmetic {
            plan = plan.arithmetic(arithmetic.parse().map_err(|error| js_error(&error))?);
        }
        let choice: DeviceChoice = device.parse().map_err(|error| js_error(&error))?;
        let device = Device::open_async(&choice).await.map_err(|error| js_error(&error))?;
        let session = Session::with_options_async(&device, &network.0, plan).await;
        let session = Arc::new(session.map_err(|error| js_error(&error))?);
        Ok(Self { session, classifier: OnceLock::new() })
    }

    /// The device as JSON.
    pub fn device(&self) -> Result<String, JsValue> {
        let info = self.session.device().info();
        let kind = format!("{:?}", info.kind).to_lowercase();
        json(&DeviceInfo { name: &info.name, backend: &info.backend, kind, text: info.to_string() })
    }

    /// Runs the network on `values` of `shape`, from `state` or from its initial one.
    pub async fn run(&self, values: JsValue, shape: Vec<u32>) -> Result<Object, JsValue> {
        self.run_with(&values, &shape, None).await
    }

    /// As `run`, from a state.
    #[wasm_bindgen(js_name = runFrom)]
    pub async fn run_from(&self, values: JsValue, shape: Vec<u32>, state: &WasmState) -> Result<Object, JsValue> {
        self.run_with(&values, &shape, Some(&state.0)).await
    }

    /// As `run`, on the calling thread: an error on a GPU.
    #[wasm_bindgen(js_name = runSync)]
    pub fn run_sync(&self, values: &JsValue, shape: &[u32]) -> Result<Object, JsValue> {
        self.run_now(values, shape, None)
    }

    /// As `runSync`, from a state.
    #[wasm_bindgen(js_name = runSyncFrom)]
    pub fn run_sync_from(&self, values: &JsValue, shape: &[u32], state: &WasmState) -> Result<Object, JsValue> {
        self.run_now(values, shape, Some(&state.0))
    }

    /// Labels of texts, as JSON: an array of `{label, probability, probabilities}`.
    pub async fn classify(&self, texts: Vec<String>) -> Result<String, JsValue> {
        let classifier = match self.classifier.get() {
            Some(classifier) => classifier,
            None => {
                let labels = &self.session.network().spec().labels;
                let new = Classifier::from_session(self.session.clone(), labels).map_err(|error| js_error(&error))?;
                self.classifier.get_or_init(|| new)
            }
        };
        #[derive(Serialize)]
        struct Answer<'a> {
            label: &'a str,
            probability: f32,
            probabilities: &'a [f32],
        }
        let predictions = classifier.classify_async(&texts).await.map_err(|error| js_error(&error))?;
        let answers = predictions.iter().map(|answer| {
            let (label, probabilities) = (answer.label.as_str(), &answer.probabilities[..]);
            Answer { label, probability: answer.probability(), probabilities }
        });
        json(&answers.collect::<Vec<_>>())
    }

    /// Compares a run of T `steps` and B `batch` rows on random input with the f64 reference; `reference` is the
    /// session's network unless a test plants a fault. JSON.
    pub async fn verify(&self, reference: &WasmNetwork, steps: u32, batch: u32, seed: u32) -> Result<String, JsValue> {
        let input = RandomInput::new(self.session.network(), steps as usize, batch as usize, seed.into())
            .map_err(|error| js_error(&error))?;
        let axes = self.session.network().input_axes();
        let verified = verify_async(&self.session, &reference.0, input.as_input().with_axes(axes), None).await;
        let verified = verified.map_err(|error| js_error(&error))?;
        let check = |check: &gatefold::Check| {
            let gatefold::Check { label, shape, comparison, tolerance, verdict, .. } = check;
            Check {
                label: label.clone(),
                shape: shape.clone(),
                max_error: comparison.max_error,
                allowed: format!("{:.1e} + {:.1e} |x|", tolerance.atol, tolerance.rtol),
                verdict: match verdict {
                    Verdict::WithinTolerance => "within tolerance",
                    Verdict::AsF32 => "as f32",
                    _ => "failed",
                },
            }
        };
        json(&Verified {
            passed: verified.passed(),
            device: verified.device.to_string(),
            steps: verified.steps,
            batch: verified.batch,
            checks: verified.checks.iter().map(check).collect(),
        })
    }

    /// Output for random input of a seed, which native gatefold gives too.
    #[wasm_bindgen(js_name = runRandom)]
    pub async fn run_random(&self, steps: u32, batch: u32, seed: u32) -> Result<Object, JsValue> {
        let network = self.session.network();
        let input = RandomInput::new(network, steps as usize, batch as usize, seed.into());
        let input = input.map_err(|error| js_error(&error))?;
        let output = self.session.run_async(input.as_input().with_axes(network.input_axes()), None).await;
        output.map(|output| answer(&output)).map_err(|error| js_error(&error))
    }

    /// What a run of T `steps` and B `batch` rows does on a GPU; nothing on the CPU.
    pub fn plan(&self, steps: u32, batch: u32) -> Result<Option<String>, JsValue> {
        let plan = self.session.plan(steps as usize, batch as usize).map_err(|error| js_error(&error))?;
        Ok(plan.map(|plan| plan.to_string()))
    }

    /// Runs that were repeated step by step because workgroups did not run at the same time.
    #[wasm_bindgen(js_name = fallBacks)]
    #[must_use]
    pub fn fall_backs(&self) -> u32 {
        u32::try_from(self.session.counters().fall_backs).unwrap_or(u32::MAX)
    }
}

impl WasmSession {
    fn run_now(&self, values: &JsValue, shape: &[u32], state: Option<&State>) -> Result<Object, JsValue> {
        let values = Values::new(values)?;
        let input = values.input(&sizes(shape), self.session.network())?;
        self.session.run(input, state).map(|output| answer(&output)).map_err(|error| js_error(&error))
    }

    async fn run_with(&self, values: &JsValue, shape: &[u32], state: Option<&State>) -> Result<Object, JsValue> {
        let values = Values::new(values)?;
        let input = values.input(&sizes(shape), self.session.network())?;
        let output = self.session.run_async(input, state).await;
        output.map(|output| answer(&output)).map_err(|error| js_error(&error))
    }
}

/// `{values, shape, others, state, milliseconds}`
fn answer(output: &gatefold::Output) -> Object {
    let object = array(&output.values, &output.shape);
    let others = Object::new();
    for other in &output.others {
        set(&others, &other.name, array(&other.values, &other.shape));
    }
    set(&object, "others", others);
    set(&object, "state", WasmState(output.state.clone()));
    set(&object, "milliseconds", output.timing.wall.as_secs_f64() * 1000.0);
    object
}
