// A minLSTM: f = σ(x1) / (σ(x1) + σ(x2)), h' = f h + (1-f) φ(x0). Reference: src/reference/scan_step.rs.

override GATE: u32 = 24u;
override GATE_ALPHA: f32 = 0.0;
override GATE_BETA: f32 = 0.0;

const KEEPS_C = false;

// f and b of the step h' = f h + b. Both sigmoids are taken by a common factor that leaves no exponent above 0 and one of
// them at 0.
fn terms(lane: u32, unit: u32, x: Gates, before: f32) -> vec2<f32> {
    let least = min(min(x.y, x.z), 0.0);
    let of_f = exp(least) + exp(least - x.z);
    let of_i = exp(least) + exp(least - x.y);
    let sum = of_f + of_i;
    return vec2(of_f / sum, of_i / sum * activate(GATE, GATE_ALPHA, GATE_BETA, x.x));
}

fn advanced(lane: u32, unit: u32, x: Gates, before: f32) -> f32 {
    let step = terms(lane, unit, x, before);
    return fma(step.x, before, step.y);
}

fn handed_on(lane: u32, unit: u32, x: Gates, before: f32, after: f32) -> f32 {
    return after;
}
