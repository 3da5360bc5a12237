//! `gatefold devices`: lists adapters and the one that would be used.

use std::collections::BTreeMap;

use gatefold::{AdapterReport, Device, DeviceChoice, DeviceKind};
use serde::Serialize;

use crate::Result;
use crate::args::{DevicesArgs, TreeFormat};
use crate::report::Report;
use crate::source::DeviceJson;
use crate::table::{Table, bold, dim, left, right};
use crate::units::{bytes, count, grouped};

/// Lists adapters.
pub fn run(args: &DevicesArgs, choice: &DeviceChoice) -> Result<Report> {
    let adapters = Device::adapters();
    let taken = crate::source::untuned(choice)?;
    let why = why(choice, taken.info().kind, &adapters);
    match args.format {
        TreeFormat::Table => {
            let mut text = if adapters.is_empty() { "no graphics adapter\n".to_owned() } else { tables(&adapters) };
            text += &format!("\n`{choice}` takes {}: {why}\n", bold(&taken.info().to_string()));
            Ok(Report::new(text))
        }
        TreeFormat::Json => {
            #[derive(Serialize)]
            struct Adapter {
                #[serde(flatten)]
                device: DeviceJson,
                limits: BTreeMap<&'static str, u64>,
                features: BTreeMap<&'static str, bool>,
                /// Rows and columns of the matrices that units multiply.
                #[serde(skip_serializing_if = "Option::is_none")]
                matrix_units: Option<u32>,
            }
            #[derive(Serialize)]
            struct All {
                adapters: Vec<Adapter>,
                choice: String,
                takes: DeviceJson,
                why: String,
            }
            let adapters = adapters.iter().map(|adapter| Adapter {
                device: DeviceJson::from(&adapter.info),
                limits: adapter.limits.iter().copied().collect(),
                features: adapter.features.iter().copied().collect(),
                matrix_units: adapter.matrix_units.map(|units| units.side.length()),
            });
            Report::json(&All {
                adapters: adapters.collect(),
                choice: choice.to_string(),
                takes: DeviceJson::from(&**taken.info()),
                why,
            })
        }
    }
}

/// Why `choice` selected a device of `kind`.
fn why(choice: &DeviceChoice, kind: DeviceKind, adapters: &[AdapterReport]) -> String {
    let gpus = adapters.iter().filter(|adapter| adapter.info.kind.is_gpu()).count();
    let narrowed: Vec<String> = ["WGPU_BACKEND", "WGPU_ADAPTER_NAME"]
        .into_iter()
        .filter_map(|name| {
            std::env::var(name).ok().filter(|value| !value.trim().is_empty()).map(|v| format!("{name}={v}"))
        })
        .collect();
    match choice {
        DeviceChoice::Auto if !narrowed.is_empty() => format!("the environment says {}", narrowed.join(" and ")),
        DeviceChoice::Auto if kind == DeviceKind::Cpu && adapters.is_empty() => "there is no graphics adapter".into(),
        DeviceChoice::Auto if kind == DeviceKind::Cpu => {
            format!(
                "no GPU among {}, and software renderers are slower than the CPU itself",
                count(adapters.len(), "adapter")
            )
        }
        DeviceChoice::Auto if gpus == 1 => "it is the only GPU".into(),
        DeviceChoice::Auto => {
            format!("the best of {}: discrete before integrated, other backends before gl", count(gpus, "GPU adapter"))
        }
        _ => "as requested".into(),
    }
}

/// First the adapters, then their limits and features.
fn tables(adapters: &[AdapterReport]) -> String {
    let mut names = Table::new([right("#"), left("adapter"), left("backend"), left("type"), left("driver")]);
    for (index, AdapterReport { info, .. }) in adapters.iter().enumerate() {
        names.row([
            (index + 1).to_string(),
            bold(&info.name),
            info.backend.clone(),
            info.kind.to_string(),
            if info.driver.is_empty() { "-".to_owned() } else { info.driver.clone() },
        ]);
    }
    let mut limits =
        Table::new([left("limit or feature")].into_iter().chain((1..=adapters.len()).map(|n| right(&format!("#{n}")))));
    let Some(first) = adapters.first() else { return names.to_string() };
    for (row, (name, _)) in first.limits.iter().enumerate() {
        let value = |adapter: &AdapterReport| {
            adapter.limits.get(row).map_or_else(String::new, |(_, value)| limit(name, *value))
        };
        limits.row([(*name).to_owned()].into_iter().chain(adapters.iter().map(value)));
    }
    for (row, (name, _)) in first.features.iter().enumerate() {
        let value = |adapter: &AdapterReport| match adapter.features.get(row) {
            Some((_, true)) => "yes".to_owned(),
            _ => dim("no"),
        };
        limits.row([(*name).to_owned()].into_iter().chain(adapters.iter().map(value)));
    }
    let side = |adapter: &AdapterReport| match adapter.matrix_units {
        Some(units) => format!("{0} x {0}", units.side.length()),
        None => dim("no"),
    };
    limits.row(["matrix units that gatefold can use".to_owned()].into_iter().chain(adapters.iter().map(side)));
    format!("{names}\n{limits}")
}

/// Limits with "size" in their name in bytes, all others as numbers.
fn limit(name: &str, value: u64) -> String {
    if name.ends_with("Size") {
        bytes(value)
    } else {
        usize::try_from(value).map_or_else(|_| value.to_string(), grouped)
    }
}
