// As scan.wgsl, for a GPU that too few units leave idle: SPLIT invocations share the timesteps of a unit. They compute f and
// b of SPLIT steps c' = f c + b at once; one of them takes c through these steps; then each computes the output of its
// step. Every number comes from the same operations in the same order as in scan.wgsl.

override SPLIT: u32 = 8u;            // invocations that share the timesteps of a unit
override SHARED: u32 = UNITS * SPLIT;

var<workgroup> coefficients: array<vec2<f32>, SHARED>;   // f and b of every step
var<workgroup> states: array<f32, SHARED>;               // c before it
var<workgroup> handed_by: array<f32, SHARED>;            // what it hands on, unless it is masked
var<workgroup> last_state: array<f32, UNITS>;            // c behind the steps

// What the last of `count` steps from `base` on that counts hands on; `earlier` if none of them counts.
fn handed_before(lane: u32, row: u32, column: u32, base: u32, count: u32, earlier: f32) -> f32 {
    for (var ahead = count; ahead > 0u; ahead--) {
        if !is_masked(row, time_of(lane, base + ahead - 1u)) {
            return handed_by[(ahead - 1u) * UNITS + column];
        }
    }
    return earlier;
}

@compute @workgroup_size(UNITS, SPLIT)
fn recurrent_scan_shared(
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let lane = place(group, groups).lane;
    let row = place(group, groups).row;
    if row >= params.rows {
        return;
    }
    let inside = group.x * UNITS + local.x < WIDTH;
    // Behind the last unit the last one is computed again.
    let unit = min(group.x * UNITS + local.x, WIDTH - 1u);
    let index = local.y * UNITS + local.x;
    let first = params.first + repetition.number * params.stride;
    let end = min(first + params.stride, params.end);
    var handed = h[state_index(lane, row, first) + unit];
    var state = handed;
    if KEEPS_C {
        state = cell[cell_index(lane, row, unit)];
    }
    for (var base = first; base < end; base += SPLIT) {
        let count = min(SPLIT, end - base);
        let step = min(base + local.y, end - 1u);
        let time = time_of(lane, step);
        let masked = is_masked(row, time);
        let x = projected_at(projected_index(lane, row, step, unit));
        let own = terms(lane, unit, x, 0.0);
        coefficients[index] = own;
        workgroupBarrier();
        if local.y == 0u {
            for (var ahead = 0u; ahead < count; ahead++) {
                let at = ahead * UNITS + local.x;
                states[at] = state;
                if !is_masked(row, time_of(lane, base + ahead)) {
                    state = fma(coefficients[at].x, state, coefficients[at].y);
                }
            }
            last_state[local.x] = state;
        }
        workgroupBarrier();
        state = last_state[local.x];
        if local.y < count {
            let before = states[index];
            handed_by[index] = handed_on(lane, unit, x, before, fma(own.x, before, own.y));
        }
        workgroupBarrier();
        if inside && local.y < count {
            var result = handed_by[index];
            if masked {
                result = masked_output(lane, row, time, handed_before(lane, row, local.x, base, local.y, handed));
            }
            // Where one step alone is handed on, the others must not come behind it.
            if !last_only(lane) || step + 1u == end {
                output[output_index(lane, row, time, unit)] = result;
            }
        }
        handed = handed_before(lane, row, local.x, base, count, handed);
    }
    if inside && local.y == 0u {
        h[state_index(lane, row, end) + unit] = handed;
        if KEEPS_C {
            cell[cell_index(lane, row, unit)] = state;
        }
    }
}
