// A GRU that normalizes its sums over a row. Reference: src/reference/normalized.rs.
//
//   (r, z, n) = LN(W x + U h):  n' = tanh(σ(r)∘n)
//   (r, z, n), (s, y, m) = LN(W x), LN(U h), with r + s, z + y:  n' = tanh(n + σ(r + s)∘m)
//   h' = (1 - σ(z))∘n' + σ(z)∘h
//
// One kernel takes the sums, `recurrent_normalize` the rest; or `recurrent_sequence` does both.

override GATE: u32 = 3u;
override GATE_ALPHA: f32 = 0.0;
override GATE_BETA: f32 = 0.0;
override CANDIDATE: u32 = 2u;
override CANDIDATE_ALPHA: f32 = 0.0;
override CANDIDATE_BETA: f32 = 0.0;

const OF_UNIT: f32 = 3.0;            // gates of a unit
const KEEPS_C: bool = false;

fn gate(x: f32) -> f32 {
    return activate(GATE, GATE_ALPHA, GATE_BETA, x);
}

// The sums of a unit's gates between two kernels.
fn kept_sum(lane: u32, row: u32, unit: u32) -> Gates {
    let at = 3u * cell_index(lane, row, unit);
    return vec3(cell[at], cell[at + 1u], cell[at + 2u]);
}

// Stores only the sums.
fn updated(lane: u32, row: u32, unit: u32, x: Gates, sum: Gates, h_before: f32) -> f32 {
    let at = 3u * cell_index(lane, row, unit);
    cell[at] = sum.x;
    cell[at + 1u] = sum.y;
    cell[at + 2u] = sum.z;
    return 0.0;
}

// There is no c.
fn updated_c(lane: u32, row: u32, unit: u32, sums: GateSums, masked: bool) -> f32 {
    return 0.0;
}

// h of a unit.
fn updated_h(lane: u32, row: u32, unit: u32, sums: GateSums, mean: f32, scale: f32, h_before: f32) -> f32 {
    let r = gate(sums.input.x + sums.state.x);
    let z = gate(sums.input.y + sums.state.y);
    var candidate = r * sums.input.z;
    if NORM_PARTS == 1u {
        candidate = sums.input.z + r * sums.state.z;
    }
    return (1.0 - z) * activate(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, candidate) + z * h_before;
}
