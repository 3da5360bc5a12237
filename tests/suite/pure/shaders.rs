//! Every kernel, with every constant that a plan may give it, away from any GPU: valid, true to
//! the kernel table, and translated for every backend.

use std::collections::BTreeSet;
use std::fs;

use gatefold::plan::{Access, Kernel, LINEAR_DEPTH, LINEAR_TILE};
use naga::back::{PipelineConstants, glsl, hlsl, msl, pipeline_constants::process_overrides, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ShaderStage, StorageAccess};

use crate::common::in_repository;

/// Values for each of the kernel's constants, in the table's order.
fn permutations(kernel: Kernel) -> Vec<Vec<u32>> {
    match kernel {
        Kernel::Embedding => vec![vec![10_000, 32, 64], vec![1, 1, 64]],
        Kernel::Linear => (0..4).map(|activation| vec![17, 33, activation]).collect(),
        Kernel::LstmStep => [1, 2, 4, 8, 16]
            .into_iter()
            .flat_map(|split| [16, 8, 64].map(|units| [units, split]))
            .filter(|[units, split]| units * split <= 256)
            .map(|[units, split]| vec![65, 130, 65, units, split])
            .collect(),
        Kernel::Softmax => vec![vec![2, 64], vec![1000, 64]],
        other => panic!("{other:?} has no permutations here"),
    }
}

fn parse(kernel: Kernel) -> (Module, ModuleInfo) {
    let source = kernel.source();
    let module = naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|error| panic!("{}", error.emit_to_string_with_path(&source, kernel.spec().name)));
    let info = validate(&module).unwrap_or_else(|error| panic!("{kernel:?}: {error:?}"));
    (module, info)
}

/// With no capability beyond WebGPU's core.
fn validate(module: &Module) -> Result<ModuleInfo, Box<naga::WithSpan<naga::valid::ValidationError>>> {
    Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(module).map_err(Box::new)
}

#[test]
fn the_table_is_what_the_shaders_say() {
    for kernel in Kernel::ALL {
        let (module, _) = parse(kernel);
        let spec = kernel.spec();
        assert_eq!(module.entry_points.len(), 1, "{kernel:?}");
        assert_eq!(module.entry_points[0].name, spec.name);
        let mut bindings: Vec<_> = module
            .global_variables
            .iter()
            .filter_map(|(_, variable)| {
                let binding = variable.binding?;
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
            (0..).zip(spec.bindings).map(|(number, row)| (number, row.name.to_owned(), row.access)).collect();
        assert_eq!(bindings, table, "{kernel:?}");
        assert!(bindings.iter().filter(|b| b.2 != Access::Uniform).count() <= 8, "WebGPU promises 8 storage buffers");
        let overrides: BTreeSet<&str> = module.overrides.iter().filter_map(|(_, o)| o.name.as_deref()).collect();
        assert_eq!(overrides, spec.constants.iter().copied().collect(), "{kernel:?}");
    }
}

#[test]
fn tile_sizes_are_the_plans() {
    let (module, _) = parse(Kernel::Linear);
    let constant = |wanted: &str| {
        let (_, constant) =
            module.constants.iter().find(|(_, constant)| constant.name.as_deref() == Some(wanted)).unwrap();
        match module.global_expressions[constant.init] {
            naga::Expression::Literal(naga::Literal::U32(value)) => value,
            ref other => panic!("{wanted}: {other:?}"),
        }
    };
    assert_eq!((constant("TILE"), constant("DEPTH")), (LINEAR_TILE, LINEAR_DEPTH));
}

#[test]
fn every_permutation_translates_for_every_backend() {
    for kernel in Kernel::ALL {
        let (module, info) = parse(kernel);
        let name = kernel.spec().name;
        for values in permutations(kernel) {
            let constants: PipelineConstants =
                kernel.spec().constants.iter().zip(&values).map(|(&n, &v)| (n.into(), f64::from(v))).collect();
            let entry = Some((ShaderStage::Compute, name));
            let (module, info) = process_overrides(&module, &info, entry, &constants).unwrap();
            let group: u32 = module.entry_points[0].workgroup_size.iter().product();
            assert!((1..=256).contains(&group), "{kernel:?} {values:?}: {group} invocations");
            translate(&module, &info, name);
        }
    }
}

/// To SPIR-V, MSL, HLSL and GLSL.
fn translate(module: &Module, info: &ModuleInfo, name: &str) {
    let entry = (ShaderStage::Compute, name.to_owned());
    let pipeline = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: name.into() };
    let words = spv::write_vec(module, info, &spv::Options::default(), Some(&pipeline)).unwrap();
    assert!(words.len() > 100);

    let options = msl::Options { fake_missing_bindings: true, lang_version: (2, 0), ..msl::Options::default() };
    let (metal, _) = msl::write_string(module, info, &options, &msl::PipelineOptions::default()).unwrap();
    assert!(metal.contains("kernel void"));

    let options = hlsl::Options { fake_missing_bindings: true, ..hlsl::Options::default() };
    let pipeline = hlsl::PipelineOptions { entry_point: Some(entry.clone()) };
    let mut directx = String::new();
    hlsl::Writer::new(&mut directx, &options, &pipeline).write(module, info, None).unwrap();
    assert!(directx.contains("numthreads"));

    let options = glsl::Options { version: glsl::Version::new_gles(310), ..glsl::Options::default() };
    let pipeline =
        glsl::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: name.into(), multiview: None };
    let mut gl = String::new();
    glsl::Writer::new(&mut gl, module, info, &options, &pipeline, naga::proc::BoundsCheckPolicies::default())
        .unwrap()
        .write()
        .unwrap();
    assert!(gl.contains("void main()"));
}

/// WGSL leaves tanh indeterminate at large arguments (Metal: NaN); Mesa hides it, so the source is read.
#[test]
fn nobody_calls_the_builtin_tanh() {
    let raw_tanh = |line: &str| {
        let code = line.split("//").next().unwrap();
        code.match_indices("tanh(")
            .any(|(at, _)| !code[..at].ends_with(|c: char| c == '_' || c.is_ascii_alphanumeric()))
    };
    // The check itself must be able to fail.
    assert!(raw_tanh("let x = tanh(y);") && raw_tanh("tanh(y)") && !raw_tanh("guarded_tanh(y)"));
    let mut files = 0;
    for folder in ["shaders", "shaders/common"] {
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
    assert!(files >= 6);
}

/// Negative control: what the checks above must refuse, they refuse.
#[test]
fn a_broken_kernel_is_refused() {
    let source = Kernel::LstmStep.source();
    let refused = |from: &str, to: &str| {
        let broken = source.replace(from, to);
        assert_ne!(broken, source, "`{from}` is gone from the kernel");
        naga::front::wgsl::parse_str(&broken).map_or(true, |module| validate(&module).is_err())
    };
    assert!(refused("sigmoid(gates.y)", "sigmoid(gates)"), "a vector where a number is due");
    assert!(refused("h_out[state] = h", "h_in[state] = h"), "a write to a binding that is read only");
    assert!(refused("UNITS * SPLIT", "undeclared"), "a name that is not there");
    assert!(!refused("// One timestep", "// A timestep"), "a comment changes nothing");
}
