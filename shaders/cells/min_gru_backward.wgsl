// The backward pass of a minGRU's timestep. Reference: src/reference/scan_step_backward.rs.

override GATE: u32 = 3u;
override GATE_ALPHA: f32 = 0.0;
override GATE_BETA: f32 = 0.0;
override CANDIDATE: u32 = 24u;
override CANDIDATE_ALPHA: f32 = 0.0;
override CANDIDATE_BETA: f32 = 0.0;

const KEEPS_C = false;

fn extra_of(lane: u32, unit: u32) -> vec2<f32> {
    return vec2<f32>();
}

fn state_after(x: vec4<f32>, extra: vec2<f32>, before: f32) -> f32 {
    let z = activate(GATE, GATE_ALPHA, GATE_BETA, x.y);
    return fma(1.0 - z, before, z * activate(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, x.x));
}

fn unit_gradients(x: vec4<f32>, extra: vec2<f32>, before: f32, d_h: f32, d_c: f32) -> UnitGradients {
    let z = activate(GATE, GATE_ALPHA, GATE_BETA, x.y);
    let candidate = activate(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, x.x);
    let d_candidate = d_h * z * derivative(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, x.x);
    let d_z = d_h * (candidate - before) * derivative(GATE, GATE_ALPHA, GATE_BETA, x.y);
    return UnitGradients(vec4(d_candidate, d_z, 0.0, 0.0), d_h * (1.0 - z));
}
