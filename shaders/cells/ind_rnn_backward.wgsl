// The backward pass of an IndRNN's timestep. Reference: src/reference/scan_step_backward.rs.

override PEEPHOLE_FIRST: u32 = 0u;   // where lane 0's u [H] begins in the parameters
override PEEPHOLE_LANE: u32 = 0u;    // from lane 0's to lane 1's
override GATE: u32 = 1u;
override GATE_ALPHA: f32 = 0.0;
override GATE_BETA: f32 = 0.0;

const KEEPS_C = false;

// u.
fn extra_of(lane: u32, unit: u32) -> vec2<f32> {
    return vec2(parameters[PEEPHOLE_FIRST + lane * PEEPHOLE_LANE + unit], 0.0);
}

fn state_after(x: vec4<f32>, extra: vec2<f32>, before: f32) -> f32 {
    return activate(GATE, GATE_ALPHA, GATE_BETA, x.x + extra.x * before);
}

fn unit_gradients(x: vec4<f32>, extra: vec2<f32>, before: f32, d_h: f32, d_c: f32) -> UnitGradients {
    let d = d_h * derivative(GATE, GATE_ALPHA, GATE_BETA, x.x + extra.x * before);
    return UnitGradients(vec4(d, 0.0, 0.0, 0.0), d * extra.x);
}
