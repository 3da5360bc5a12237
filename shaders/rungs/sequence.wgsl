// One dispatch for many timesteps: a workgroup runs one row of one lane through all of them, h in
// workgroup memory. One stream costs no launches, and thousands of streams fill a GPU.

override OWNS_UNIT: bool = UNITS >= WIDTH;

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
    take_c(cell_index(lane, row, min(local.x, WIDTH - 1u)));
    for (var step = first; step < end; step++) {
        let time = time_of(lane, step);
        let masked = is_masked(row, time);
        for (var unit0 = 0u; unit0 < WIDTH; unit0 += UNITS) {
            let unit = unit0 + local.x;
            // Asked for before the sum, which hides how long it takes.
            let x = projected_at(projected_index(lane, row, step, min(unit, WIDTH - 1u)));
            let sum = reduced(summed(base, unit, local.y), local.xy);
            if unit < WIDTH && local.y == 0u {
                let before = state_before(unit);
                var result = before;
                var handed_on = 0.0;
                if masked {
                    handed_on = masked_output(lane, row, time, before);
                } else {
                    result = updated(lane, row, unit, x, scaled(sum, vector(lane, SCALE_OF_SUM), unit), before);
                    handed_on = result;
                }
                put_state(unit, result);
                output[output_index(lane, row, time, unit)] = handed_on;
            }
            // Sums of the next units go to the same place.
            if SPLIT > 1u && unit0 + UNITS < WIDTH {
                workgroupBarrier();
            }
        }
        workgroupBarrier();
        turn_over();
    }
    if local.y == 0u && local.x < WIDTH {
        give_c(cell_index(lane, row, local.x));
    }
    keep_state(state_index(lane, row, end), index);
}
