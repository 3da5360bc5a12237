// The backward pass of a minLSTM's timestep. Reference: src/reference/scan_step_backward.rs.

override GATE: u32 = 24u;
override GATE_ALPHA: f32 = 0.0;
override GATE_BETA: f32 = 0.0;

const KEEPS_C = false;

fn extra_of(lane: u32, unit: u32) -> vec2<f32> {
    return vec2<f32>();
}

// The forget gate and the input gate, whose sum is 1.
fn normalized_gates(x: vec4<f32>) -> vec2<f32> {
    let least = min(min(x.y, x.z), 0.0);
    let of_f = exp(least) + exp(least - x.z);
    let of_i = exp(least) + exp(least - x.y);
    return vec2(of_f, of_i) / (of_f + of_i);
}

fn state_after(x: vec4<f32>, extra: vec2<f32>, before: f32) -> f32 {
    let gates = normalized_gates(x);
    return fma(gates.x, before, gates.y * activate(GATE, GATE_ALPHA, GATE_BETA, x.x));
}

fn unit_gradients(x: vec4<f32>, extra: vec2<f32>, before: f32, d_h: f32, d_c: f32) -> UnitGradients {
    let gates = normalized_gates(x);
    let candidate = activate(GATE, GATE_ALPHA, GATE_BETA, x.x);
    // The forget gate is the sigmoid of log(sigmoid(x1)) - log(sigmoid(x2)).
    let d = d_h * (before - candidate) * gates.x * gates.y;
    let d_candidate = d_h * gates.y * derivative(GATE, GATE_ALPHA, GATE_BETA, x.x);
    return UnitGradients(vec4(d_candidate, d * sigmoid(-x.y), -d * sigmoid(-x.z), 0.0), d_h * gates.x);
}
