// The first half of a timestep's backward pass where a GRU's reset gate acts on the state: update gate and candidate.
// `sums` is W x + U h + b of the gates and W x + U (r h) + b of the candidate; `kept` is h before every step. The second
// part of `carry` takes the gradient of h' to the second half.

override CLIP_GATES: f32 = 0.0;      // bound of the pre-activations, 0 for none
override GATE: u32 = 3u;
override GATE_ALPHA: f32 = 0.0;
override GATE_BETA: f32 = 0.0;
override CANDIDATE: u32 = 2u;
override CANDIDATE_ALPHA: f32 = 0.0;
override CANDIDATE_BETA: f32 = 0.0;

fn finish_backward(lane: u32, row: u32, step: u32, time: u32, unit: u32, sum: f32) {
    let at = sums_index(lane, time, row) + unit;
    let of_h = carry_index(0u, lane, row, unit);
    var d = sum + carried(of_h, step) + output_gradient(lane, row, step, time, unit);
    carry[carry_index(1u, lane, row, unit)] = d;
    if is_masked(row, time) {
        sums[at + WIDTH] = 0.0;
        sums[at + 2u * WIDTH] = 0.0;
        return;
    }
    let keeps = kept_of_h(lane, (time * params.batch + row) * WIDTH + unit);
    let d_kept = keeps * d;
    d *= 1.0 - keeps;
    let h_before = kept[row_index(lane, time, row) * WIDTH + unit];
    let of_z = sums[at + WIDTH];
    let z_in = bounded(CLIP_GATES, of_z);
    let z = activate(GATE, GATE_ALPHA, GATE_BETA, z_in);
    let of_n = sums[at + 2u * WIDTH];
    let n_in = bounded(CLIP_GATES, of_n);
    let n = activate(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, n_in);
    let n_slope = slope(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, n_in, n) * within(CLIP_GATES, of_n);
    sums[at + WIDTH] =
        d * (h_before - n) * slope(GATE, GATE_ALPHA, GATE_BETA, z_in, z) * within(CLIP_GATES, of_z);
    sums[at + 2u * WIDTH] = d * (1.0 - z) * n_slope;
    carry[of_h] = d_kept + d * z;
}
