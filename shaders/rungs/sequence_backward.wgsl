// One dispatch for many timesteps of a backward pass: a workgroup takes 4 * ROW_QUADS rows of one lane through them, the gradients
// of their gates in workgroup memory.

@group(0) @binding(7) var<storage, read> settings: array<u32>;

override SLICE_QUADS: u32 = DEPTH * ROW_QUADS;
override ROOM: u32 = SLICE_QUADS + PARTIALS;

var<workgroup> slice: array<vec4<f32>, ROOM>;   // [k][quad of rows] of the step behind, four rows each

@compute @workgroup_size(UNITS, SPLIT)
fn recurrent_sequence_backward(@builtin(local_invocation_id) local: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
    let lane = group.z;
    let row0 = group.y * 4u * ROW_QUADS;
    let index = local.y * UNITS + local.x;
    // Where one invocation has the whole sum the compiler is told that all read the same rows.
    let part = select(local.y, 0u, SPLIT == 1u);
    let first = params.first + repetition.number * params.stride;
    let end = min(first + params.stride, params.end);
    let at = time_of(lane, params.steps - max(first, 1u));
    for (var i0 = 0u; i0 < SLICE_QUADS; i0 += GROUP) {
        let i = i0 + index;
        if i < SLICE_QUADS {
            // Nothing comes from behind the last step.
            let behind = gradients_at(lane, at, row0 + i % ROW_QUADS * 4u, i / ROW_QUADS);
            slice[i] = select(behind, vec4<f32>(), first == 0u);
        }
    }
    workgroupBarrier();
    for (var number = first; number < end; number++) {
        let step = params.steps - 1u - number;
        let time = time_of(lane, step);
        for (var unit0 = 0u; unit0 < WIDTH; unit0 += UNITS) {
            let unit = unit0 + local.x;
            let base = WEIGHTS_FIRST + lane * WEIGHTS_LANE + min(unit, WIDTH - 1u);
            let sums = together(products(mat4x4<f32>(), base, DEPTH, part), local.xy);
            if local.y == 0u && unit < WIDTH {
                for (var i = 0u; i < 4u * ROW_QUADS; i++) {
                    if row0 + i < params.rows {
                        finish_backward(lane, row0 + i, step, time, unit, sums[i / 4u][i % 4u]);
                    }
                }
            }
            // Sums of the next units go to the same place.
            if SPLIT > 1u && unit0 + UNITS < WIDTH {
                workgroupBarrier();
            }
        }
        workgroupBarrier();
        // An invocation hands on the gradients that it wrote itself.
        for (var unit = local.x; unit < WIDTH && local.y == 0u; unit += UNITS) {
            for (var k = unit; k < DEPTH; k += WIDTH) {
                for (var quad = 0u; quad < ROW_QUADS; quad++) {
                    slice[k * ROW_QUADS + quad] = gradients_at(lane, time, row0 + 4u * quad, k);
                }
            }
        }
        workgroupBarrier();
    }
}
