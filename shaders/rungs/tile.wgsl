// One dispatch per timestep, as step.wgsl, for batches: a tiled matrix product with the cell as
// its epilogue. An invocation computes one unit of four rows, so that weights once read serve
// four rows, and those of a workgroup serve 4 * QUADS.

override QUADS: u32 = 4u;     // quads of rows in a workgroup

const SLICE: u32 = 64u;       // K of the state in workgroup memory at a time
override SLICE_QUADS: u32 = SLICE * QUADS;
override GROUP: u32 = UNITS * QUADS;

var<workgroup> slice: array<vec4<f32>, SLICE_QUADS>;  // [quad of rows][k], four rows each

// The number at `k` of four rows from `row`, 0 after the ends.
fn rows_at(below: bool, lane: u32, row: u32, step: u32, depth: u32, k: u32) -> vec4<f32> {
    var numbers = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        let inside = k < depth && row + i < params.rows;
        let at = select(0u, row + i, inside);
        var number = 0.0;
        if below {
            number = h[state_index(lane - 1u, at, step + 1u) + select(0u, k, inside)];
        } else {
            number = state_at(state_start(lane, at, step) + select(0u, k, inside));
        }
        numbers[i] = select(0.0, number, inside);
    }
    return numbers;
}

// The sums of one unit and four rows.
fn summed(below: bool, lane: u32, row0: u32, step: u32, depth: u32, base: u32, unit: u32, local: vec2<u32>)
    -> array<Gates, 4> {
    var sums_0 = Gates();
    var sums_1 = Gates();
    var sums_2 = Gates();
    var sums_3 = Gates();
    let index = local.y * UNITS + local.x;
    // Units past the edge do as the last does, and are dropped. Where there is one quad of rows
    // the compiler is told that all read the same states.
    let real = min(unit, WIDTH - 1u);
    let quad = select(local.y, 0u, QUADS == 1u);
    for (var k0 = 0u; k0 < depth; k0 += SLICE) {
        for (var i0 = 0u; i0 < SLICE_QUADS; i0 += GROUP) {
            let i = i0 + index;
            if i < SLICE_QUADS {
                slice[i] = rows_at(below, lane, row0 + 4u * (i / SLICE), step, depth, k0 + i % SLICE);
            }
        }
        workgroupBarrier();
        let quads = (min(SLICE, depth - k0) + 3u) / 4u;
        for (var i = 0u; i < quads; i++) {
            let weights = decoded(words_at(base, k0 / 4u + i, real));
            let at = quad * SLICE + 4u * i;
            let rows = transpose(mat4x4<f32>(slice[at], slice[at + 1u], slice[at + 2u], slice[at + 3u]));
            sums_0 = added(sums_0, rows[0], weights);
            sums_1 = added(sums_1, rows[1], weights);
            sums_2 = added(sums_2, rows[2], weights);
            sums_3 = added(sums_3, rows[3], weights);
        }
        workgroupBarrier();
    }
    return array<Gates, 4>(sums_0, sums_1, sums_2, sums_3);
}

@compute @workgroup_size(UNITS, QUADS)
fn recurrent_tile(
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let lane = place(group, groups).lane;
    let row0 = place(group, groups).row * 4u * QUADS;
    // A stacked lane is as many steps behind as levels lie below it.
    let step = params.first + repetition.number * params.stride - select(0u, lane, STACKED == 1u);
    if row0 >= params.rows || step >= params.steps {
        return;
    }
    let unit = group.x * UNITS + local.x;
    let base = weights_of(lane);
    var inputs = array<Gates, 4>();
    if has_below(lane) {
        // The level below wrote its h of this timestep in the dispatch before.
        inputs = summed(true, lane, row0, step, BELOW, base, unit, local.xy);
    }
    let of_u = base + select(0u, WEIGHTS_BELOW, has_below(lane));
    var sums = summed(false, lane, row0, step, DEPTH, of_u, unit, local.xy);
    let time = time_of(lane, step);
    for (var i = 0u; i < 4u; i++) {
        let row = row0 + 4u * local.y + i;
        if unit < WIDTH && row < params.rows {
            finish(lane, row, step, time, unit, inputs[i], sums[i]);
        }
    }
}
