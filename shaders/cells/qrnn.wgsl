// A QRNN with fo-pooling: f = φ(x1), c' = f c + (1-f) ψ(x0), h' = φ(x2) c'. Reference: src/reference/scan_step.rs.

override GATE: u32 = 3u;
override GATE_ALPHA: f32 = 0.0;
override GATE_BETA: f32 = 0.0;
override CANDIDATE: u32 = 2u;
override CANDIDATE_ALPHA: f32 = 0.0;
override CANDIDATE_BETA: f32 = 0.0;

const KEEPS_C = true;

// f and b of the step c' = f c + b.
fn terms(lane: u32, unit: u32, x: Gates, before: f32) -> vec2<f32> {
    let f = activate(GATE, GATE_ALPHA, GATE_BETA, x.y);
    return vec2(f, (1.0 - f) * activate(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, x.x));
}

fn advanced(lane: u32, unit: u32, x: Gates, before: f32) -> f32 {
    let step = terms(lane, unit, x, before);
    return fma(step.x, before, step.y);
}

fn handed_on(lane: u32, unit: u32, x: Gates, before: f32, after: f32) -> f32 {
    return activate(GATE, GATE_ALPHA, GATE_BETA, x.z) * after;
}
