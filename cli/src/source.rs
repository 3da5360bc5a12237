//! Opens the model and the device of a command.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use gatefold::formats::onnx::{self, OnnxOptions};
use gatefold::tuning::Tuning;
use gatefold::{CpuOptions, Device, DeviceChoice, DeviceInfo, DeviceKind, DeviceOptions, Network};

use crate::Result;

/// The model in the file, or the built-in one.
pub fn network(path: Option<&Path>) -> Result<Network> {
    let integers = INTEGERS.get().map_or(&[][..], Vec::as_slice);
    match path {
        Some(path) if integers.is_empty() => Network::load(path).map_err(|error| of_file(path, error)),
        Some(path) => {
            let options = integers.iter().fold(OnnxOptions::default(), |options, (name, n)| options.integer(name, *n));
            onnx::load_with(path, &options).map_err(|error| of_file(path, error))
        }
        None if integers.is_empty() => Ok(gatefold::models::sentiment()?),
        None => Err("--integer: expected an ONNX model, got the built-in model".into()),
    }
}

/// An error that names the file, where it names only a part of it.
fn of_file(path: &Path, error: gatefold::Error) -> Box<dyn std::error::Error> {
    let (path, text) = (path.display().to_string(), error.to_string());
    if text.contains(&path) { error.into() } else { format!("{path}: {text}").into() }
}

/// T of a run: as asked for, else `usual`, or as few as the network can read where it cannot read so many.
pub fn steps(network: &Network, asked: Option<usize>, usual: usize) -> usize {
    let readable = || if network.stage_steps(usual).is_ok() { usual } else { network.least_steps() };
    asked.unwrap_or_else(readable)
}

/// The name of the model in the output.
pub fn name(path: Option<&Path>) -> String {
    path.map_or_else(|| "built-in sentiment model".to_owned(), |path| path.display().to_string())
}

/// Whether `auto` fell back to the CPU.
pub fn fell_back(choice: &DeviceChoice, info: &DeviceInfo) -> bool {
    *choice == DeviceChoice::Auto && info.kind == DeviceKind::Cpu
}

/// The device on which an answer was computed, with a remark if `auto` fell back to the CPU.
pub fn place(choice: &DeviceChoice, info: &DeviceInfo) -> String {
    if fell_back(choice, info) { format!("{info} (no GPU found)") } else { info.to_string() }
}

/// Options of the CPU device and for opening devices, from the command line; the same for every device of a command.
static OPTIONS: OnceLock<(CpuOptions, DeviceOptions)> = OnceLock::new();

/// Integer inputs of an ONNX model, from the command line.
static INTEGERS: OnceLock<Vec<(String, i64)>> = OnceLock::new();

/// Stores the integer inputs of the command line.
pub fn set_integers(integers: &[(String, i64)]) {
    let _ = INTEGERS.set(integers.to_vec());
}

/// Stores the device options of the command line.
pub fn set(cpu: CpuOptions, device: DeviceOptions) {
    let _ = OPTIONS.set((cpu, device));
}

/// Opens the device selected by `choice`, without tuning results.
pub fn untuned(choice: &DeviceChoice) -> Result<Device> {
    let options = OPTIONS.get();
    let device = Device::open_with(choice, options.map_or_else(DeviceOptions::default, |&(_, device)| device))?;
    match options {
        Some(&(options, _)) if device.info().kind == DeviceKind::Cpu => Ok(Device::cpu_with(options)?),
        _ => Ok(device),
    }
}

/// Opens the device that trains: the CPU unless `choice` names another.
pub fn for_training(choice: &DeviceChoice) -> Result<Device> {
    if *choice == DeviceChoice::Auto { untuned(&DeviceChoice::Cpu) } else { open(choice) }
}

/// Opens the device selected by `choice`, with the kernels that earlier commands compiled and the results of
/// `gatefold tune`. A tuning file that does not match is ignored, unless the user named it: then it is an error.
pub fn open(choice: &DeviceChoice) -> Result<Device> {
    let device = untuned(choice)?;
    if let Some(path) = pipelines_path(device.info())
        && let Err(error) = device.load_pipeline_cache(&path)
    {
        log::warn!("compiling every kernel: {error}");
    }
    let (path, named) = match named_tuning() {
        Some(path) => (Some(path), true),
        None => (tuning_path(device.info()), false),
    };
    let Some(path) = path.filter(|path| device.info().kind != DeviceKind::Cpu && (named || path.exists())) else {
        return Ok(device);
    };
    match Tuning::load(&path).and_then(|tuning| device.clone().tuned(tuning)) {
        Ok(tuned) => Ok(tuned),
        Err(error) if named => Err(error.into()),
        Err(error) => {
            log::warn!("running untuned: {error}");
            Ok(device)
        }
    }
}

/// The tuning file that `GATEFOLD_TUNING` names instead of the one in the user's cache folder.
pub fn named_tuning() -> Option<PathBuf> {
    std::env::var_os("GATEFOLD_TUNING").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Stores the kernels that `device` compiled for the next command. A failure does not affect the answer.
pub fn keep_pipelines(device: &Device) {
    if let Some(path) = pipelines_path(device.info())
        && let Err(error) = device.save_pipeline_cache(&path)
    {
        log::warn!("compiled kernels are not kept: {error}");
    }
}

/// Path of the tuning results of this adapter.
pub fn tuning_path(info: &DeviceInfo) -> Option<PathBuf> {
    cache_file(&format!("tuning {} {}", info.name, info.backend), "json")
}

/// Path of the kernels compiled by this driver for this adapter.
fn pipelines_path(info: &DeviceInfo) -> Option<PathBuf> {
    cache_file(&format!("pipelines {} {} {}", info.name, info.backend, info.driver), "bin")
}

/// A file in the user's cache folder, if there is one.
fn cache_file(name: &str, extension: &str) -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let cache = folder("XDG_CACHE_HOME")
        .or_else(|| folder("LOCALAPPDATA"))
        .or_else(|| folder("HOME").map(|home| home.join(".cache")))?;
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = name.chars().map(plain).collect();
    Some(cache.join("gatefold").join(format!("{name}.{extension}")))
}

/// A choice that selects exactly this device.
pub fn exactly(info: &DeviceInfo) -> DeviceChoice {
    if info.kind == DeviceKind::Cpu {
        return DeviceChoice::Cpu;
    }
    DeviceChoice::Adapter { backend: Some(info.backend.clone()), name: Some(info.name.to_ascii_lowercase()) }
}

/// This CPU and every adapter. Indistinguishable adapters are listed once, because a choice can only select the first.
pub fn everywhere() -> Result<Vec<DeviceInfo>> {
    let mut infos = vec![DeviceInfo::clone(untuned(&DeviceChoice::Cpu)?.info())];
    for report in Device::adapters() {
        if !infos.contains(&report.info) {
            infos.push(report.info);
        }
    }
    Ok(infos)
}

/// A device as JSON.
#[derive(serde::Serialize)]
pub struct DeviceJson {
    name: String,
    backend: String,
    kind: String,
    driver: String,
}

impl From<&DeviceInfo> for DeviceJson {
    fn from(info: &DeviceInfo) -> Self {
        let DeviceInfo { name, backend, kind, driver, .. } = info.clone();
        Self { name, backend, kind: kind.to_string(), driver }
    }
}
