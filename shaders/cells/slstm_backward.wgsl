// The backward pass of an sLSTM's timestep. Reference: src/reference/slstm_step_backward.rs, which names the formulas.
// `kept` is c, n and m before the timesteps, [LANES, T, B, 3, H]; the parts of `carry` are the gradients of h, c, n and m.

fn finish_backward(lane: u32, row: u32, step: u32, time: u32, unit: u32, sum: f32) {
    let at = sums_index(lane, time, row) + unit;
    let of_h = carry_index(0u, lane, row, unit);
    let of_c = carry_index(1u, lane, row, unit);
    let of_n = carry_index(2u, lane, row, unit);
    let of_m = carry_index(3u, lane, row, unit);
    let d = sum + carried(of_h, step) + output_gradient(lane, row, step, time, unit);
    var dc = carried(of_c, step);
    var dn = carried(of_n, step);
    var dm = carried(of_m, step);
    if is_masked(row, time) {
        // The state stood still: the gradients go on as they are.
        carry[of_h] = d;
        carry[of_c] = dc;
        carry[of_n] = dn;
        carry[of_m] = dm;
        for (var block = 0u; block < 4u; block++) {
            sums[at + block * WIDTH] = 0.0;
        }
        return;
    }
    let from_kept = 3u * WIDTH * row_index(lane, time, row) + unit;
    let before = vec3<f32>(kept[from_kept], kept[from_kept + WIDTH], kept[from_kept + 2u * WIDTH]);
    let gates = vec4<f32>(sums[at], sums[at + WIDTH], sums[at + 2u * WIDTH], sums[at + 3u * WIDTH]);
    let found = slstm_gates(gates, before);
    let after = slstm_state(found, before);
    // Where m is that of the input gate, and where f would be above 1.
    let opens = found.w == gates.x;
    let bounded = before.y == 0.0 && found.y == 1.0;
    let o = sigmoid(gates.w);
    let n = after.y;
    let shown = after.x / n;
    dc += d * o / n;
    dn -= d * o * shown / n;
    let dz = dc * found.x * slope(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, gates.z, found.z);
    var di = (dc * found.z + dn) * found.x;
    var da = select((dc * before.x + dn * before.y) * found.y, 0.0, bounded);
    dm -= di + da;
    di += select(0.0, dm, opens);
    da += select(dm, 0.0, opens);
    sums[at] = di;
    sums[at + WIDTH] = da * select(sigmoid(-gates.y), 1.0, EXPONENTIAL == 1u);
    sums[at + 2u * WIDTH] = dz;
    sums[at + 3u * WIDTH] = d * shown * o * (1.0 - o);
    carry[of_h] = 0.0;
    carry[of_c] = dc * found.y;
    carry[of_n] = dn * found.y;
    carry[of_m] = da;
}
