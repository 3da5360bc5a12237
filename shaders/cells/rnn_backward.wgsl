// The backward pass of a plain RNN's timestep. Reference: src/reference/rnn_step_backward.rs.

override CLIP_GATES: f32 = 0.0;      // bound of the pre-activations, 0 for none
override GATE: u32 = 2u;
override GATE_ALPHA: f32 = 0.0;
override GATE_BETA: f32 = 0.0;

fn finish_backward(lane: u32, row: u32, step: u32, time: u32, unit: u32, sum: f32) {
    let at = sums_index(lane, time, row) + unit;
    let of_h = carry_index(0u, lane, row, unit);
    let d = sum + carried(of_h, step) + output_gradient(lane, row, step, time, unit);
    if is_masked(row, time) {
        carry[of_h] = d;
        sums[at] = 0.0;
        return;
    }
    let keeps = kept_of_h(lane, (time * params.batch + row) * WIDTH + unit);
    let x = bounded(CLIP_GATES, sums[at]);
    sums[at] = (1.0 - keeps) * d * derivative(GATE, GATE_ALPHA, GATE_BETA, x) * within(CLIP_GATES, sums[at]);
    carry[of_h] = keeps * d;
}
