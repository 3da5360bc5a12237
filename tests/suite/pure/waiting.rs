//! The waiting loop of `resident` in SPIR-V, as wgpu hands it to Vulkan: every round reads what is waited for again.

use std::collections::{BTreeMap, BTreeSet};

use gatefold::unstable::plan::{Constants, Kernel, Repetition, Rung};
use naga::ShaderStage;
use naga::back::pipeline_constants::process_overrides;
use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};

use super::shaders::{capabilities, pairs, permutations, spirv, validate};

const CONSTANT: u32 = 43;
const FUNCTION: u32 = 54;
const ACCESS_CHAIN: u32 = 65;
const ATOMIC_LOAD: u32 = 227;
const LOOP_MERGE: u32 = 246;
const LABEL: u32 = 248;

/// Numbers that one look at the exchange reads.
const LOOK: usize = 4;

/// The old source, in which each wait was a loop for one number with a load in front of it and the same load in it.
const BEFORE: &str = "
fn received_one(at: u32) -> f32 {
    var word = atomicLoad(&exchange[at]);
    while word == ABSENT && looks_left > 0u {
        looks_left -= 1u;
        if looks_left % 256u == 0u && atomicLoad(&exchange[TIMED_OUT]) != 0u {
            looks_left = 0u;
        }
        word = atomicLoad(&exchange[at]);
    }
    if word == ABSENT {
        looks_left = 0u;
        atomicStore(&exchange[TIMED_OUT], 1u);
    }
    return bitcast<f32>(word ^ KEY);
}

fn received(at: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(received_one(at.x), received_one(at.y), received_one(at.z), received_one(at.w));
}

";

/// As wgpu-hal writes a trusted module.
fn options(lang_version: (u8, u8)) -> spv::Options<'static> {
    let unchecked = BoundsCheckPolicy::Unchecked;
    spv::Options {
        lang_version,
        flags: spv::WriterFlags::empty(),
        bounds_check_policies: BoundsCheckPolicies {
            index: unchecked,
            buffer: unchecked,
            image_load: unchecked,
            binding_array: unchecked,
        },
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        ..spv::Options::default()
    }
}

/// The fault in the waiting loops of `words`, if there is one: a function that loads numbers from the exchange (not its head,
/// whose places are constants) loads all of them in one loop and none outside it.
fn fault(words: &[u32]) -> Option<String> {
    let mut constants = BTreeSet::new();
    // The place of every pointer into the exchange, and the ends of the loops that are open.
    let mut places = BTreeMap::new();
    let mut open: Vec<(usize, u32)> = Vec::new();
    let (mut function, mut loops) = (0, 0);
    // By function: the loop of every load of a number, 0 outside loops.
    let mut loads: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    let mut rest = &words[5..];
    while let Some(&first) = rest.first() {
        let (operation, operands) = (first & 0xffff, &rest[1..(first >> 16) as usize]);
        rest = &rest[(first >> 16) as usize..];
        match operation {
            CONSTANT => drop(constants.insert(operands[1])),
            FUNCTION => function += 1,
            ACCESS_CHAIN => drop(places.insert(operands[1], *operands.last().unwrap())),
            LABEL => open.retain(|&(_, end)| end != operands[0]),
            LOOP_MERGE => {
                loops += 1;
                open.push((loops, operands[0]));
            }
            ATOMIC_LOAD if !constants.contains(&places[&operands[2]]) => {
                loads.entry(function).or_default().push(open.last().map_or(0, |&(number, _)| number));
            }
            _ => {}
        }
    }
    match loads.into_values().collect::<Vec<_>>().as_slice() {
        [inside] if inside.len() == LOOK && inside[0] != 0 && inside.iter().all(|one| *one == inside[0]) => None,
        [] => Some("no load".into()),
        other => Some(format!("loads by function, each as the number of its loop (0: none): {other:?}")),
    }
}

/// `kernel`'s source in SPIR-V.
fn words(kernel: Kernel, source: &str, constants: &Constants, repetition: Repetition, version: (u8, u8)) -> Vec<u32> {
    let module = naga::front::wgsl::parse_str(source).unwrap();
    let info = validate(&module, capabilities(kernel, repetition)).unwrap();
    let name = kernel.spec().entry_point;
    let entry = Some((ShaderStage::Compute, name));
    let (module, info) = process_overrides(&module, &info, entry, &pairs(constants)).unwrap();
    spirv(&module, &info, name, &options(version))
}

/// Compilers of SPIR-V (Mesa's among them) merge a load before a loop with the same load in it; the loop then counts
/// its looks_left down without reading.
#[test]
fn every_round_of_a_wait_reads_again() {
    let resident = |kernel: &Kernel| kernel.recurrent().is_some_and(|kernel| kernel.rung == Rung::Resident);
    let mut checked = 0;
    for kernel in Kernel::all().filter(resident) {
        for (constants, repetition) in
            permutations(kernel).into_iter().zip([Repetition::Uniform, Repetition::Immediate].into_iter().cycle())
        {
            let source = kernel.source(&constants, repetition);
            let fault_of = |source: &str, version| fault(&words(kernel, source, &constants, repetition, version));
            for version in [(1, 3), (1, 6)] {
                assert_eq!(fault_of(&source, version), None, "{} {constants:?}", kernel.spec().name);
            }
            checked += 1;
            // Negative controls: the old source, and a load in front of the loop.
            let start = source.find("fn received(").unwrap();
            let end = start + source[start..].find("\n}\n").unwrap() + 3;
            let old = [&source[..start], BEFORE, &source[end..]].concat();
            assert!(fault_of(&old, (1, 3)).is_some(), "{}", kernel.spec().name);
            let in_front = "var words = vec4<u32>(atomicLoad(&exchange[at.x]));";
            let twice = source.replace("var words = vec4<u32>(ABSENT);", in_front);
            assert_ne!(twice, source);
            assert!(fault_of(&twice, (1, 3)).is_some(), "{}", kernel.spec().name);
        }
    }
    assert!(checked >= 100, "{checked}");
}
