//! gatefold for JavaScript: what `js/gatefold.js` calls. It passes typed arrays and JSON texts, and adds nothing to the crate.
#![cfg(target_arch = "wasm32")]

mod network;
mod session;
mod trainer;

use gatefold::Error;
use js_sys::{Object, Reflect};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn console_error(text: &str);
}

/// Shows the message of a panic, which is a defect of gatefold.
#[wasm_bindgen(start)]
fn start() {
    std::panic::set_hook(Box::new(|panic| console_error(&format!("gatefold: {panic}"))));
}

/// The version of the crate.
#[wasm_bindgen]
#[must_use]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").into()
}

/// An `Error` of JavaScript with the crate's text and a word for its kind.
fn js_error(error: &Error) -> JsValue {
    let kind = match error {
        Error::DeviceLost { .. } => "device-lost",
        Error::NoAdapter { .. } => "no-adapter",
        Error::Gpu { .. } => "gpu",
        Error::Unsupported { .. } => "unsupported",
        Error::TooLarge { .. } => "too-large",
        Error::Shape { .. } => "shape",
        Error::Option { .. } => "option",
        Error::EmptyText { .. } | Error::TokenOutOfRange { .. } | Error::LabelOutOfRange { .. } => "input",
        Error::Diverged { .. } => "diverged",
        _ => "file",
    };
    error_of(kind, &error.to_string())
}

fn error_of(kind: &str, text: &str) -> JsValue {
    let error = js_sys::Error::new(text);
    error.set_name("GatefoldError");
    set(&error, "kind", kind);
    error.into()
}

/// An argument that JavaScript passes as JSON.
fn parsed<T: serde::de::DeserializeOwned>(what: &str, json: &str) -> Result<T, JsValue> {
    serde_json::from_str(json).map_err(|error| error_of("option", &format!("{what}: {error}")))
}

fn json(value: &impl serde::Serialize) -> Result<String, JsValue> {
    serde_json::to_string(value).map_err(|error| error_of("option", &error.to_string()))
}

/// Sets a property of a plain object, which does not fail.
fn set(object: &Object, key: &str, value: impl Into<JsValue>) {
    let _ = Reflect::set(object, &key.into(), &value.into());
}
