// An LSTM: four gates and the cell update. Reference: src/reference/lstm_step.rs.
//
//   i = σ(Wi x + Ui h + bi + pi∘c)  f = σ(Wf x + Uf h + bf + pf∘c)  (coupled: f = 1 - i)
//   g = tanh(Wg x + Ug h + bg)      c' = f∘c + i∘g
//   o = σ(Wo x + Uo h + bo + po∘c') h' = o∘tanh(c')

override PEEPHOLE: u32 = 0u;
override COUPLED: u32 = 0u;
override CLIP_GATES: f32 = 0.0;      // bound of the pre-activations, 0 for none
override CLIP_CELL: f32 = 0.0;       // bound of c, 0 for none
override ZONEOUT_H: f32 = 0.0;       // share of h that stays as it was, 0 for none
override ZONEOUT_C: f32 = 0.0;       // the same of c
override GATE: u32 = 3u;
override GATE_ALPHA: f32 = 0.0;
override GATE_BETA: f32 = 0.0;
override CANDIDATE: u32 = 2u;
override CANDIDATE_ALPHA: f32 = 0.0;
override CANDIDATE_BETA: f32 = 0.0;
override OUTPUT: u32 = 2u;
override OUTPUT_ALPHA: f32 = 0.0;
override OUTPUT_BETA: f32 = 0.0;

fn peep(lane: u32, block: u32, unit: u32, c: f32) -> f32 {
    if PEEPHOLE == 0u {
        return 0.0;
    }
    return vectors[vector(lane, EXTRA) + block * WIDTH + unit] * c;
}

fn gate(x: f32) -> f32 {
    return activate(GATE, GATE_ALPHA, GATE_BETA, bounded(CLIP_GATES, x));
}

// h of one step from the input's part x and the state's part of the gates; c in place. With a
// projection to follow, h is kept after the cells.
fn updated(lane: u32, row: u32, unit: u32, x: Gates, sum: Gates, h_before: f32) -> f32 {
    let gates = x + sum;
    keep_sums(gates);
    let at = cell_index(lane, row, unit);
    let before = c_before(at);
    let i = gate(gates.x + peep(lane, 0u, unit, before));
    var f = 1.0 - i;
    if COUPLED == 0u {
        f = gate(gates.y + peep(lane, 1u, unit, before));
    }
    let g = activate(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, bounded(CLIP_GATES, gates.z));
    let c = bounded(CLIP_CELL, f * before + i * g);
    let o = gate(gates.w + peep(lane, 2u, unit, c));
    let result = o * activate(OUTPUT, OUTPUT_ALPHA, OUTPUT_BETA, c);
    put_c(at, zoned(ZONEOUT_C, before, c));
    if PARTIAL == 1u {
        // The other half projects h, then zones it.
        cell[LANES * params.batch * WIDTH + at] = result;
        return result;
    }
    return zoned(ZONEOUT_H, h_before, result);
}
