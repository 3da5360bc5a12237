//! WGSL to what drivers read, with wgpu's options: SPIR-V as wgpu-hal 30 writes it for Vulkan, MSL for the way to NVIDIA.

use naga::back::{PipelineConstants, msl, pipeline_constants::process_overrides, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{Module, ShaderStage};

/// A kernel with the values of its constants, ready to be written for a driver.
pub struct Translated {
    module: Module,
    info: ModuleInfo,
    entry: String,
}

/// Checks are off, as they are in gatefold's trusted modules.
const UNCHECKED: BoundsCheckPolicies = BoundsCheckPolicies {
    index: BoundsCheckPolicy::Unchecked,
    buffer: BoundsCheckPolicy::Unchecked,
    image_load: BoundsCheckPolicy::Unchecked,
    binding_array: BoundsCheckPolicy::Unchecked,
};

impl Translated {
    /// Reads `source` and gives its override constants their values.
    pub fn new(source: &str, entry: &str, constants: &PipelineConstants) -> Result<Self, String> {
        let module = naga::front::wgsl::Frontend::new_with_options(naga::front::wgsl::Options {
            parse_doc_comments: false,
            capabilities: Capabilities::all(),
        })
        .parse(source)
        .map_err(|error| error.emit_to_string(source))?;
        let info = Validator::new(ValidationFlags::all(), Capabilities::all())
            .validate(&module)
            .map_err(|error| error.emit_to_string(source))?;
        let (module, info) = process_overrides(&module, &info, Some((ShaderStage::Compute, entry)), constants)
            .map_err(|error| error.to_string())?;
        Ok(Self { module: module.into_owned(), info: info.into_owned(), entry: entry.to_owned() })
    }

    /// The words of a SPIR-V module.
    pub fn spirv(&self) -> Result<Vec<u32>, String> {
        let options = spv::Options {
            lang_version: (1, 6),
            flags: spv::WriterFlags::LABEL_VARYINGS | spv::WriterFlags::FORCE_POINT_SIZE,
            capabilities: None,
            bounds_check_policies: UNCHECKED,
            zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
            force_loop_bounding: false,
            emit_int_div_checks: false,
            ray_query_initialization_tracking: false,
            ..spv::Options::default()
        };
        let pipeline = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: self.entry.clone() };
        spv::write_vec(&self.module, &self.info, &options, Some(&pipeline)).map_err(|error| error.to_string())
    }

    /// Metal's language.
    pub fn metal(&self) -> Result<String, String> {
        let options = msl::Options {
            lang_version: (2, 4),
            bounds_check_policies: UNCHECKED,
            zero_initialize_workgroup_memory: false,
            force_loop_bounding: false,
            fake_missing_bindings: true,
            ..msl::Options::default()
        };
        let written = msl::write_string(&self.module, &self.info, &options, &msl::PipelineOptions::default());
        written.map(|(text, _)| text).map_err(|error| error.to_string())
    }

    /// Invocations of a workgroup in x, y and z.
    pub fn workgroup(&self) -> [u32; 3] {
        self.module.entry_points.iter().find(|one| one.name == self.entry).map_or([1; 3], |one| one.workgroup_size)
    }

    /// Whether a binding of group 0 is a uniform, by number.
    pub fn bindings(&self) -> Vec<(u32, bool)> {
        let mut found: Vec<(u32, bool)> = self
            .module
            .global_variables
            .iter()
            .filter_map(|(_, variable)| {
                let binding = variable.binding.filter(|binding| binding.group == 0)?;
                Some((binding.binding, variable.space == naga::AddressSpace::Uniform))
            })
            .collect();
        found.sort_unstable();
        found
    }
}
