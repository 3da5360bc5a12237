//! Every kernel, with every constant that a plan may give it, away from any GPU: valid, true to
//! the kernel table, and translated for every backend.

use std::collections::BTreeSet;
use std::fs;

use gatefold::network::{Activation, LayerSpec, WeightFormat};
use gatefold::unstable::plan::{
    Access, Cells, Constant, ConstantValue, Constants, Held, Kernel, PARAMS_SIZE, PlanParts, RecurrentKernel,
    Repetition, Rung,
};
use gatefold::{Arithmetic, Network, Plan, PlanLimits, PlanOptions, RunShape};
use naga::back::{PipelineConstants, glsl, hlsl, msl, pipeline_constants::process_overrides, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ShaderStage, StorageAccess};

use crate::common::{in_repository, lstm, spec};

/// Values that a constant may be given; the first stands while another constant varies.
fn values(constant: Constant) -> Vec<ConstantValue> {
    if constant.float {
        return [0.5f32, 0.0, -1.0].map(ConstantValue::from).to_vec();
    }
    sizes(constant.name).into_iter().map(ConstantValue::from).collect()
}

fn sizes(name: &str) -> Vec<u32> {
    match name {
        "WIDTH" | "STATE" | "DEPTH" | "FEATURES" | "COLUMNS" | "IN_FEATURES" => vec![65, 1, 17],
        "BELOW" => vec![0, 65],
        "LANES" => vec![2, 1, 3],
        "STACKED" | "LAST" | "PARTIAL" | "REVERSED" | "SCATTER" | "SAMPLE" => vec![0, 1],
        "REVERSE" => vec![2, 0, 3],
        "WEIGHTS_FIRST" | "WEIGHTS_NEXT" | "WEIGHTS_LANE" | "WEIGHTS_BELOW" | "VECTOR" | "VECTORS_LANE" => vec![64],
        "QUADS" | "COUNT" | "BLOCKS" | "ROW_QUADS" => vec![4, 1, 2],
        "GROUP" => vec![64, 8],
        "TILE_QUADS" => vec![1, 4, 2],
        "STRIPS" => vec![4, 3],
        "SUBGROUP" => vec![32, 8, 64],
        "ROWS" => vec![1, 3],
        "SPINS" => vec![1000],
        "OUT_FEATURES" | "NUM_EMBEDDINGS" | "EMBEDDING_DIM" | "CHANNELS" => vec![33, 1],
        "OUTPUT_STRIDE" | "IN_STRIDE" | "OUT_STRIDE" => vec![130],
        "OUTPUT_FIRST" | "IN_OFFSET" | "OUT_OFFSET" => vec![65, 0],
        "UNITS" => vec![16, 8, 64],
        "SPLIT" => vec![4, 1, 2],
        "WORKGROUP" => vec![64],
        "MASKED" | "NORM_CELL" => vec![0, 1, 2],
        "HOW" => vec![0, 1, 2, 3, 4],
        "PEEPHOLE" | "COUPLED" | "EXPONENTIAL" | "NORM_PARTS" | "LOG" | "COUNT_PAD" | "ADDITIVE" | "TURNED"
        | "BANKED" | "WITHIN" => {
            vec![0, 1]
        }
        "HEADS" => vec![1, 5],
        "ACTIVATION" | "GATE" | "CANDIDATE" | "OUTPUT" => (0..).take(Activation::ALL.len()).collect(),
        "SUMS" => vec![260],
        "CARRY" => vec![65],
        "PEEPHOLE_FIRST" | "PEEPHOLE_LANE" | "FROM" => vec![64, 0],
        "KEPT_LANE" => vec![64],
        "ZONEOUT_H_LEAST" | "ZONEOUT_C_LEAST" => vec![1 << 31],
        "ZONEOUT_SITE" => vec![3 << 16],
        "SEED" => vec![2],
        "DROP_GATES" => vec![4, 0],
        "DROP_GATE" => vec![0, 2],
        "DROP_WIDTH" => vec![65],
        "DROP_LEAST" => vec![1 << 30],
        "DROP_SITE" => vec![1 << 16],
        "PRODUCTS" => vec![1, 4],
        "STARTED" | "WHOLE" => vec![0, 1],
        "BLANK" => vec![0, 5],
        "TOP" => vec![3],
        "CONFUSION" => vec![1, 0],
        "LABELS" => vec![40, 1],
        "KEEP_H" | "KEEP_NEW" | "ZONEOUT_DRAWN" | "PROJECTED" | "CLASS_WEIGHTS" | "VALUES" | "KERAS" | "NESTEROV"
        | "CENTERED" | "CLIP_KERAS" | "REFLECTED" => {
            vec![0, 1]
        }
        "LOSS" | "RULE" | "CLIP" => vec![0, 1, 2, 3],
        "V_FIRST" | "MEAN_FIRST" | "CORRECTIONS" => vec![640],
        "ADD" | "AFFINE" | "BIASED" | "SQUARES" | "TRAINED" | "UNBIASED" => vec![0, 1],
        "PART" | "SCALES" | "CELLS" | "VARIANCE_FIRST" => vec![128],
        "KERNEL" => vec![3, 0],
        "COLUMN" => vec![1, 0, 33],
        "TAPS" | "GROUPS" => vec![1, 3],
        "STRIDE" | "DILATION" => vec![1, 2],
        "LEFT" | "RIGHT" => vec![0, 2],
        "KEPT" => vec![3, 1],
        "PAST" => vec![0, 4],
        "AFTER" | "UNEVEN" => vec![0, 1],
        "RATE" => vec![1, 4],
        "INPUTS" | "HIDDEN" | "Z" => vec![9, 1],
        "CELL" | "ORDER" => vec![0, 1, 2],
        "CONTROLS" => vec![70],
        "MEMORY_ROWS" => vec![128, 3],
        "MEMORY_COLUMNS" => vec![20, 1],
        "READS" | "WRITES" => vec![1, 2],
        "SHIFTS" => vec![1, 0],
        "TANH_KEY" | "TANH_ADD" | "STORED" => vec![0, 1],
        "KEPT_MEMORY" | "KEPT_WEIGHTS" | "KEPT_ROWS" | "SCRATCH" => vec![1, 300],
        "INPUT_FIRST" | "STATE_FIRST" | "HEADS_FIRST" => vec![64],
        other => panic!("{other}: no values here"),
    }
}

/// The kernel of an LSTM's step in f32.
const STEP: Kernel = Kernel::Recurrent(RecurrentKernel {
    cell: Cells::Lstm,
    rung: Rung::Step,
    format: WeightFormat::F32,
    arithmetic: Arithmetic::F32,
    held: Held::Not,
    keeps_sums: false,
});

/// Values for each of the kernel's constants: each constant varied in turn.
/// Formats and arithmetic know nothing of constants, so there the usual ones are enough.
pub(super) fn permutations(kernel: Kernel) -> Vec<Constants> {
    let all: Vec<(&'static str, Vec<ConstantValue>)> =
        kernel.spec().constants.iter().map(|&constant| (constant.name, values(constant))).collect();
    let usual: Vec<(&'static str, ConstantValue)> = all.iter().map(|(name, values)| (*name, values[0])).collect();
    let mut permutations = vec![Constants::new(usual.clone())];
    let as_usual =
        |k: RecurrentKernel| k.format != WeightFormat::F32 || k.arithmetic == Arithmetic::F16 || k.keeps_sums;
    if kernel.recurrent().is_some_and(as_usual) {
        return permutations;
    }
    for (at, (_, values)) in all.iter().enumerate() {
        for &value in &values[1..] {
            let mut varied = usual.clone();
            varied[at].1 = value;
            permutations.push(Constants::new(varied));
        }
    }
    permutations
}

fn parse(kernel: Kernel, constants: &Constants, repetition: Repetition) -> (Module, ModuleInfo) {
    let source = kernel.source(constants, repetition);
    let module = naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|error| panic!("{}", error.emit_to_string_with_path(&source, &kernel.spec().name)));
    let info =
        validate(&module, capabilities(kernel, repetition)).unwrap_or_else(|error| panic!("{kernel:?}: {error:?}"));
    (module, info)
}

/// The constants as naga takes them.
pub(super) fn pairs(constants: &Constants) -> PipelineConstants {
    constants.iter().map(|(name, value)| (name.into(), value.number())).collect()
}

/// Nothing beyond WebGPU's core but what was asked for.
pub(super) fn capabilities(kernel: Kernel, repetition: Repetition) -> Capabilities {
    let mut capabilities = Capabilities::empty();
    let product = match kernel {
        Kernel::Linear(product) | Kernel::Conv1d(product) => Some(product),
        _ => None,
    };
    let half = product.is_some_and(|product| product.format == WeightFormat::F16)
        || kernel.recurrent().is_some_and(|kernel| kernel.format == WeightFormat::F16);
    // Part of WebGPU's core; a few GL drivers lack it.
    capabilities.set(Capabilities::SHADER_FLOAT16_IN_FLOAT32, half);
    let immediate = kernel.repeats() && repetition == Repetition::Immediate;
    capabilities.set(Capabilities::IMMEDIATES, immediate);
    capabilities.set(Capabilities::SUBGROUP, subgroups(kernel));
    capabilities
        | match kernel.arithmetic() {
            Arithmetic::F16 => Capabilities::SHADER_FLOAT16,
            Arithmetic::Matrix => {
                Capabilities::SHADER_FLOAT16 | Capabilities::COOPERATIVE_MATRIX | Capabilities::SUBGROUP
            }
            _ => Capabilities::empty(),
        }
}

/// Whether a kernel uses operations of subgroups, which the plan asks for only where the adapter has them.
fn subgroups(kernel: Kernel) -> bool {
    kernel.recurrent().is_some_and(|kernel| matches!(kernel.held, Held::Unrolled(_)))
}

pub(super) fn validate(
    module: &Module,
    capabilities: Capabilities,
) -> Result<ModuleInfo, Box<naga::WithSpan<naga::valid::ValidationError>>> {
    Validator::new(ValidationFlags::all(), capabilities).validate(module).map_err(Box::new)
}

/// Fields of the uniform at binding 0, each of which is a `u32`.
fn uniform_fields(module: &Module) -> Vec<&str> {
    let (_, uniform) = module
        .global_variables
        .iter()
        .find(|(_, variable)| variable.binding.is_some_and(|at| at.group == 0 && at.binding == 0))
        .unwrap();
    let naga::TypeInner::Struct { members, .. } = &module.types[uniform.ty].inner else { panic!("no struct") };
    assert!(members.iter().all(|member| module.types[member.ty].inner == naga::TypeInner::Scalar(naga::Scalar::U32)));
    members.iter().map(|member| member.name.as_deref().unwrap()).collect()
}

#[test]
fn the_table_is_what_the_shaders_say() {
    let network = Network::random(spec(vec![LayerSpec::Lstm(lstm(2, 3))]), 1).unwrap();
    let plan = Plan::new(&network, RunShape::new(2, 1), &PlanLimits::default(), &PlanOptions::default()).unwrap();
    let params = PlanParts::of(&plan).dispatches[0].params().map(|(name, _)| name);
    for kernel in Kernel::all() {
        let (module, _) = parse(kernel, &permutations(kernel)[0], Repetition::Uniform);
        let spec = kernel.spec();
        assert_eq!(module.entry_points.len(), 1, "{kernel:?}");
        assert_eq!(module.entry_points[0].name, spec.entry_point);
        let mut bindings: Vec<_> = module
            .global_variables
            .iter()
            .filter_map(|(_, variable)| {
                let binding = variable.binding?;
                if binding.group == 1 {
                    // The number of the repetition.
                    assert!(kernel.repeats() && variable.space == AddressSpace::Uniform);
                    return None;
                }
                assert_eq!(binding.group, 0);
                let access = match variable.space {
                    AddressSpace::Uniform => Access::Uniform,
                    AddressSpace::Storage { access } if access == StorageAccess::LOAD => Access::Read,
                    AddressSpace::Storage { .. } => Access::ReadWrite,
                    space => panic!("{kernel:?}: {space:?}"),
                };
                Some((binding.binding, variable.name.clone().unwrap(), access))
            })
            .collect();
        bindings.sort_by_key(|binding| binding.0);
        let table: Vec<_> =
            (0..).zip(&spec.bindings).map(|(number, row)| (number, row.name.to_owned(), row.access)).collect();
        assert_eq!(bindings, table, "{kernel:?}");
        assert!(bindings.iter().filter(|b| b.2 != Access::Uniform).count() <= 8, "WebGPU guarantees 8 storage buffers");
        let fields = uniform_fields(&module);
        assert!(4 * fields.len() as u64 <= PARAMS_SIZE, "{kernel:?}: {fields:?}");
        let expected: Vec<&str> = if spec.sizes.is_empty() { params.to_vec() } else { spec.sizes.to_vec() };
        assert_eq!(fields, expected, "{kernel:?}");
        let overrides: BTreeSet<&str> = module
            .overrides
            .iter()
            // A plan does not set a constant that is computed from others.
            .filter(|(_, o)| {
                !o.init.is_some_and(|init| {
                    matches!(
                        module.global_expressions[init],
                        naga::Expression::Binary { .. } | naga::Expression::Override(_)
                    )
                })
            })
            .filter_map(|(_, o)| o.name.as_deref())
            .collect();
        assert_eq!(overrides, spec.constants.iter().map(|constant| constant.name).collect(), "{kernel:?}");
        let is_float = |name: &str| {
            module.overrides.iter().any(|(_, o)| {
                o.name.as_deref() == Some(name)
                    && module.types[o.ty].inner == naga::TypeInner::Scalar(naga::Scalar::F32)
            })
        };
        for constant in &spec.constants {
            assert_eq!(is_float(constant.name), constant.float, "{kernel:?}: {}", constant.name);
        }
    }
}

#[test]
fn every_permutation_translates_for_every_backend() {
    for kernel in Kernel::all() {
        let name = kernel.spec().entry_point;
        for (values, repetition) in
            permutations(kernel).into_iter().zip([Repetition::Uniform, Repetition::Immediate].into_iter().cycle())
        {
            let (module, info) = parse(kernel, &values, repetition);
            let entry = Some((ShaderStage::Compute, name));
            let (module, info) = process_overrides(&module, &info, entry, &pairs(&values)).unwrap();
            let group: u32 = module.entry_points[0].workgroup_size.iter().product();
            assert!((1..=256).contains(&group), "{kernel:?} {values:?}: {group} invocations");
            if kernel.arithmetic() == Arithmetic::Matrix {
                translate_matrix(&module, &info, name, kernel.spec().name.contains("matrix 8"));
                continue;
            }
            translate(&module, &info, name, [kernel.arithmetic() == Arithmetic::F16, subgroups(kernel)]);
        }
    }
}

/// To SPIR-V, MSL, HLSL and GLSL.
fn translate(module: &Module, info: &ModuleInfo, name: &str, [half, subgroups]: [bool; 2]) {
    assert!(spirv(module, info, name, &spv::Options::default()).len() > 100);
    assert!(metal(module, info, (2, 0)).contains("kernel void"));
    assert!(directx(module, info, name, half || subgroups).unwrap().contains("numthreads"));
    if half {
        // naga writes no f16 for GLSL, and no GL adapter offers it.
        return;
    }
    assert!(gl(module, info, name).unwrap().contains("void main()"));
}

/// What is on matrix units to SPIR-V and, where Metal knows matrices of the size, MSL. The others have none: wgpu offers
/// no matrix units there, and naga does not write them.
fn translate_matrix(module: &Module, info: &ModuleInfo, name: &str, metal_knows: bool) {
    let words = spirv(module, info, name, &spv::Options { lang_version: (1, 3), ..spv::Options::default() });
    // OpCooperativeMatrixLoadKHR, ..MulAddKHR and ..StoreKHR.
    for operation in [4457, 4459, 4458] {
        assert!(words.iter().any(|word| word & 0xffff == operation), "{name}: no operation {operation}");
    }
    if metal_knows {
        let text = metal(module, info, (2, 3));
        assert!(text.contains("simdgroup_multiply_accumulate") && text.contains("kernel void"));
    }
    let refuses = |write: &dyn Fn() -> bool| {
        // naga stops with a panic where it has not thought of a refusal.
        !std::panic::catch_unwind(std::panic::AssertUnwindSafe(write)).unwrap_or(false)
    };
    assert!(refuses(&|| directx(module, info, name, true).is_ok()), "{name}: HLSL has learnt it");
    assert!(refuses(&|| gl(module, info, name).is_ok()), "{name}: GLSL has learnt it");
}

pub(super) fn spirv(module: &Module, info: &ModuleInfo, name: &str, options: &spv::Options<'_>) -> Vec<u32> {
    let pipeline = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: name.into() };
    spv::write_vec(module, info, options, Some(&pipeline)).unwrap()
}

fn metal(module: &Module, info: &ModuleInfo, lang_version: (u8, u8)) -> String {
    let options = msl::Options { fake_missing_bindings: true, lang_version, ..msl::Options::default() };
    msl::write_string(module, info, &options, &msl::PipelineOptions::default()).unwrap().0
}

fn directx(module: &Module, info: &ModuleInfo, name: &str, newer: bool) -> Result<String, hlsl::Error> {
    let entry = (ShaderStage::Compute, name.to_owned());
    // DXC's model for f16 and subgroups; FXC's for the rest.
    let shader_model = if newer { hlsl::ShaderModel::V6_2 } else { hlsl::ShaderModel::V5_1 };
    let options = hlsl::Options {
        fake_missing_bindings: true,
        shader_model,
        immediates_target: Some(hlsl::BindTarget::default()),
        ..hlsl::Options::default()
    };
    let pipeline = hlsl::PipelineOptions { entry_point: Some(entry) };
    let mut text = String::new();
    hlsl::Writer::new(&mut text, &options, &pipeline).write(module, info, None)?;
    Ok(text)
}

fn gl(module: &Module, info: &ModuleInfo, name: &str) -> Result<String, glsl::Error> {
    let options = glsl::Options { version: glsl::Version::new_gles(310), ..glsl::Options::default() };
    let pipeline =
        glsl::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: name.into(), multiview: None };
    let mut text = String::new();
    let policies = naga::proc::BoundsCheckPolicies::default();
    glsl::Writer::new(&mut text, module, info, &options, &pipeline, policies)?.write()?;
    Ok(text)
}

/// WGSL leaves tanh indeterminate at large arguments (Metal: NaN); Mesa hides it, so the source is read.
#[test]
fn no_part_calls_the_builtin_tanh() {
    let raw_tanh = |line: &str| {
        let code = line.split("//").next().unwrap();
        code.match_indices("tanh(")
            .any(|(at, _)| !code[..at].ends_with(|c: char| c == '_' || c.is_ascii_alphanumeric()))
    };
    // The check itself must be able to fail.
    assert!(raw_tanh("let x = tanh(y);") && raw_tanh("tanh(y)") && !raw_tanh("guarded_tanh(y)"));
    let mut files = 0;
    for folder in ["shaders", "shaders/common", "shaders/cells", "shaders/rungs", "shaders/weights"] {
        for entry in fs::read_dir(in_repository(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "wgsl") {
                files += 1;
                for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
                    assert!(!raw_tanh(line), "{}:{}: {line}", path.display(), number + 1);
                }
            }
        }
    }
    assert!(files >= 42, "{files}");
}

/// Negative control: what the checks above must refuse, they refuse.
#[test]
fn a_broken_kernel_is_refused() {
    let source = STEP.source(&permutations(STEP)[0], Repetition::Uniform);
    let refused = |from: &str, to: &str| {
        let broken = source.replace(from, to);
        assert_ne!(broken, source, "`{from}` is gone from the kernel");
        naga::front::wgsl::parse_str(&broken)
            .map_or(true, |module| validate(&module, capabilities(STEP, Repetition::Uniform)).is_err())
    };
    assert!(refused("gate(gates.y ", "gate(gates "), "a vector where a number is due");
    assert!(refused("h[after] = before", "mask[after] = before"), "a write to a binding that is read only");
    assert!(refused("UNITS * SPLIT", "undeclared * SPLIT"), "a name that is not there");
    assert!(!refused("// One dispatch", "// A dispatch"), "a comment changes nothing");
}
