// One dispatch per timestep of a backward pass: the product of the gradients of the step behind it with U, then the cell's
// own part. A workgroup takes UNITS units of 4 * ROW_QUADS rows.

@group(0) @binding(7) var<storage, read> settings: array<u32>;

override PRODUCTS: u32 = 1u;   // gates whose products are dropped apart, 1 where nothing is dropped

const SLICE: u32 = 128u;       // K of the gradients in workgroup memory at a time
override SLICE_QUADS: u32 = SLICE * ROW_QUADS;
override ROOM: u32 = SLICE_QUADS + PARTIALS;

var<workgroup> slice: array<vec4<f32>, ROOM>;   // [k][quad of rows], four rows each

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
                    let k = of_product + first + i / ROW_QUADS;
                    slice[i] = gradients_at(lane, at, row0 + i % ROW_QUADS * 4u, k);
                }
            }
            workgroupBarrier();
            found = products(found, base + (of_product + first) * WIDTH, count, part);
            workgroupBarrier();
        }
        if DROP_GATES > 0u {
            for (var i = 0u; i < 4u * ROW_QUADS; i++) {
                found[i / 4u][i % 4u] *= state_factor(lane, row0 + i, product, min(unit, WIDTH - 1u));
            }
        }
        sums += found;
    }
    sums = together(sums, local.xy);
    if local.y == 0u && unit < WIDTH {
        for (var i = 0u; i < 4u * ROW_QUADS; i++) {
            if row0 + i < params.rows {
                finish_backward(lane, row0 + i, step, time, unit, sums[i / 4u][i % 4u]);
            }
        }
    }
}
