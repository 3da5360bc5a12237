//! Mesa's RADV without hardware (`RADV_FORCE_FAMILY`): a Vulkan device that compiles and runs nothing.
#![allow(
    unsafe_code,
    reason = "Vulkan is a C interface; every call follows its specification, and nothing is submitted"
)]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};

use ash::vk;

use crate::translate::Translated;

/// The driver with a device.
pub struct Driver {
    device: ash::Device,
    executables: ash::khr::pipeline_executable_properties::Device,
    /// Name and version, for reports.
    pub name: String,
    /// Whether it has matrix units.
    pub matrix: bool,
    _instance: ash::Instance,
    _entry: ash::Entry,
}

/// What the driver made of a kernel.
pub struct Compiled {
    /// The driver's own statistics.
    pub statistics: BTreeMap<String, f64>,
    /// The instructions as text.
    pub assembly: String,
}

impl Driver {
    /// Opens the first device as wgpu-hal 30 does, with what gatefold asks for.
    pub fn open() -> Result<Self, String> {
        // SAFETY: the loader is the system's or Mesa's own, and lives as long as what it made.
        unsafe { Self::opened() }
    }

    unsafe fn opened() -> Result<Self, String> {
        let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
        unsafe {
            let entry = ash::Entry::load().map_err(|error| failed("loading Vulkan", &error))?;
            let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let create = vk::InstanceCreateInfo::default().application_info(&application);
            let instance = entry.create_instance(&create, None).map_err(|error| failed("starting Vulkan", &error))?;
            let devices = instance.enumerate_physical_devices().map_err(|error| failed("listing devices", &error))?;
            let physical = *devices.first().ok_or("expected a Vulkan device, found none")?;
            let mut driver = vk::PhysicalDeviceDriverProperties::default();
            let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut driver);
            instance.get_physical_device_properties2(physical, &mut properties);
            let text = |name: &CStr| name.to_string_lossy().into_owned();
            let name = text(properties.properties.device_name_as_c_str().unwrap_or_default());
            let version = text(driver.driver_info_as_c_str().unwrap_or_default());
            let extensions = instance
                .enumerate_device_extension_properties(physical)
                .map_err(|error| failed("listing extensions", &error))?;
            let has = |name: &CStr| extensions.iter().any(|one| one.extension_name_as_c_str() == Ok(name));
            let matrix = has(ash::khr::cooperative_matrix::NAME);
            let mut names =
                vec![ash::khr::pipeline_executable_properties::NAME.as_ptr(), ash::ext::robustness2::NAME.as_ptr()];
            if matrix {
                names.push(ash::khr::cooperative_matrix::NAME.as_ptr());
            }
            let core = vk::PhysicalDeviceFeatures::default().robust_buffer_access(true);
            let mut robust = vk::PhysicalDeviceRobustness2FeaturesEXT::default().robust_buffer_access2(true);
            let mut halves =
                vk::PhysicalDeviceShaderFloat16Int8Features::default().shader_float16(true).shader_int8(true);
            let mut stores = vk::PhysicalDevice16BitStorageFeatures::default()
                .storage_buffer16_bit_access(true)
                .uniform_and_storage_buffer16_bit_access(true);
            let mut model = vk::PhysicalDeviceVulkanMemoryModelFeatures::default()
                .vulkan_memory_model(matrix)
                .vulkan_memory_model_device_scope(matrix);
            let mut cooperative = vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default().cooperative_matrix(true);
            let mut sizes = vk::PhysicalDeviceSubgroupSizeControlFeatures::default().subgroup_size_control(true);
            let mut infos =
                vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
            let queues = [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0])];
            let mut create = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queues)
                .enabled_extension_names(&names)
                .enabled_features(&core)
                .push_next(&mut robust)
                .push_next(&mut halves)
                .push_next(&mut stores)
                .push_next(&mut model)
                .push_next(&mut sizes)
                .push_next(&mut infos);
            if matrix {
                create = create.push_next(&mut cooperative);
            }
            let device = instance
                .create_device(physical, &create, None)
                .map_err(|error| format!("{name}: opening the device: {error}"))?;
            let executables = ash::khr::pipeline_executable_properties::Device::new(&instance, &device);
            let name = format!("{name}, {version}");
            Ok(Self { device, executables, name, matrix, _instance: instance, _entry: entry })
        }
    }

    /// Compiles a kernel; the error is the driver's.
    pub fn compile(&self, kernel: &Translated, entry: &str) -> Result<Compiled, String> {
        let words = kernel.spirv()?;
        // SAFETY: the module is naga's, checked by its validator; handles are destroyed once and after their last use.
        unsafe { self.compiled(&words, &kernel.bindings(), entry) }
    }

    unsafe fn compiled(&self, words: &[u32], bindings: &[(u32, bool)], entry: &str) -> Result<Compiled, String> {
        let device = &self.device;
        let rejected = |error: vk::Result| format!("{}: {error}", self.name);
        unsafe {
            let create = vk::ShaderModuleCreateInfo::default().code(words);
            let module = device.create_shader_module(&create, None).map_err(rejected)?;
            let bindings: Vec<_> = bindings
                .iter()
                .map(|&(binding, is_uniform)| {
                    let storage = vk::DescriptorType::STORAGE_BUFFER;
                    vk::DescriptorSetLayoutBinding::default()
                        .binding(binding)
                        .descriptor_count(1)
                        .stage_flags(vk::ShaderStageFlags::COMPUTE)
                        .descriptor_type(if is_uniform { vk::DescriptorType::UNIFORM_BUFFER } else { storage })
                })
                .collect();
            let create = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            let sets = [device.create_descriptor_set_layout(&create, None).map_err(rejected)?];
            let ranges = [vk::PushConstantRange::default().stage_flags(vk::ShaderStageFlags::COMPUTE).size(4)];
            let create = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets).push_constant_ranges(&ranges);
            let layout = device.create_pipeline_layout(&create, None).map_err(rejected)?;
            let entry = CString::new(entry).map_err(|error| error.to_string())?;
            let varying = vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(&entry)
                .flags(if self.matrix { varying } else { vk::PipelineShaderStageCreateFlags::empty() });
            let capture = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
            let create = vk::ComputePipelineCreateInfo::default().flags(capture).stage(stage).layout(layout);
            let made = device.create_compute_pipelines(vk::PipelineCache::null(), &[create], None);
            let compiled = match made {
                Ok(pipelines) => {
                    let found = self.read(pipelines[0]).map_err(rejected);
                    device.destroy_pipeline(pipelines[0], None);
                    found
                }
                Err((_, error)) => Err(rejected(error)),
            };
            device.destroy_pipeline_layout(layout, None);
            device.destroy_descriptor_set_layout(sets[0], None);
            device.destroy_shader_module(module, None);
            compiled
        }
    }

    unsafe fn read(&self, pipeline: vk::Pipeline) -> Result<Compiled, vk::Result> {
        let which = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(0);
        unsafe {
            let listed = self.executables.get_pipeline_executable_statistics(&which)?;
            let statistics = listed.iter().map(|one| {
                let value = match one.format {
                    vk::PipelineExecutableStatisticFormatKHR::BOOL32 => f64::from(one.value.b32),
                    vk::PipelineExecutableStatisticFormatKHR::FLOAT64 => one.value.f64,
                    // Counts, all of them small.
                    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
                    _ => one.value.u64 as f64,
                };
                (one.name_as_c_str().unwrap_or_default().to_string_lossy().into_owned(), value)
            });
            let statistics = statistics.collect();
            let mut texts = self.executables.get_pipeline_executable_internal_representations(&which)?;
            let mut stores: Vec<Vec<u8>> = texts.iter().map(|one| vec![0; one.data_size]).collect();
            for (one, store) in texts.iter_mut().zip(&mut stores) {
                one.p_data = store.as_mut_ptr().cast();
            }
            let mut count = u32::try_from(texts.len()).unwrap_or(u32::MAX);
            let read = self.executables.fp().get_pipeline_executable_internal_representations_khr;
            read(self.device.handle(), &raw const which, &raw mut count, texts.as_mut_ptr()).result()?;
            let is_assembly = |one: &vk::PipelineExecutableInternalRepresentationKHR<'_>| {
                one.name_as_c_str().is_ok_and(|name| name.to_bytes() == b"Assembly")
            };
            let assembly = texts.iter().zip(&stores).find(|(one, _)| is_assembly(one));
            let assembly = assembly.map_or_else(String::new, |(_, store)| {
                String::from_utf8_lossy(store.strip_suffix(&[0]).unwrap_or(store)).into_owned()
            });
            Ok(Compiled { statistics, assembly })
        }
    }
}
