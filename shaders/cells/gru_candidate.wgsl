// Second half of a GRU whose reset gate acts on the hidden state. Reference: src/reference/gru_step.rs.
//
//   n = tanh(Wn x + bn + Un (r∘h))  h' = (1 - z)∘n + z∘h

alias Gates = f32;
alias Product = Real;
alias Word = u32;
alias Integers = i32;

override CLIP_GATES: f32 = 0.0;      // bound of the pre-activations, 0 for none
override ZONEOUT_H: f32 = 0.0;       // share of h that stays as it was, 0 for none
override CANDIDATE: u32 = 2u;
override CANDIDATE_ALPHA: f32 = 0.0;
override CANDIDATE_BETA: f32 = 0.0;

@group(0) @binding(1) var<storage, read> projected: array<f32>;             // [LANES, T', B, H, 3] of (r, z, n): W x + b
@group(0) @binding(2) var<storage, read> weights: array<u32>;               // per lane [K, H, 3] of (r, z, n), packed

const SCALE_OF_SUM: u32 = SCALE;

// The sum is over r∘h.
fn state_start(lane: u32, row: u32, step: u32) -> u32 {
    return cell_index(lane, row, 0u);
}

fn state_at(index: u32) -> f32 {
    return cell[index];
}

fn word_at(base: u32, index: u32) -> Word {
    return weights[base + 3u * index + 2u];
}

fn vector_at(start: u32, unit: u32) -> Gates {
    return vectors[start + 3u * unit + 2u];
}

fn projected_at(index: u32) -> Gates {
    return projected[3u * index + 2u];
}

// h of one step from the input's part x and the state's part.
fn updated(lane: u32, row: u32, unit: u32, x: Gates, sum: Gates, h_before: f32) -> f32 {
    let z = cell[LANES * params.batch * WIDTH + cell_index(lane, row, unit)];
    let n = activate(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, bounded(CLIP_GATES, x + sum));
    return zoned(ZONEOUT_H, h_before, (1.0 - z) * n + z * h_before);
}
