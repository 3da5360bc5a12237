// The backward pass of an LSTM's timestep. Reference: src/reference/lstm_step_backward.rs, which names the formulas.
// `kept` is c between the timesteps, [LANES, T' + 1, B, H]; the second part of `carry` is the gradient of c.

override PROJECTED: u32 = 0u;        // 1 where the product is that of the projection, over this step's gradient

@group(0) @binding(8) var<storage, read> d_state: array<f32>;  // [LANES, T', B, P] that of h, if PROJECTED

// The step whose gradients the product reads.
fn source_step(step: u32) -> u32 {
    return select(step + 1u, step, PROJECTED == 1u);
}

fn gradient_at(lane: u32, time: u32, row: u32, k: u32) -> f32 {
    if PROJECTED == 1u {
        return d_state[row_index(lane, time, row) * DEPTH + k];
    }
    if is_behind(lane, time) {
        return carry[behind_index(lane, row) + k];
    }
    return sums[sums_index(lane, time, row) + k];
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
    let of_c = carry_index(1u, lane, row, unit);
    var d = sum;
    if PROJECTED == 0u {
        d += carried(of_h, step) + output_gradient(lane, row, step, time, unit);
    }
    var dc = carried(of_c, step);
    if is_masked(row, time) {
        // The state stood still: both gradients go on as they are.
        if PROJECTED == 0u {
            carry[of_h] = d;
        }
        carry[of_c] = dc;
        for (var block = 0u; block < 4u; block++) {
            sums[at + block * WIDTH] = 0.0;
        }
        return;
    }
    // What units keep of the state goes to the step before as it is.
    let position = time * params.batch + row;
    let keeps_h = select(kept_of_h(lane, position * WIDTH + unit), 0.0, PROJECTED == 1u);
    let keeps_c = kept_of_c(lane, position * WIDTH + unit);
    let h_kept = keeps_h * d;
    let c_kept = keeps_c * dc;
    d *= 1.0 - keeps_h;
    dc *= 1.0 - keeps_c;
    // A reverse lane comes from behind the timestep.
    let of_before = select(time, time + 1u, is_reverse(lane));
    // Arrays of c have a timestep more for each lane.
    let before = kept[(row_index(lane, of_before, row) + lane * params.batch) * WIDTH + unit];
    let peep = vec3<f32>(peephole(lane, 0u, unit), peephole(lane, 1u, unit), peephole(lane, 2u, unit));
    let i = gate(sums[at] + peep.x * before);
    var f = vec2<f32>(1.0 - i.x, 0.0);
    if COUPLED == 0u {
        f = gate(sums[at + WIDTH] + peep.y * before);
    }
    let of_g = sums[at + 2u * WIDTH];
    let g_in = bounded(CLIP_GATES, of_g);
    let g = activate(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, g_in);
    let g_slope = slope(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, g_in, g) * within(CLIP_GATES, of_g);
    let unbounded = f.x * before + i.x * g;
    let c = bounded(CLIP_CELL, unbounded);
    let o = gate(sums[at + 3u * WIDTH] + peep.z * c);
    let shown = activate(OUTPUT, OUTPUT_ALPHA, OUTPUT_BETA, c);
    let d_o = d * shown * o.y;
    dc += d * o.x * slope(OUTPUT, OUTPUT_ALPHA, OUTPUT_BETA, c, shown) + peep.z * d_o;
    dc *= within(CLIP_CELL, unbounded);
    let d_i = dc * select(g, g - before, COUPLED == 1u) * i.y;
    let d_f = dc * before * f.y;
    sums[at] = d_i;
    sums[at + WIDTH] = d_f;
    sums[at + 2u * WIDTH] = dc * i.x * g_slope;
    sums[at + 3u * WIDTH] = d_o;
    if PROJECTED == 0u {
        carry[of_h] = h_kept;
    }
    carry[of_c] = c_kept + dc * f.x + peep.x * d_i + peep.y * d_f;
}
