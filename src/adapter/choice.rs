//! The choice of a device.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use super::{DeviceInfo, DeviceKind};
use crate::base::error::{Error, Result};

/// Which device to use.
///
/// As text (the command's `--device`): `auto`, `cpu`, `gpu`, `software`, a backend (`vulkan`,
/// `metal`, `dx12`, `gl`), a part of an adapter's name, or `backend:name`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceChoice {
    /// The best real GPU (discrete, then integrated), else the CPU. The environment variables
    /// `WGPU_BACKEND` and `WGPU_ADAPTER_NAME` narrow the choice, then even to software adapters.
    #[default]
    Auto,
    /// This CPU.
    Cpu,
    /// The best real GPU, or an error.
    Gpu,
    /// A software adapter: its results are right, but it is slower than [`DeviceChoice::Cpu`].
    Software,
    /// An adapter of any kind that has this backend and whose name contains this text.
    Adapter {
        /// As [`DeviceInfo::backend`].
        backend: Option<String>,
        /// Part of the name, case ignored.
        name: Option<String>,
    },
}

const BACKENDS: [&str; 5] = ["vulkan", "metal", "dx12", "gl", "webgpu"];

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let lower = text.trim().to_ascii_lowercase();
        let (backend, name) = match lower.split_once(':') {
            Some((backend, name)) if BACKENDS.contains(&backend) => (Some(backend), Some(name)),
            _ if BACKENDS.contains(&lower.as_str()) => (Some(lower.as_str()), None),
            _ => (None, Some(lower.as_str())),
        };
        Ok(match lower.as_str() {
            "auto" => Self::Auto,
            "cpu" => Self::Cpu,
            "gpu" => Self::Gpu,
            "software" => Self::Software,
            _ if name == Some("") => {
                return Err(Error::Malformed {
                    what: "device".into(),
                    expected: format!(
                        "auto, cpu, gpu, software, {}, part of an adapter's name, or backend:name",
                        BACKENDS.join(", ")
                    ),
                    got: format!("{text:?}"),
                });
            }
            _ => Self::Adapter { backend: backend.map(Into::into), name: name.map(Into::into) },
        })
    }
}

impl Display for DeviceChoice {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu => f.write_str("gpu"),
            Self::Software => f.write_str("software"),
            Self::Adapter { backend: Some(backend), name: Some(name) } => write!(f, "{backend}:{name}"),
            Self::Adapter { backend, name } => {
                f.write_str(backend.as_ref().or(name.as_ref()).map_or("", String::as_str))
            }
        }
    }
}

/// What a choice selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Selected {
    Cpu,
    Adapter(usize),
}

impl DeviceChoice {
    /// The choice with [`DeviceChoice::Auto`] narrowed by the environment.
    pub(crate) fn narrowed(&self, backend: Option<String>, name: Option<String>) -> Self {
        let filled = |request: Option<String>| request.map(|w| w.trim().to_ascii_lowercase()).filter(|w| !w.is_empty());
        match (self, filled(backend), filled(name)) {
            (Self::Auto, None, None) => Self::Auto,
            (Self::Auto, backend, name) => Self::Adapter { backend, name },
            _ => self.clone(),
        }
    }

    /// Selects one of the adapters that are present.
    pub(crate) fn select(&self, adapters: &[DeviceInfo]) -> Result<Selected> {
        let fits = |info: &DeviceInfo| match self {
            Self::Auto | Self::Gpu => info.kind.is_gpu(),
            Self::Cpu => false,
            Self::Software => info.kind == DeviceKind::Software,
            Self::Adapter { backend, name } => {
                // WGPU_BACKEND may list several, and spells some in its own way.
                let same = |request: &str| match request.trim() {
                    "opengl" | "gles" => info.backend == "gl",
                    "vk" => info.backend == "vulkan",
                    "mtl" => info.backend == "metal",
                    "d3d12" => info.backend == "dx12",
                    request => info.backend == request,
                };
                backend.as_ref().is_none_or(|request| request.split(',').any(same))
                    && name
                        .as_ref()
                        .is_none_or(|request| info.name.to_ascii_lowercase().contains(&request.to_ascii_lowercase()))
            }
        };
        // For a GPU that several backends support, GL is the slowest.
        let best = adapters
            .iter()
            .enumerate()
            .filter(|(_, info)| fits(info))
            .min_by_key(|(index, info)| (info.kind, info.backend == "gl", *index));
        match (best, self) {
            (_, Self::Cpu) | (None, Self::Auto) => Ok(Selected::Cpu),
            (Some((index, _)), _) => Ok(Selected::Adapter(index)),
            (None, _) => Err(Error::NoAdapter {
                wanted: match self {
                    Self::Gpu => "`gpu`, a hardware adapter".into(),
                    other => format!("`{other}`"),
                },
                present: adapters.iter().map(ToString::to_string).collect(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, backend: &str, kind: DeviceKind) -> DeviceInfo {
        DeviceInfo { name: name.into(), backend: backend.into(), kind, driver: String::new() }
    }

    fn machine() -> Vec<DeviceInfo> {
        vec![
            adapter("llvmpipe (LLVM 15)", "vulkan", DeviceKind::Software),
            adapter("Radeon Graphics", "gl", DeviceKind::Integrated),
            adapter("Radeon Graphics", "vulkan", DeviceKind::Integrated),
            adapter("GeForce RTX", "gl", DeviceKind::Discrete),
            adapter("GeForce RTX", "vulkan", DeviceKind::Discrete),
        ]
    }

    fn select(choice: &str, adapters: &[DeviceInfo]) -> Result<Selected> {
        choice.parse::<DeviceChoice>()?.select(adapters)
    }

    #[test]
    fn auto_takes_the_best_real_gpu() {
        let machine = machine();
        assert_eq!(select("auto", &machine).ok(), Some(Selected::Adapter(4)));
        assert_eq!(select("auto", &machine[..3]).ok(), Some(Selected::Adapter(2)));
        assert_eq!(select("auto", &machine[..1]).ok(), Some(Selected::Cpu), "never a software adapter unasked");
        assert_eq!(select("auto", &[]).ok(), Some(Selected::Cpu));
    }

    #[test]
    fn a_wish_is_granted_or_refused() {
        let machine = machine();
        for (request, index) in [
            ("gpu", 4),
            ("software", 0),
            ("vulkan", 4),
            ("gl", 3),
            ("GL", 3),
            ("radeon", 2),
            ("gl:radeon", 1),
            ("vulkan:LLVMpipe", 0),
            ("llvmpipe", 0),
        ] {
            assert_eq!(select(request, &machine).ok(), Some(Selected::Adapter(index)), "{request}");
        }
        assert_eq!(select("cpu", &machine).ok(), Some(Selected::Cpu));
        for request in ["metal", "arc", "gl:arc"] {
            let error = select(request, &machine).expect_err(request).to_string();
            assert!(error.starts_with(&format!("no adapter for `{request}`; present: llvmpipe")), "{error}");
        }
        assert!(select("gpu", &machine[..1]).is_err());
        assert!(select("software", &machine[1..]).is_err());
        assert!(select("", &machine).is_err() && select("gl:", &machine).is_err());
    }

    #[test]
    fn the_environment_narrows_auto_only() {
        let request = |text: &str| Some(text.to_owned());
        let narrowed = |choice: &str, backend, name| {
            choice.parse::<DeviceChoice>().expect("valid").narrowed(backend, name).select(&machine()).ok()
        };
        assert_eq!(narrowed("auto", request("gl"), None), Some(Selected::Adapter(3)));
        assert_eq!(narrowed("auto", request("opengl"), request("Radeon")), Some(Selected::Adapter(1)));
        assert_eq!(narrowed("auto", request("metal,vk"), request("LLVM")), Some(Selected::Adapter(0)));
        assert_eq!(narrowed("auto", request("metal"), None), None, "a request that no adapter meets is an error");
        assert_eq!(narrowed("auto", request(""), None), Some(Selected::Adapter(4)));
        assert_eq!(narrowed("cpu", request("gl"), None), Some(Selected::Cpu));
    }
}
