// The second half of a timestep's backward pass where a GRU's reset gate acts on the state: the product is that of the
// candidate's gradient of this step, which gru_gates_backward.wgsl left in `sums`.

override CLIP_GATES: f32 = 0.0;      // bound of the pre-activations, 0 for none
override GATE: u32 = 3u;
override GATE_ALPHA: f32 = 0.0;
override GATE_BETA: f32 = 0.0;

// The step whose gradients the product reads.
fn source_step(step: u32) -> u32 {
    return step;
}

fn gradient_at(lane: u32, time: u32, row: u32, k: u32) -> f32 {
    return sums[sums_index(lane, time, row) + k];
}

fn finish_backward(lane: u32, row: u32, step: u32, time: u32, unit: u32, sum: f32) {
    let at = sums_index(lane, time, row) + unit;
    let of_h = carry_index(0u, lane, row, unit);
    if is_masked(row, time) {
        carry[of_h] = carry[carry_index(1u, lane, row, unit)];
        sums[at] = 0.0;
        return;
    }
    let h_before = kept[row_index(lane, time, row) * WIDTH + unit];
    let of_r = sums[at];
    let r_in = bounded(CLIP_GATES, of_r);
    let r = activate(GATE, GATE_ALPHA, GATE_BETA, r_in);
    sums[at] = sum * h_before * slope(GATE, GATE_ALPHA, GATE_BETA, r_in, r) * within(CLIP_GATES, of_r);
    carry[of_h] += sum * r;
}
