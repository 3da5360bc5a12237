//! Kernels of a cell with a memory.

use super::training::KernelRow;
use super::{ACTIVATIONS, Constant, KernelSpec, f, read, read_write, u, uniform};

const COMMON: &str = include_str!("../../../shaders/common/ntm.wgsl");
const TAPE: &str = include_str!("../../../shaders/common/ntm_tape.wgsl");
const KEPT: &str = include_str!("../../../shaders/common/ntm_kept.wgsl");
const NOT_KEPT: &str = include_str!("../../../shaders/common/ntm_not_kept.wgsl");
const FORWARD: &str = include_str!("../../../shaders/ntm.wgsl");
const BACKWARD: &str = include_str!("../../../shaders/training/ntm_backward.wgsl");

const SIZES: &[&str] =
    &["rows", "first", "end", "steps", "c", "read", "weights", "memory", "scratch", "tape_first", "tape_steps"];
const OF_ALL: &[Constant] = &[
    u("INPUTS"),
    u("HIDDEN"),
    u("CELL"),
    u("Z"),
    u("SUMS"),
    u("CONTROLS"),
    u("MEMORY_ROWS"),
    u("MEMORY_COLUMNS"),
    u("READS"),
    u("WRITES"),
    u("SHIFTS"),
    u("ORDER"),
    u("TANH_KEY"),
    u("TANH_ADD"),
    f("CLIP_CONTROLS"),
    u("STORED"),
    u("KEPT_MEMORY"),
    u("KEPT_WEIGHTS"),
    u("MASKED"),
    u("LAST"),
    u("WORKGROUP"),
];

/// All timesteps.
pub(super) fn forward() -> KernelSpec {
    let (_, _, mut bindings, sizes, constants) = kept();
    bindings.pop();
    let sources = vec![ACTIVATIONS, COMMON, NOT_KEPT, FORWARD];
    KernelSpec { name: "ntm".into(), entry_point: "ntm", sources, bindings, sizes, constants }
}

/// The same, kept for a backward pass.
pub(super) fn kept() -> KernelRow {
    let bindings = vec![
        uniform("params"),
        read("x"),
        read("w"),
        read("mask"),
        read_write("state"),
        read_write("output"),
        read_write("tape"),
    ];
    ("ntm", vec![ACTIVATIONS, COMMON, TAPE, KEPT, FORWARD], bindings, SIZES, [OF_ALL, &[u("KEPT_ROWS")]].concat())
}

/// The timesteps of a backward pass.
pub(super) fn backward() -> KernelRow {
    let bindings = vec![
        uniform("params"),
        read("parameters"),
        read("mask"),
        read("d_output"),
        read_write("tape"),
        read_write("carry"),
    ];
    let places = [u("INPUT_FIRST"), u("STATE_FIRST"), u("HEADS_FIRST"), u("SCRATCH")];
    ("ntm_backward", vec![ACTIVATIONS, COMMON, TAPE, BACKWARD], bindings, SIZES, [OF_ALL, &places].concat())
}
