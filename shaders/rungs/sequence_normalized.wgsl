// One dispatch for many timesteps of a layer-normalized cell: a workgroup runs one row of one lane through all of them, h
// in workgroup memory. All sums of a step are taken before the first of them is normalized.

var<workgroup> gathered: array<Gates, WIDTH>;          // the sums over h(t-1)

fn sum_at(lane: u32, row: u32, unit: u32) -> Gates {
    return gathered[unit];
}

fn h_before(lane: u32, row: u32, step: u32, unit: u32) -> f32 {
    return state_before(unit);
}

fn put_h(lane: u32, row: u32, step: u32, unit: u32, number: f32) {
    put_state(unit, number);
}

@compute @workgroup_size(UNITS, SPLIT)
fn recurrent_sequence(
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let lane = place(group, groups).lane;
    let row = place(group, groups).row;
    if row >= params.rows {
        return;
    }
    let index = local.y * UNITS + local.x;
    let first = params.first + repetition.number * params.stride;
    let end = min(first + params.stride, params.end);
    let base = weights_of(lane);
    hold(base, local.x, local.y);
    bring_state(state_index(lane, row, first), index);
    workgroupBarrier();
    for (var step = first; step < end; step++) {
        for (var unit0 = 0u; unit0 < WIDTH; unit0 += UNITS) {
            let unit = unit0 + local.x;
            let sum = reduced(summed(base, unit, local.y), local.xy);
            if unit < WIDTH && local.y == 0u {
                gathered[unit] = scaled(sum, vector(lane, SCALE_OF_SUM), unit);
            }
            // Sums of the next units go to the same place.
            if SPLIT > 1u && unit0 + UNITS < WIDTH {
                workgroupBarrier();
            }
        }
        workgroupBarrier();
        finish_row(lane, row, step, index);
        workgroupBarrier();
        turn_over();
    }
    keep_state(state_index(lane, row, end), index);
}
