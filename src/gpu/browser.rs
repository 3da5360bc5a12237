//! The name of a browser's adapter, which wgpu 30 does not pass on (wgpu issue 8819).

use js_sys::{Function, Promise, Reflect, global};
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;

/// `info` with a name. Browsers give the vendor and the architecture, some a description too.
pub(super) async fn named(mut info: wgpu::AdapterInfo) -> wgpu::AdapterInfo {
    if info.name.is_empty() {
        info.name = name().await.unwrap_or_else(|| "adapter of the browser".into());
    }
    info
}

/// Whether the browser has WebGPU; wgpu does not open an instance without it.
pub(super) fn has_gpu() -> bool {
    gpu().is_some()
}

fn gpu() -> Option<JsValue> {
    // wgpu looks for it in these two scopes alone, and panics elsewhere.
    ["Window", "WorkerGlobalScope"].iter().find_map(|scope| get(&global(), scope))?;
    get(&get(&global(), "navigator")?, "gpu")
}

/// A property that is there and is not null.
fn get(of: &JsValue, key: &str) -> Option<JsValue> {
    Reflect::get(of, &key.into()).ok().filter(|value| !value.is_falsy())
}

async fn name() -> Option<String> {
    let gpu = gpu()?;
    let request: Function = get(&gpu, "requestAdapter")?.dyn_into().ok()?;
    let promise: Promise = request.call0(&gpu).ok()?.dyn_into().ok()?;
    let adapter = JsFuture::from(promise).await.ok()?;
    let info = get(&adapter, "info")?;
    let texts = ["description", "vendor", "architecture"].map(|key| get(&info, key).and_then(|text| text.as_string()));
    let [description, vendor, architecture] = texts.map(Option::unwrap_or_default);
    let name = if description.is_empty() { format!("{vendor} {architecture}") } else { description };
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}
