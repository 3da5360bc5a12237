// The backward pass of an SRU's timestep. Reference: src/reference/scan_step_backward.rs.

override PEEPHOLE: u32 = 0u;         // 0 where v and w are 0
override PEEPHOLE_FIRST: u32 = 0u;   // where lane 0's v and w [2H] begin in the parameters
override PEEPHOLE_LANE: u32 = 0u;    // from lane 0's to lane 1's
override GATE: u32 = 3u;
override GATE_ALPHA: f32 = 0.0;
override GATE_BETA: f32 = 0.0;
override OUTPUT: u32 = 0u;
override OUTPUT_ALPHA: f32 = 0.0;
override OUTPUT_BETA: f32 = 0.0;

const KEEPS_C = true;

// v and w.
fn extra_of(lane: u32, unit: u32) -> vec2<f32> {
    if PEEPHOLE == 0u {
        return vec2<f32>();
    }
    let at = PEEPHOLE_FIRST + lane * PEEPHOLE_LANE + unit;
    return vec2(parameters[at], parameters[at + WIDTH]);
}

// What the gates f and r are made of.
fn gate_sums(x: vec4<f32>, extra: vec2<f32>, before: f32) -> vec2<f32> {
    if PEEPHOLE == 0u {
        return x.yz;
    }
    return x.yz + extra * before;
}

fn state_after(x: vec4<f32>, extra: vec2<f32>, before: f32) -> f32 {
    let f = activate(GATE, GATE_ALPHA, GATE_BETA, gate_sums(x, extra, before).x);
    return fma(f, before, (1.0 - f) * x.x);
}

fn unit_gradients(x: vec4<f32>, extra: vec2<f32>, before: f32, d_h: f32, d_c: f32) -> UnitGradients {
    let gates = gate_sums(x, extra, before);
    let f = activate(GATE, GATE_ALPHA, GATE_BETA, gates.x);
    let r = activate(GATE, GATE_ALPHA, GATE_BETA, gates.y);
    let after = state_after(x, extra, before);
    let seen = activate(OUTPUT, OUTPUT_ALPHA, OUTPUT_BETA, after);
    let d_after = d_c + d_h * r * derivative(OUTPUT, OUTPUT_ALPHA, OUTPUT_BETA, after);
    let d_f = d_after * (before - x.x) * derivative(GATE, GATE_ALPHA, GATE_BETA, gates.x);
    let d_r = d_h * (seen - x.w) * derivative(GATE, GATE_ALPHA, GATE_BETA, gates.y);
    let d_before = d_after * f + d_f * extra.x + d_r * extra.y;
    return UnitGradients(vec4(d_after * (1.0 - f), d_f, d_r, d_h * (1.0 - r)), d_before);
}
