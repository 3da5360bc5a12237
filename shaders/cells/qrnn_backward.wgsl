// The backward pass of a QRNN's timestep. Reference: src/reference/scan_step_backward.rs.

override GATE: u32 = 3u;
override GATE_ALPHA: f32 = 0.0;
override GATE_BETA: f32 = 0.0;
override CANDIDATE: u32 = 2u;
override CANDIDATE_ALPHA: f32 = 0.0;
override CANDIDATE_BETA: f32 = 0.0;

const KEEPS_C = true;

fn extra_of(lane: u32, unit: u32) -> vec2<f32> {
    return vec2<f32>();
}

fn state_after(x: vec4<f32>, extra: vec2<f32>, before: f32) -> f32 {
    let f = activate(GATE, GATE_ALPHA, GATE_BETA, x.y);
    return fma(f, before, (1.0 - f) * activate(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, x.x));
}

fn unit_gradients(x: vec4<f32>, extra: vec2<f32>, before: f32, d_h: f32, d_c: f32) -> UnitGradients {
    let f = activate(GATE, GATE_ALPHA, GATE_BETA, x.y);
    let candidate = activate(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, x.x);
    let d_after = d_c + d_h * activate(GATE, GATE_ALPHA, GATE_BETA, x.z);
    let d_candidate = d_after * (1.0 - f) * derivative(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, x.x);
    let d_f = d_after * (before - candidate) * derivative(GATE, GATE_ALPHA, GATE_BETA, x.y);
    let d_output = d_h * state_after(x, extra, before) * derivative(GATE, GATE_ALPHA, GATE_BETA, x.z);
    return UnitGradients(vec4(d_candidate, d_f, d_output, 0.0), d_after * f);
}
