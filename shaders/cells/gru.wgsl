// A GRU whose reset gate acts on the recurrent product. Reference: src/reference/gru_step.rs.
//
//   r = σ(Wr x + Ur h + br)  z = σ(Wz x + Uz h + bz)
//   n = tanh(Wn x + bn + r∘(Un h + dn))  h' = (1 - z)∘n + z∘h

override CLIP_GATES: f32 = 0.0;      // bound of the pre-activations, 0 for none
override ZONEOUT_H: f32 = 0.0;       // share of h that stays as it was, 0 for none
override GATE: u32 = 3u;
override GATE_ALPHA: f32 = 0.0;
override GATE_BETA: f32 = 0.0;
override CANDIDATE: u32 = 2u;
override CANDIDATE_ALPHA: f32 = 0.0;
override CANDIDATE_BETA: f32 = 0.0;

fn gate(x: f32) -> f32 {
    return activate(GATE, GATE_ALPHA, GATE_BETA, bounded(CLIP_GATES, x));
}

// h of one step from the input's part x and the state's part of the gates.
fn updated(lane: u32, row: u32, unit: u32, x: Gates, sum: Gates, h_before: f32) -> f32 {
    let r = gate(x.x + sum.x);
    let z = gate(x.y + sum.y);
    let candidate = x.z + r * (sum.z + vectors[vector(lane, EXTRA) + unit]);
    let n = activate(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, bounded(CLIP_GATES, candidate));
    return zoned(ZONEOUT_H, h_before, (1.0 - z) * n + z * h_before);
}
