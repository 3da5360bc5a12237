//! Training on the CPU device. Steps block; between them the event loop runs.

use std::cell::RefCell;

use gatefold::Device;
use gatefold::train::{Answers, Dataset, Event, Fit, Loss, Next, Totals, TrainOptions, Trainer};
use js_sys::{Array, Float32Array, Function, Promise, Uint32Array};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::network::WasmNetwork;
use crate::{error_of, js_error, json, parsed};

/// A network that is trained.
#[wasm_bindgen]
pub struct WasmTrainer(RefCell<Trainer>);

/// Sequences with their answers.
#[wasm_bindgen]
pub struct WasmDataset(Dataset);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FitOptions {
    batch_size: usize,
    #[serde(default = "one")]
    epochs: usize,
    #[serde(default)]
    patience: Option<usize>,
}

fn one() -> usize {
    1
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Progress {
    kind: &'static str,
    epoch: usize,
    batch: Option<usize>,
    batches: Option<usize>,
    loss: f64,
    accuracy: f64,
    valid: Option<Value>,
}

fn totals(totals: &Totals) -> Value {
    json!({ "loss": totals.loss, "accuracy": totals.accuracy })
}

fn tokens(row: &JsValue) -> Option<Vec<u32>> {
    row.dyn_ref::<Uint32Array>().map(Uint32Array::to_vec)
}

fn numbers(row: &JsValue) -> Option<Vec<f32>> {
    row.dyn_ref::<Float32Array>().map(Float32Array::to_vec)
}

#[wasm_bindgen]
impl WasmDataset {
    /// `sequences` is an array of `Uint32Array` (token ids) or `Float32Array` (`[T, I]`, where `width` is I). `answers` is a
    /// `Uint32Array` with a class for each sequence, or an array with a `Uint32Array` of classes for each step or a
    /// `Float32Array` of numbers for each sequence.
    #[wasm_bindgen(constructor)]
    pub fn new(sequences: &Array, width: u32, answers: &JsValue) -> Result<Self, JsValue> {
        let wrong = |what: &str, expected: &str| error_of("shape", &format!("{what}: expected {expected}"));
        let rows = answers.dyn_ref::<Array>().map(|rows| rows.iter().collect::<Vec<JsValue>>());
        let answers = match (tokens(answers), rows) {
            (Some(classes), _) => Some(Answers::Classes(classes)),
            (None, Some(rows)) => match rows.iter().map(tokens).collect::<Option<_>>() {
                Some(classes) => Some(Answers::StepClasses(classes)),
                None => rows.iter().map(numbers).collect::<Option<_>>().map(Answers::Values),
            },
            (None, None) => None,
        };
        let answers = answers.ok_or_else(|| {
            wrong("answers", "a Uint32Array, or an array of Uint32Array or of Float32Array with one for each sequence")
        })?;
        let sequences: Vec<JsValue> = sequences.iter().collect();
        let set = match sequences.iter().map(tokens).collect::<Option<_>>() {
            Some(ids) => Dataset::tokens(ids, answers),
            None => {
                let features = sequences.iter().map(numbers).collect::<Option<_>>();
                let features =
                    features.ok_or_else(|| wrong("sequences", "Uint32Array or Float32Array, all of one kind"))?;
                Dataset::features(features, width as usize, answers)
            }
        };
        set.map(Self).map_err(|error| js_error(&error))
    }
}

#[wasm_bindgen]
impl WasmTrainer {
    /// Trains a copy of a network; `options` are those of the crate's `TrainOptions` in JSON that are to be others than its
    /// defaults.
    #[wasm_bindgen(constructor)]
    pub fn new(network: &WasmNetwork, options: &str) -> Result<Self, JsValue> {
        let given: serde_json::Map<String, Value> = parsed("options", options)?;
        let failed = |error: serde_json::Error| error_of("option", &format!("options: {error}"));
        let mut all = serde_json::to_value(TrainOptions::new(Loss::CrossEntropy)).map_err(failed)?;
        for (name, value) in given {
            match all.get_mut(&name) {
                Some(place) => *place = value,
                None => return Err(error_of("option", &format!("options: `{name}` is no option of training"))),
            }
        }
        let options: TrainOptions = serde_json::from_value(all).map_err(failed)?;
        let trainer = Trainer::new(&Device::cpu(), &network.0, options);
        trainer.map(|trainer| Self(RefCell::new(trainer))).map_err(|error| js_error(&error))
    }

    /// Trains; `progress` gets JSON and returns a promise of whether to go on.
    pub async fn fit(
        &self,
        train: &WasmDataset,
        valid: Option<WasmDataset>,
        options: &str,
        progress: Function,
    ) -> Result<String, JsValue> {
        let FitOptions { batch_size, epochs, patience } = parsed("options", options)?;
        let mut fit = Fit::new(batch_size).epochs(epochs);
        fit.patience = patience;
        let Ok(mut trainer) = self.0.try_borrow_mut() else { return Err(busy()) };
        let told = async |event: Event| {
            let progress_of = match event {
                Event::Step { epoch, batch, batches, train } => Progress {
                    kind: "step",
                    epoch,
                    batch: Some(batch),
                    batches: Some(batches),
                    loss: train.loss,
                    accuracy: train.accuracy,
                    valid: None,
                },
                Event::Epoch { epoch, train, valid, .. } => Progress {
                    kind: "epoch",
                    epoch,
                    batch: None,
                    batches: None,
                    loss: train.loss,
                    accuracy: train.accuracy,
                    valid: valid.as_ref().map(totals),
                },
                _ => return Next::Continue,
            };
            let text = json(&progress_of).unwrap_or_default();
            let asked = progress.call1(&JsValue::NULL, &text.into()).ok().and_then(|it| it.dyn_into::<Promise>().ok());
            let goes_on = match asked {
                Some(promise) => JsFuture::from(promise).await.is_ok_and(|answer| answer.is_truthy()),
                None => false,
            };
            if goes_on { Next::Continue } else { Next::Stop }
        };
        let fitted = trainer.fit_async(&train.0, valid.as_ref().map(|set| &set.0), &fit, told).await;
        let fitted = fitted.map_err(|error| js_error(&error))?;
        json(&json!({
            "epochs": fitted.epochs,
            "bestEpoch": fitted.best_epoch,
            "valid": fitted.valid.as_ref().map(totals),
            "skipped": fitted.skipped,
        }))
    }

    /// `{loss, accuracy}` of a data set, as JSON.
    pub fn evaluate(&self, set: &WasmDataset, batch_size: u32) -> Result<String, JsValue> {
        let Ok(trainer) = self.0.try_borrow() else { return Err(busy()) };
        let found = trainer.evaluate_all(&set.0, batch_size as usize).map_err(|error| js_error(&error))?;
        json(&totals(&found))
    }

    /// The network as it is now.
    pub fn network(&self) -> Result<WasmNetwork, JsValue> {
        let Ok(trainer) = self.0.try_borrow() else { return Err(busy()) };
        let network = trainer.network().map_err(|error| js_error(&error))?;
        Ok(WasmNetwork((*network).clone()))
    }

    /// Steps so far.
    pub fn steps(&self) -> Result<f64, JsValue> {
        let Ok(trainer) = self.0.try_borrow() else { return Err(busy()) };
        Ok(trainer.steps() as f64)
    }
}

fn busy() -> JsValue {
    error_of("unsupported", "trainer: expected no other call while it trains; await `fit` first")
}
