// One dispatch per timestep of a backward pass: the product of the gradients of the step behind it with U, then the cell's
// own part. A workgroup takes UNITS units of 4 * ROW_QUADS rows; SPLIT invocations share the sums of a unit.

@group(0) @binding(7) var<storage, read> settings: array<u32>;

override ROW_QUADS: u32 = 1u;  // quads of rows of an invocation, up to 4
override PRODUCTS: u32 = 1u;   // gates whose products are dropped apart, 1 where nothing is dropped

const SLICE: u32 = 128u;       // K of the gradients in workgroup memory at a time
override SLICE_QUADS: u32 = SLICE * ROW_QUADS;
override GROUP: u32 = UNITS * SPLIT;
override PARTIALS: u32 = GROUP * ROW_QUADS;

var<workgroup> slice: array<vec4<f32>, SLICE_QUADS>;   // [k][quad of rows], four rows each
var<workgroup> partial: array<vec4<f32>, PARTIALS>;

@compute @workgroup_size(UNITS, SPLIT)
fn recurrent_step_backward(@builtin(local_invocation_id) local: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
    let lane = group.z;
    let row0 = group.y * 4u * ROW_QUADS;
    let step = params.steps - 1u - (params.first + repetition.number);
    let time = time_of(lane, step);
    let unit = group.x * UNITS + local.x;
    let index = local.y * UNITS + local.x;
    // Where one invocation has the whole sum the compiler is told that all read the same rows.
    let part = select(local.y, 0u, SPLIT == 1u);
    let base = WEIGHTS_FIRST + lane * WEIGHTS_LANE + min(unit, WIDTH - 1u);
    let source = source_step(step);
    // Nothing comes from behind the last step.
    let depth = select(DEPTH, 0u, source >= params.steps) / PRODUCTS;
    let at = time_of(lane, min(source, params.steps - 1u));
    var sums = mat4x4<f32>();
    for (var product = 0u; product < PRODUCTS; product++) {
        let of_product = product * depth;
        var found = mat4x4<f32>();
        for (var first = 0u; first < depth; first += SLICE) {
            let count = min(SLICE, depth - first);
            for (var i0 = 0u; i0 < count * ROW_QUADS; i0 += GROUP) {
                let i = i0 + index;
                if i < count * ROW_QUADS {
                    var rows = vec4<f32>();
                    for (var lane_row = 0u; lane_row < 4u; lane_row++) {
                        let row = min(row0 + i % ROW_QUADS * 4u + lane_row, params.rows - 1u);
                        rows[lane_row] = gradient_at(lane, at, row, FROM + of_product + first + i / ROW_QUADS);
                    }
                    slice[i] = rows;
                }
            }
            workgroupBarrier();
            for (var i0 = 0u; i0 < count; i0 += SPLIT) {
                let i = i0 + part;
                let inside = i < count;
                let k = min(i, count - 1u);
                let weight = select(0.0, parameters[base + (of_product + first + k) * WIDTH], inside);
                found[0] += weight * slice[k * ROW_QUADS];
                if ROW_QUADS > 1u {
                    found[1] += weight * slice[k * ROW_QUADS + 1u];
                }
                if ROW_QUADS > 2u {
                    found[2] += weight * slice[k * ROW_QUADS + 2u];
                }
                if ROW_QUADS > 3u {
                    found[3] += weight * slice[k * ROW_QUADS + 3u];
                }
            }
            workgroupBarrier();
        }
        if DROP_GATES > 0u {
            for (var i = 0u; i < 4u * ROW_QUADS; i++) {
                found[i / 4u][i % 4u] *= state_factor(lane, row0 + i, product, min(unit, WIDTH - 1u));
            }
        }
        sums += found;
    }
    if SPLIT > 1u {
        for (var quad = 0u; quad < ROW_QUADS; quad++) {
            partial[quad * GROUP + index] = sums[quad];
        }
        workgroupBarrier();
        for (var quad = 0u; quad < ROW_QUADS; quad++) {
            for (var other = 1u; other < SPLIT; other++) {
                sums[quad] += partial[quad * GROUP + other * UNITS + local.x];
            }
        }
    }
    if local.y == 0u && unit < WIDTH {
        for (var i = 0u; i < 4u * ROW_QUADS; i++) {
            if row0 + i < params.rows {
                finish_backward(lane, row0 + i, step, time, unit, sums[i / 4u][i % 4u]);
            }
        }
    }
}
