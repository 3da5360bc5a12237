// First half of a GRU whose reset gate acts on the hidden state: r and z of all units, which the
// candidate's product needs. Reference: src/reference/gru_step.rs.
//
//   r = σ(Wr x + Ur h + br)  z = σ(Wz x + Uz h + bz)

alias Gates = vec2<f32>;
alias Product = vec2<Real>;
alias Word = vec2<u32>;
alias Integers = vec2<i32>;

override CLIP_GATES: f32 = 0.0;      // bound of the pre-activations, 0 for none
override GATE: u32 = 3u;
override GATE_ALPHA: f32 = 0.0;
override GATE_BETA: f32 = 0.0;

@group(0) @binding(1) var<storage, read> projected: array<f32>;             // [LANES, T', B, H, 3] of (r, z, n): W x + b
@group(0) @binding(2) var<storage, read> weights: array<u32>;               // per lane [K, H, 3] of (r, z, n), packed

fn word_at(base: u32, index: u32) -> Word {
    let at = base + 3u * index;
    return vec2(weights[at], weights[at + 1u]);
}

fn vector_at(start: u32, unit: u32) -> Gates {
    return vec2(vectors[start + 3u * unit], vectors[start + 3u * unit + 1u]);
}

fn projected_at(index: u32) -> Gates {
    return vec2(projected[3u * index], projected[3u * index + 1u]);
}

fn gate(x: f32) -> f32 {
    return activate(GATE, GATE_ALPHA, GATE_BETA, bounded(CLIP_GATES, x));
}

// Keeps r∘h, and z after it.
fn updated(lane: u32, row: u32, unit: u32, x: Gates, sum: Gates, h_before: f32) -> f32 {
    let at = cell_index(lane, row, unit);
    cell[at] = gate(x.x + sum.x) * h_before;
    cell[LANES * params.batch * WIDTH + at] = gate(x.y + sum.y);
    return 0.0;
}
