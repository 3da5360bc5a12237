// A minGRU: z = φ(x1), h' = (1-z) h + z ψ(x0). Reference: src/reference/scan_step.rs.

alias Gates = vec2<f32>;
alias Product = vec2<Real>;

override GATE: u32 = 3u;
override GATE_ALPHA: f32 = 0.0;
override GATE_BETA: f32 = 0.0;
override CANDIDATE: u32 = 24u;
override CANDIDATE_ALPHA: f32 = 0.0;
override CANDIDATE_BETA: f32 = 0.0;

const KEEPS_C = false;

@group(0) @binding(1) var<storage, read> projected: array<vec2<f32>>;       // [LANES, T', B, H] of (x0, x1): W x + b
@group(0) @binding(2) var<storage, read> weights: array<u32>;               // none: something must be bound

fn projected_at(index: u32) -> Gates {
    return projected[index];
}

// f and b of the step h' = f h + b.
fn terms(lane: u32, unit: u32, x: Gates, before: f32) -> vec2<f32> {
    let z = activate(GATE, GATE_ALPHA, GATE_BETA, x.y);
    return vec2(1.0 - z, z * activate(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, x.x));
}

fn advanced(lane: u32, unit: u32, x: Gates, before: f32) -> f32 {
    let step = terms(lane, unit, x, before);
    return fma(step.x, before, step.y);
}

fn handed_on(lane: u32, unit: u32, x: Gates, before: f32, after: f32) -> f32 {
    return after;
}
