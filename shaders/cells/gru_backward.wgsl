// The backward pass of a timestep of a GRU whose reset gate acts on the recurrent product. Reference:
// src/reference/gru_step_backward.rs, which names the formulas. `sums` is W x + b, `of_state` is U h + d; both become their
// gradients. `kept` is h before every step.

override CLIP_GATES: f32 = 0.0;      // bound of the pre-activations, 0 for none
override GATE: u32 = 3u;
override GATE_ALPHA: f32 = 0.0;
override GATE_BETA: f32 = 0.0;
override CANDIDATE: u32 = 2u;
override CANDIDATE_ALPHA: f32 = 0.0;
override CANDIDATE_BETA: f32 = 0.0;

@group(0) @binding(8) var<storage, read_write> of_state: array<f32>;  // [LANES, T', B, 3H]

// The step whose gradients the product reads.
fn source_step(step: u32) -> u32 {
    return step + 1u;
}

fn gradient_at(lane: u32, time: u32, row: u32, k: u32) -> f32 {
    if is_behind(lane, time) {
        return carry[behind_index(lane, row) + k];
    }
    return of_state[sums_index(lane, time, row) + k];
}

// A gate and its derivative by the pre-activation.
fn gate(sum: f32) -> vec2<f32> {
    let x = bounded(CLIP_GATES, sum);
    let y = activate(GATE, GATE_ALPHA, GATE_BETA, x);
    return vec2<f32>(y, slope(GATE, GATE_ALPHA, GATE_BETA, x, y) * within(CLIP_GATES, sum));
}

fn finish_backward(lane: u32, row: u32, step: u32, time: u32, unit: u32, sum: f32) {
    let at = sums_index(lane, time, row) + unit;
    let of_h = carry_index(0u, lane, row, unit);
    var d = sum + carried(of_h, step) + output_gradient(lane, row, step, time, unit);
    if is_masked(row, time) {
        carry[of_h] = d;
        for (var block = 0u; block < 3u; block++) {
            sums[at + block * WIDTH] = 0.0;
            of_state[at + block * WIDTH] = 0.0;
        }
        return;
    }
    let keeps = kept_of_h(lane, (time * params.batch + row) * WIDTH + unit);
    let d_kept = keeps * d;
    d *= 1.0 - keeps;
    let h_before = kept[row_index(lane, time, row) * WIDTH + unit];
    let r = gate(sums[at] + of_state[at]);
    let z = gate(sums[at + WIDTH] + of_state[at + WIDTH]);
    let q = of_state[at + 2u * WIDTH];
    let of_n = sums[at + 2u * WIDTH] + r.x * q;
    let n_in = bounded(CLIP_GATES, of_n);
    let n = activate(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, n_in);
    let n_slope = slope(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, n_in, n) * within(CLIP_GATES, of_n);
    let d_n = d * (1.0 - z.x) * n_slope;
    let d_z = d * (h_before - n) * z.y;
    let d_r = d_n * q * r.y;
    sums[at] = d_r;
    sums[at + WIDTH] = d_z;
    sums[at + 2u * WIDTH] = d_n;
    of_state[at] = d_r;
    of_state[at + WIDTH] = d_z;
    of_state[at + 2u * WIDTH] = d_n * r.x;
    carry[of_h] = d_kept + d * z.x;
}
