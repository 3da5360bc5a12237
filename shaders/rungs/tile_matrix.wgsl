// One dispatch per timestep, as tile.wgsl, on matrix units: h and U rounded to f16 for the
// product alone. The columns of a tile are units with their gates together, as U lies in memory.
// Reference: that of the cell, with factors rounded to f16.

fn bring_state(index: u32, lane: u32, row0: u32, step: u32, k0: u32) {
    for (var i = index; i < ROWS * SLICE; i += GROUP) {
        let row = row0 + i / SLICE;
        let k = k0 + i % SLICE;
        let inside = k < DEPTH && row < params.rows;
        let at = state_start(lane, select(0u, row, inside), step) + select(0u, k, inside);
        left[left_at(i / SLICE, i % SLICE)] = f16(select(0.0, state_at(at), inside));
    }
}

// Four k of a unit at a time. Units past the edge do as the last does, and are dropped.
fn bring_weights(index: u32, base: u32, unit0: u32, k0: u32) {
    let last = (DEPTH + 3u) / 4u - 1u;
    for (var i = index; i < SLICE / 4u * UNITS; i += GROUP) {
        let quad = k0 / 4u + i / UNITS;
        let unit = i % UNITS;
        let inside = select(0.0, 1.0, quad <= last);
        let weights = decoded(words_at(base, min(quad, last), min(unit0 + unit, WIDTH - 1u)));
        let k = i / UNITS * 4u;
        put_weights(right_at(k, unit * GATES), inside * weights[0]);
        put_weights(right_at(k + 1u, unit * GATES), inside * weights[1]);
        put_weights(right_at(k + 2u, unit * GATES), inside * weights[2]);
        put_weights(right_at(k + 3u, unit * GATES), inside * weights[3]);
    }
}

@compute @workgroup_size(GROUP)
fn recurrent_tile_matrix(
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let lane = place(group, groups).lane;
    let row0 = place(group, groups).row * ROWS;
    let step = params.first + repetition.number * params.stride;
    if row0 >= params.rows || step >= params.steps {
        return;
    }
    let unit0 = group.x * UNITS;
    let base = weights_of(lane);
    clear_sums();
    for (var k0 = 0u; k0 < DEPTH; k0 += SLICE) {
        bring_state(index, lane, row0, step, k0);
        bring_weights(index, base, unit0, k0);
        workgroupBarrier();
        add_product(subgroup);
        workgroupBarrier();
    }
    let time = time_of(lane, step);
    for (var block = 0u; block < BLOCKS; block++) {
        spread_sums(block, subgroup);
        workgroupBarrier();
        for (var i = index; i < SIDE * UNITS; i += GROUP) {
            let row = row0 + block * SIDE + i / UNITS;
            let unit = unit0 + i % UNITS;
            if unit < WIDTH && row < params.rows {
                finish(lane, row, step, time, unit, Gates(), take_sums(i * GATES));
            }
        }
        workgroupBarrier();
    }
}
