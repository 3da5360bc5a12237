// One dispatch per timestep of a backward pass: the product of the gradients of the step behind it with U, then the cell's
// own part. A workgroup takes UNITS units of four rows; SPLIT invocations share the sum of a unit.

const SLICE: u32 = 256u;  // K of the gradients in workgroup memory at a time
override GROUP: u32 = UNITS * SPLIT;

var<workgroup> slice: array<vec4<f32>, SLICE>;      // [k], four rows each
var<workgroup> partial: array<vec4<f32>, GROUP>;

@compute @workgroup_size(UNITS, SPLIT)
fn recurrent_step_backward(@builtin(local_invocation_id) local: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
    let lane = group.z;
    let row0 = group.y * 4u;
    let step = params.steps - 1u - (params.first + repetition.number);
    let time = time_of(lane, step);
    let unit = group.x * UNITS + local.x;
    let real = min(unit, WIDTH - 1u);
    let index = local.y * UNITS + local.x;
    let base = WEIGHTS_FIRST + lane * WEIGHTS_LANE + real;
    let source = source_step(step);
    // Nothing comes from behind the last step.
    let depth = select(DEPTH, 0u, source >= params.steps);
    let at = time_of(lane, min(source, params.steps - 1u));
    var sum = vec4<f32>();
    for (var first = 0u; first < depth; first += SLICE) {
        let count = min(SLICE, depth - first);
        for (var i0 = 0u; i0 < count; i0 += GROUP) {
            let i = i0 + index;
            if i < count {
                var rows = vec4<f32>();
                for (var lane_row = 0u; lane_row < 4u; lane_row++) {
                    let row = min(row0 + lane_row, params.rows - 1u);
                    rows[lane_row] = gradient_at(lane, at, row, FROM + first + i);
                }
                slice[i] = rows;
            }
        }
        workgroupBarrier();
        for (var i0 = 0u; i0 < count; i0 += SPLIT) {
            let i = i0 + local.y;
            let last = count - 1u;
            let rows = select(slice[min(i, last)], vec4<f32>(), vec4<bool>(i > last));
            sum += parameters[base + (first + min(i, last)) * WIDTH] * rows;
        }
        workgroupBarrier();
    }
    partial[index] = sum;
    workgroupBarrier();
    if local.y == 0u && unit < WIDTH {
        for (var other = 1u; other < SPLIT; other++) {
            sum += partial[other * UNITS + local.x];
        }
        for (var i = 0u; i < 4u; i++) {
            if row0 + i < params.rows {
                finish_backward(lane, row0 + i, step, time, unit, sum[i]);
            }
        }
    }
}
