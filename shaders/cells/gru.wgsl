// A GRU whose reset gate acts on the recurrent product. Twin: src/reference/gru_step.rs.
//
//   r = σ(Wr x + Ur h + br)  z = σ(Wz x + Uz h + bz)
//   n = tanh(Wn x + bn + r∘(Un h + dn))  h' = (1 - z)∘n + z∘h

alias Gates = vec3<f32>;
alias Product = vec3<Real>;
alias Word = vec3<u32>;
alias Integers = vec3<i32>;

override CLIP_GATES: f32 = 0.0;      // bound of the pre-activations, 0 for none
override GATE: u32 = 3u;
override GATE_ALPHA: f32 = 0.0;
override GATE_BETA: f32 = 0.0;
override CANDIDATE: u32 = 2u;
override CANDIDATE_ALPHA: f32 = 0.0;
override CANDIDATE_BETA: f32 = 0.0;

@group(0) @binding(1) var<storage, read> projected: array<f32>;             // [LANES, T', B, H, 3] of (r, z, n): W x + b
@group(0) @binding(2) var<storage, read> weights: array<u32>;               // per lane [K, H, 3] of (r, z, n), packed

fn word_at(base: u32, index: u32) -> Word {
    let at = base + 3u * index;
    return vec3(weights[at], weights[at + 1u], weights[at + 2u]);
}

fn vector_at(start: u32, unit: u32) -> Gates {
    let at = start + 3u * unit;
    return vec3(vectors[at], vectors[at + 1u], vectors[at + 2u]);
}

fn projected_at(index: u32) -> Gates {
    return vec3(projected[3u * index], projected[3u * index + 1u], projected[3u * index + 2u]);
}

fn gate(x: f32) -> f32 {
    return activate(GATE, GATE_ALPHA, GATE_BETA, bounded(CLIP_GATES, x));
}

// h of one step from the input's part x and the state's part of the gates.
fn updated(lane: u32, row: u32, unit: u32, x: Gates, sum: Gates, h_before: f32) -> f32 {
    let r = gate(x.x + sum.x);
    let z = gate(x.y + sum.y);
    let candidate = x.z + r * (sum.z + vectors[vector(lane, EXTRA) + unit]);
    let n = activate(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, bounded(CLIP_GATES, candidate));
    return (1.0 - z) * n + z * h_before;
}
