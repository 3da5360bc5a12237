// One dispatch for many timesteps of a cell whose units do not depend on each other: an invocation runs one unit of one row
// through all of them, with the state in a register.

@compute @workgroup_size(UNITS)
fn recurrent_scan(
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let lane = place(group, groups).lane;
    let row = place(group, groups).row;
    let unit = group.x * UNITS + local.x;
    if row >= params.rows || unit >= WIDTH {
        return;
    }
    let first = params.first + repetition.number * params.stride;
    let end = min(first + params.stride, params.end);
    var handed = h[state_index(lane, row, first) + unit];
    var before = handed;
    if KEEPS_C {
        before = cell[cell_index(lane, row, unit)];
    }
    for (var step = first; step < end; step++) {
        let time = time_of(lane, step);
        var result = 0.0;
        if is_masked(row, time) {
            result = masked_output(lane, row, time, handed);
        } else {
            let x = projected_at(projected_index(lane, row, step, unit));
            let after = advanced(lane, unit, x, before);
            handed = handed_on(lane, unit, x, before, after);
            before = after;
            result = handed;
        }
        output[output_index(lane, row, time, unit)] = result;
    }
    h[state_index(lane, row, end) + unit] = handed;
    if KEEPS_C {
        cell[cell_index(lane, row, unit)] = before;
    }
}
