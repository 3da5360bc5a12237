//! The properties of a machine on which its times depend.

use std::collections::BTreeMap;
use std::process::Command;

use gatefold::{Device, DeviceKind};
use serde::Serialize;
use sysinfo::System;

use super::measure::Place;

/// The machine as described in a record.
#[derive(Serialize)]
pub struct Machine {
    cpu: String,
    cores: usize,
    memory_bytes: u64,
    os: Option<String>,
    kernel: Option<String>,
    adapters: Vec<Adapter>,
    date: String,
    /// Commit of the checkout that contains the binary, or `GATEFOLD_COMMIT`.
    commit: Option<String>,
    command: Vec<String>,
}

#[derive(Serialize)]
struct Adapter {
    name: String,
    backend: String,
    driver: String,
    limits: BTreeMap<&'static str, u64>,
    features: BTreeMap<&'static str, bool>,
}

impl Machine {
    /// This machine, with the adapters among `places`.
    pub fn here(places: &[Place]) -> Self {
        let system = System::new_all();
        // No need to list adapters if only the CPU is measured.
        let all_cpu = places.iter().all(|place| place.info.kind == DeviceKind::Cpu);
        let reports = if all_cpu { Vec::new() } else { Device::adapters() };
        let used = reports.into_iter().filter(|report| places.iter().any(|place| place.info == report.info));
        let adapters = used.map(|report| Adapter {
            name: report.info.name,
            backend: report.info.backend,
            driver: report.info.driver,
            limits: report.limits.into_iter().collect(),
            features: report.features.into_iter().collect(),
        });
        Self {
            cpu: system.cpus().first().map_or_else(String::new, |cpu| cpu.brand().trim().to_owned()),
            cores: system.cpus().len(),
            memory_bytes: system.total_memory(),
            os: System::long_os_version(),
            kernel: System::kernel_version(),
            adapters: adapters.collect(),
            date: jiff::Timestamp::now().to_string(),
            commit: commit(),
            command: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
        }
    }
}

fn commit() -> Option<String> {
    if let Ok(commit) = std::env::var("GATEFOLD_COMMIT") {
        return Some(commit);
    }
    let git = ["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"];
    let output = Command::new("git").args(git).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
