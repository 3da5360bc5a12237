// An LSTM that normalizes its sums over a row. Reference: src/reference/normalized.rs.
//
//   (i, f, g, o) = LN(W x + U h)  or  LN(W x) + LN(U h)
//   c' = σ(f)∘c + σ(i)∘tanh(g)    h' = σ(o)∘tanh(c')
//
// with LN(c') in the place of c', in both or in the second alone. One kernel takes the sums, `recurrent_normalize` the rest; or
// `recurrent_sequence` does both.

override GATE: u32 = 3u;
override GATE_ALPHA: f32 = 0.0;
override GATE_BETA: f32 = 0.0;
override CANDIDATE: u32 = 2u;
override CANDIDATE_ALPHA: f32 = 0.0;
override CANDIDATE_BETA: f32 = 0.0;
override OUTPUT: u32 = 2u;
override OUTPUT_ALPHA: f32 = 0.0;
override OUTPUT_BETA: f32 = 0.0;

const OF_UNIT: f32 = 4.0;            // gates of a unit
const KEEPS_C: bool = true;

fn gate(x: f32) -> f32 {
    return activate(GATE, GATE_ALPHA, GATE_BETA, x);
}

// Where the sums of a unit's gates are kept between two kernels, after c.
fn kept_index(lane: u32, row: u32, unit: u32) -> u32 {
    return LANES * params.batch * WIDTH + 4u * cell_index(lane, row, unit);
}

fn kept_sum(lane: u32, row: u32, unit: u32) -> Gates {
    let at = kept_index(lane, row, unit);
    return vec4(cell[at], cell[at + 1u], cell[at + 2u], cell[at + 3u]);
}

// Keeps the sums alone.
fn updated(lane: u32, row: u32, unit: u32, x: Gates, sum: Gates, h_before: f32) -> f32 {
    let at = kept_index(lane, row, unit);
    cell[at] = sum.x;
    cell[at + 1u] = sum.y;
    cell[at + 2u] = sum.z;
    cell[at + 3u] = sum.w;
    return 0.0;
}

// c of a unit, not normalized yet, in place; that of a masked row does not change.
fn updated_c(lane: u32, row: u32, unit: u32, sums: GateSums, masked: bool) -> f32 {
    let gates = sums.input + sums.state;
    let at = cell_index(lane, row, unit);
    let before = cell[at];
    let g = activate(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, gates.z);
    let c = select(gate(gates.y) * before + gate(gates.x) * g, before, masked);
    cell[at] = c;
    return c;
}

// h of a unit; c is normalized with its row's mean and scale.
fn updated_h(lane: u32, row: u32, unit: u32, sums: GateSums, mean: f32, scale: f32, h_before: f32) -> f32 {
    let at = cell_index(lane, row, unit);
    var c = cell[at];
    if NORM_CELL != NORM_NONE {
        c = (c - mean) * scale * vectors[vector(lane, NORM_C_WEIGHT) + unit] + vectors[vector(lane, NORM_C_BIAS) + unit];
    }
    if NORM_CELL == NORM_STATE {
        cell[at] = c;
    }
    return gate(sums.input.w + sums.state.w) * activate(OUTPUT, OUTPUT_ALPHA, OUTPUT_BETA, c);
}
