// An SRU: f = φ(x1 + v c), r = φ(x2 + w c), c' = f c + (1-f) x0, h' = r ψ(c') + (1-r) x3. Reference: src/reference/scan_step.rs.

override PEEPHOLE: u32 = 0u;         // 0 where v and w are 0
override GATE: u32 = 3u;
override GATE_ALPHA: f32 = 0.0;
override GATE_BETA: f32 = 0.0;
override OUTPUT: u32 = 0u;
override OUTPUT_ALPHA: f32 = 0.0;
override OUTPUT_BETA: f32 = 0.0;

const KEEPS_C = true;

// A gate, which may see c through the peephole number `which`.
fn gate(lane: u32, unit: u32, which: u32, x: f32, before: f32) -> f32 {
    var sum = x;
    if PEEPHOLE == 1u {
        sum += vectors[vector(lane, EXTRA) + which * WIDTH + unit] * before;
    }
    return activate(GATE, GATE_ALPHA, GATE_BETA, sum);
}

// f and b of the step c' = f c + b.
fn terms(lane: u32, unit: u32, x: Gates, before: f32) -> vec2<f32> {
    let f = gate(lane, unit, 0u, x.y, before);
    return vec2(f, (1.0 - f) * x.x);
}

fn advanced(lane: u32, unit: u32, x: Gates, before: f32) -> f32 {
    let step = terms(lane, unit, x, before);
    return fma(step.x, before, step.y);
}

fn handed_on(lane: u32, unit: u32, x: Gates, before: f32, after: f32) -> f32 {
    let r = gate(lane, unit, 1u, x.z, before);
    return r * activate(OUTPUT, OUTPUT_ALPHA, OUTPUT_BETA, after) + (1.0 - r) * x.w;
}
