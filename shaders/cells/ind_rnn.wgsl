// An IndRNN: h' = φ(x + u h), every unit for itself. Reference: src/reference/scan_step.rs.

alias Gates = f32;
alias Product = Real;

override GATE: u32 = 1u;
override GATE_ALPHA: f32 = 0.0;
override GATE_BETA: f32 = 0.0;

const KEEPS_C = false;

@group(0) @binding(1) var<storage, read> projected: array<f32>;             // [LANES, T', B, H] W x + b
@group(0) @binding(2) var<storage, read> weights: array<u32>;               // none: something must be bound

fn projected_at(index: u32) -> Gates {
    return projected[index];
}

fn advanced(lane: u32, unit: u32, x: Gates, before: f32) -> f32 {
    return activate(GATE, GATE_ALPHA, GATE_BETA, x + vectors[vector(lane, EXTRA) + unit] * before);
}

fn handed_on(lane: u32, unit: u32, x: Gates, before: f32, after: f32) -> f32 {
    return after;
}
