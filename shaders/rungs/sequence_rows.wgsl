// As sequence.wgsl with four rows in a workgroup, so that weights once read serve four streams.

override STATE_QUADS: u32 = (STATE + 3u) / 4u;
override STATE_ROOM: u32 = 4u * ((STATE + 3u) / 4u);
override STATES: u32 = 8u * ((STATE + 3u) / 4u);
override TURNS: u32 = (STATE_QUADS + SPLIT - 1u) / SPLIT;

var<workgroup> states: array<vec4<f32>, STATES>;   // [2, K] of four rows: h before and after the step

alias Sums = array<Gates, 4>;

// The sums of four rows after one turn. Past an edge the last does it again and is dropped. No branch: all read the same states.
fn after_turn(sums: Sums, first: u32, turn: u32, y: u32, weights: array<Product, 4>) -> Sums {
    let i = turn * SPLIT + part_of(y);
    let at = first + 4u * min(i, STATE_QUADS - 1u);
    let rows = transpose(mat4x4<f32>(states[at], states[at + 1u], states[at + 2u], states[at + 3u]));
    let dead = vec4<bool>(STATE_QUADS % SPLIT != 0u && i >= STATE_QUADS);
    return Sums(
        added(sums[0], select(rows[0], vec4<f32>(), dead), weights),
        added(sums[1], select(rows[1], vec4<f32>(), dead), weights),
        added(sums[2], select(rows[2], vec4<f32>(), dead), weights),
        added(sums[3], select(rows[3], vec4<f32>(), dead), weights),
    );
}

@compute @workgroup_size(UNITS, SPLIT)
fn recurrent_sequence_rows(
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let lane = place(group, groups).lane;
    let row0 = place(group, groups).row * 4u;
    if row0 >= params.rows {
        return;
    }
    let index = local.y * UNITS + local.x;
    let first = params.first + repetition.number * params.stride;
    let end = min(first + params.stride, params.end);
    let base = weights_of(lane);
    hold(base, local.x, local.y);
    for (var k0 = 0u; k0 < STATE_ROOM; k0 += PARTIALS) {
        let k = k0 + index;
        if k < STATE_ROOM {
            var numbers = vec4<f32>();
            for (var i = 0u; i < 4u; i++) {
                let inside = k < STATE && row0 + i < params.rows;
                let at = state_index(lane, select(row0, row0 + i, inside), first) + select(0u, k, inside);
                numbers[i] = select(0.0, h[at], inside);
            }
            states[k] = numbers;
            states[STATE_ROOM + k] = vec4<f32>();
        }
    }
    workgroupBarrier();
    var before = 0u;
    for (var step = first; step < end; step++) {
        let time = time_of(lane, step);
        for (var unit0 = 0u; unit0 < WIDTH; unit0 += UNITS) {
            let unit = unit0 + local.x;
            var sums = after_turns(Sums(), before, base, min(unit, WIDTH - 1u), local.y);
            if SPLIT > 1u {
                for (var i = 0u; i < 4u; i++) {
                    sums[i] = reduced(sums[i], local.xy);
                    workgroupBarrier();
                }
            }
            if unit < WIDTH && local.y == 0u {
                let states_before = states[before + unit];
                var results = states_before;
                for (var i = 0u; i < 4u; i++) {
                    let row = row0 + i;
                    if row < params.rows {
                        var handed_on = 0.0;
                        if is_masked(row, time) {
                            handed_on = masked_output(lane, row, time, states_before[i]);
                        } else {
                            let x = projected_at(projected_index(lane, row, step, unit));
                            let sum = scaled(sums[i], vector(lane, SCALE_OF_SUM), unit);
                            results[i] = updated(lane, row, unit, x, sum, states_before[i]);
                            handed_on = results[i];
                        }
                        output[output_index(lane, row, time, unit)] = handed_on;
                    }
                }
                states[STATE_ROOM - before + unit] = results;
            }
        }
        before = STATE_ROOM - before;
        workgroupBarrier();
    }
    for (var k0 = 0u; k0 < STATE; k0 += PARTIALS) {
        let k = k0 + index;
        if k < STATE {
            let numbers = states[before + k];
            for (var i = 0u; i < 4u; i++) {
                if row0 + i < params.rows {
                    h[state_index(lane, row0 + i, end) + k] = numbers[i];
                }
            }
        }
    }
}
