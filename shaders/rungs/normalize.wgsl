// The rest of a timestep of a layer-normalized cell, whose sums another kernel has left in `cell`: a workgroup takes one row
// of one lane.

fn sum_at(lane: u32, row: u32, unit: u32) -> Gates {
    return kept_sum(lane, row, unit);
}

fn h_before(lane: u32, row: u32, step: u32, unit: u32) -> f32 {
    return h[state_index(lane, row, step) + unit];
}

fn put_h(lane: u32, row: u32, step: u32, unit: u32, number: f32) {
    h[state_index(lane, row, step + 1u) + unit] = number;
}

@compute @workgroup_size(UNITS, SPLIT)
fn recurrent_normalize(
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let lane = place(group, groups).lane;
    let row = place(group, groups).row;
    let step = params.first + repetition.number * params.stride;
    if row >= params.rows || step >= params.steps {
        return;
    }
    finish_row(lane, row, step, local.y * UNITS + local.x);
}
