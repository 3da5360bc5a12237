//! The adapters that are there.

use crate::device::{DeviceChoice, DeviceInfo, DeviceKind};
use crate::plan::MatrixUnits;

/// An adapter with the limits and features that matter to gatefold.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AdapterReport {
    /// What it is.
    pub info: DeviceInfo,
    /// Limits by their WebGPU names.
    pub limits: Vec<(&'static str, u64)>,
    /// Features by their wgpu names, and whether they are there.
    pub features: Vec<(&'static str, bool)>,
    /// The matrix units that a device may be opened with.
    pub matrix_units: Option<MatrixUnits>,
}

/// Names of software renderers, for drivers that do not own up to being one.
const SOFTWARE: [&str; 4] = ["llvmpipe", "softpipe", "swiftshader", "microsoft basic render"];

pub(crate) fn info(info: &wgpu::AdapterInfo) -> DeviceInfo {
    let name = info.name.to_ascii_lowercase();
    let kind = match info.device_type {
        _ if SOFTWARE.iter().any(|software| name.contains(software)) => DeviceKind::Software,
        wgpu::DeviceType::DiscreteGpu => DeviceKind::Discrete,
        wgpu::DeviceType::IntegratedGpu => DeviceKind::Integrated,
        wgpu::DeviceType::VirtualGpu => DeviceKind::Virtual,
        wgpu::DeviceType::Cpu => DeviceKind::Software,
        wgpu::DeviceType::Other => DeviceKind::Other,
    };
    DeviceInfo {
        name: info.name.clone(),
        backend: match info.backend {
            wgpu::Backend::BrowserWebGpu => "webgpu".into(),
            other => other.to_str().to_ascii_lowercase(),
        },
        kind,
        driver: [info.driver.as_str(), info.driver_info.as_str()].join(" ").trim().to_owned(),
    }
}

/// The adapters among which `choice` may find its own.
pub(crate) async fn adapters(choice: &DeviceChoice) -> Vec<wgpu::Adapter> {
    let wanted = match choice {
        DeviceChoice::Adapter { backend: Some(backend), .. } => wgpu::Backends::from_comma_list(backend),
        _ => wgpu::Backends::all(),
    };
    // A backend is only woken when those before it had nothing: each costs time to start.
    let mut found = Vec::new();
    for backends in [wgpu::Backends::PRIMARY, wgpu::Backends::SECONDARY] {
        let backends = backends & wanted;
        if !backends.is_empty() {
            found.extend(on_backends(backends).await);
            let infos: Vec<DeviceInfo> = found.iter().map(|adapter| info(&adapter.get_info())).collect();
            if matches!(choice.select(&infos), Ok(crate::device::Selected::Adapter(_))) {
                break;
            }
        }
    }
    found
}

pub(crate) async fn reports() -> Vec<AdapterReport> {
    on_backends(wgpu::Backends::all()).await.iter().map(report).collect()
}

async fn on_backends(backends: wgpu::Backends) -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = backends;
    descriptor.flags = descriptor.flags.with_env();
    descriptor.backend_options = wgpu::BackendOptions::from_env_or_default();
    wgpu::Instance::new(descriptor).enumerate_adapters(backends).await
}

fn report(adapter: &wgpu::Adapter) -> AdapterReport {
    let limits = adapter.limits();
    let features = adapter.features();
    AdapterReport {
        info: info(&adapter.get_info()),
        matrix_units: super::matrix_units(adapter, features, &limits),
        limits: vec![
            ("maxStorageBufferBindingSize", limits.max_storage_buffer_binding_size),
            ("maxBufferSize", limits.max_buffer_size),
            ("maxStorageBuffersPerShaderStage", limits.max_storage_buffers_per_shader_stage.into()),
            ("maxComputeWorkgroupStorageSize", limits.max_compute_workgroup_storage_size.into()),
            ("maxComputeInvocationsPerWorkgroup", limits.max_compute_invocations_per_workgroup.into()),
            ("maxComputeWorkgroupsPerDimension", limits.max_compute_workgroups_per_dimension.into()),
        ],
        features: [
            ("TIMESTAMP_QUERY", wgpu::Features::TIMESTAMP_QUERY),
            ("SHADER_F16", wgpu::Features::SHADER_F16),
            ("SUBGROUP", wgpu::Features::SUBGROUP),
            ("IMMEDIATES", wgpu::Features::IMMEDIATES),
            ("EXPERIMENTAL_COOPERATIVE_MATRIX", wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX),
        ]
        .into_iter()
        .map(|(name, feature)| (name, features.contains(feature)))
        .collect(),
    }
}
