// An sLSTM: an LSTM with exponential gates, a normalizer n and a stabilizer m. Reference: src/reference/slstm_step.rs.
//
//   a = log φ(f~) + m       m' = max(i~, a), i~ where n is 0
//   i = exp(i~ - m')        f = min(exp(a - m'), 1)
//   c' = f∘c + i∘tanh(z~)   n' = f∘n + i         h' = σ(o~)∘c'/n'

// h of one step from the input's part x and the state's part of the gates; c, n and m in place.
fn updated(lane: u32, row: u32, unit: u32, x: Gates, sum: Gates, h_before: f32) -> f32 {
    let gates = x + sum;
    keep_sums(gates);
    // n and m lie behind c, each as c.
    let at = cell_index(lane, row, unit);
    let part = LANES * params.batch * WIDTH;
    let before = vec3<f32>(cell[at], cell[at + part], cell[at + 2u * part]);
    let after = slstm_state(slstm_gates(gates, before), before);
    cell[at] = after.x;
    cell[at + part] = after.y;
    cell[at + 2u * part] = after.z;
    return sigmoid(gates.w) * (after.x / after.y);
}
