//! The adapters that are there.

use super::context::Context;
use crate::adapter::choice::Selected;
use crate::adapter::{DeviceChoice, DeviceInfo, DeviceKind, DeviceOptions};
use crate::base::error::Result;
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

async fn infos(adapters: &[wgpu::Adapter]) -> Vec<DeviceInfo> {
    let mut infos = Vec::with_capacity(adapters.len());
    for adapter in adapters {
        let own = adapter.get_info();
        #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
        let own = super::browser::named(own).await;
        infos.push(info(&own));
    }
    infos
}

/// Opens the adapter that `choice` leads to; `None` if that is the CPU.
pub(crate) async fn open(choice: &DeviceChoice, options: DeviceOptions) -> Result<Option<(DeviceInfo, Context)>> {
    let env = |name: &str| std::env::var(name).ok();
    let choice = choice.narrowed(env("WGPU_BACKEND"), env("WGPU_ADAPTER_NAME"));
    let adapters = adapters(&choice).await;
    let infos = infos(&adapters).await;
    match choice.select(&infos)? {
        Selected::Cpu => {
            log::info!("no hardware GPU among {} adapters: running on the CPU", infos.len());
            Ok(None)
        }
        Selected::Adapter(index) => {
            let info = &infos[index];
            log::info!("running on {info}");
            Ok(Some((info.clone(), Context::open(&adapters[index], info, options).await?)))
        }
    }
}

/// The adapters among which `choice` may find its own; all of them where it finds none.
async fn adapters(choice: &DeviceChoice) -> Vec<wgpu::Adapter> {
    if *choice == DeviceChoice::Auto && !may_have_gpu() {
        return Vec::new();
    }
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
            if matches!(choice.select(&infos(&found).await), Ok(Selected::Adapter(_))) {
                return found;
            }
        }
    }
    // The error of another request lists what there is.
    if wanted == wgpu::Backends::all() { found } else { on_backends(wgpu::Backends::all()).await }
}

/// Whether a look for a GPU is worth its time: only to start the software renderers of a Linux without a GPU takes
/// 80 ms, several times what an answer of the CPU takes. Every other system is asked.
fn may_have_gpu() -> bool {
    if !cfg!(target_os = "linux") {
        return true;
    }
    std::fs::read_dir("/dev")
        .map_or(true, |nodes| nodes.flatten().any(|node| node.file_name().to_str().is_none_or(is_of_a_gpu)))
}

/// Whether a node of Linux' `/dev` belongs to a driver of a GPU.
fn is_of_a_gpu(node: &str) -> bool {
    // Of the kernel's own drivers, of NVIDIA's for cards and for boards, of WSL, and of makers of telephones.
    const NODES: [&str; 10] = ["dri", "nvidia", "nvgpu", "nvhost", "nvmap", "dxg", "kgsl", "mali", "pvr", "galcore"];
    NODES.iter().any(|start| node.starts_with(start))
}

pub(crate) async fn reports() -> Vec<AdapterReport> {
    let adapters = on_backends(wgpu::Backends::all()).await;
    let infos = infos(&adapters).await;
    adapters.iter().zip(infos).map(|(adapter, info)| report(adapter, info)).collect()
}

async fn on_backends(backends: wgpu::Backends) -> Vec<wgpu::Adapter> {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    if !super::browser::has_gpu() {
        return Vec::new();
    }
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = backends;
    descriptor.flags = descriptor.flags.with_env();
    descriptor.backend_options = wgpu::BackendOptions::from_env_or_default();
    wgpu::Instance::new(descriptor).enumerate_adapters(backends).await
}

fn report(adapter: &wgpu::Adapter, info: DeviceInfo) -> AdapterReport {
    let limits = adapter.limits();
    let features = adapter.features();
    AdapterReport {
        info,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_gpus_are_known() {
        for node in ["dri", "nvidia0", "nvidiactl", "nvhost-gpu", "dxg", "kgsl-3d0", "mali0", "pvrsrvkm"] {
            assert!(is_of_a_gpu(node), "{node}");
        }
        for node in ["null", "nvme0n1", "nvram", "vda", "dsp", "fb0", "kvm", "tty1"] {
            assert!(!is_of_a_gpu(node), "{node}");
        }
    }

    /// What is not looked for is not there.
    #[test]
    fn no_gpu_is_overlooked() {
        let found = pollster::block_on(reports());
        let gpus: Vec<_> = found.iter().filter(|report| report.info.kind.is_gpu()).collect();
        assert!(gpus.is_empty() || may_have_gpu(), "{gpus:?}");
    }
}
