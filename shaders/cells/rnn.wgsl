// A plain RNN: h' = tanh(W x + U h + b). Reference: src/reference/rnn_step.rs.

alias Gates = f32;
alias Product = Real;
alias Word = u32;
alias Integers = i32;

override CLIP_GATES: f32 = 0.0;      // bound of the pre-activations, 0 for none
override ZONEOUT_H: f32 = 0.0;       // share of h that stays as it was, 0 for none
override GATE: u32 = 2u;
override GATE_ALPHA: f32 = 0.0;
override GATE_BETA: f32 = 0.0;

@group(0) @binding(1) var<storage, read> projected: array<f32>;             // [LANES, T', B, H] W x + b
@group(0) @binding(2) var<storage, read> weights: array<u32>;               // per lane [K, H], packed

fn word_at(base: u32, index: u32) -> Word {
    return weights[base + index];
}

fn vector_at(start: u32, unit: u32) -> Gates {
    return vectors[start + unit];
}

fn projected_at(index: u32) -> Gates {
    return projected[index];
}

// h of one step from the input's part x and the state's part.
fn updated(lane: u32, row: u32, unit: u32, x: Gates, sum: Gates, h_before: f32) -> f32 {
    return zoned(ZONEOUT_H, h_before, activate(GATE, GATE_ALPHA, GATE_BETA, bounded(CLIP_GATES, x + sum)));
}
