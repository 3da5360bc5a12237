// The first half of a timestep's backward pass where an LSTM projects its state, or a cell normalizes its sums: the gradient
// of h. `d_state` keeps it for the second half and for the gradient of the projection.

@group(0) @binding(8) var<storage, read_write> d_state: array<f32>;  // [LANES, T', B, P]

fn finish_backward(lane: u32, row: u32, step: u32, time: u32, unit: u32, sum: f32) {
    let of_h = carry_index(0u, lane, row, unit);
    let d = sum + carried(of_h, step) + output_gradient(lane, row, step, time, unit);
    let masked = is_masked(row, time);
    let keeps = kept_of_h(lane, (time * params.batch + row) * WIDTH + unit);
    carry[of_h] = select(keeps * d, d, masked);
    // A masked step projects nothing.
    d_state[row_index(lane, time, row) * WIDTH + unit] = select((1.0 - keeps) * d, 0.0, masked);
}
