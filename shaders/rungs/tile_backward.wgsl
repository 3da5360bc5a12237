// One dispatch per timestep of a backward pass, as step_backward.wgsl, for large batches: an invocation takes 4 units of 4 rows,
// so that what it reads serves 16 sums. The gradients of a workgroup's rows lie in its memory; SPLIT invocations share the sums.

@group(0) @binding(7) var<storage, read> settings: array<u32>;

override TILE_QUADS: u32 = 4u; // quads of rows in a workgroup
override PRODUCTS: u32 = 1u;   // gates whose products are dropped apart, 1 where nothing is dropped

const SLICE: u32 = 64u;        // K of the gradients in workgroup memory at a time
override SLICE_QUADS: u32 = SLICE * TILE_QUADS;
override TILE: u32 = UNITS * TILE_QUADS;
override GROUP: u32 = UNITS * TILE_QUADS * SPLIT;

var<workgroup> slice: array<vec4<f32>, SLICE_QUADS>;   // [k][quad of rows], four rows each
var<workgroup> partial: array<vec4<f32>, GROUP>;

@compute @workgroup_size(UNITS, TILE_QUADS, SPLIT)
fn recurrent_tile_backward(@builtin(local_invocation_id) local: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
    let lane = group.z;
    let row0 = group.y * 4u * TILE_QUADS;
    let step = params.steps - 1u - (params.first + repetition.number);
    let time = time_of(lane, step);
    let unit0 = 4u * (group.x * UNITS + local.x);
    // Units past the edge do as the last does, and are dropped.
    let units = min(unit0 + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(WIDTH - 1u));
    let in_tile = local.y * UNITS + local.x;
    let index = local.z * TILE + in_tile;
    // Where there is one of them the compiler is told that all read the same rows.
    let quad = select(local.y, 0u, TILE_QUADS == 1u);
    let part = select(local.z, 0u, SPLIT == 1u);
    let base = WEIGHTS_FIRST + lane * WEIGHTS_LANE;
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
            for (var i0 = 0u; i0 < SLICE_QUADS; i0 += GROUP) {
                let i = i0 + index;
                if i < SLICE_QUADS {
                    let k = min(i / TILE_QUADS, count - 1u);
                    let rows = gradients_at(lane, at, row0 + i % TILE_QUADS * 4u, of_product + first + k);
                    slice[i] = select(rows, vec4<f32>(), i / TILE_QUADS >= count);
                }
            }
            workgroupBarrier();
            for (var i0 = 0u; i0 < count; i0 += SPLIT) {
                // Past the end the gradients are 0.
                let k = i0 + part;
                let weights = base + (of_product + first + min(k, count - 1u)) * WIDTH;
                let rows = slice[k * TILE_QUADS + quad];
                found[0] += parameters[weights + units.x] * rows;
                found[1] += parameters[weights + units.y] * rows;
                found[2] += parameters[weights + units.z] * rows;
                found[3] += parameters[weights + units.w] * rows;
            }
            workgroupBarrier();
        }
        if DROP_GATES > 0u {
            for (var i = 0u; i < 16u; i++) {
                found[i / 4u][i % 4u] *= state_factor(lane, row0 + 4u * quad + i % 4u, product, units[i / 4u]);
            }
        }
        sums += found;
    }
    if SPLIT > 1u {
        for (var i = 0u; i < 4u; i++) {
            partial[index] = sums[i];
            workgroupBarrier();
            for (var other = 1u; other < SPLIT; other++) {
                sums[i] += partial[other * TILE + in_tile];
            }
            workgroupBarrier();
        }
    }
    for (var i = 0u; i < 16u; i++) {
        let unit = unit0 + i / 4u;
        let row = row0 + 4u * quad + i % 4u;
        if local.z == 0u && unit < WIDTH && row < params.rows {
            finish_backward(lane, row, step, time, unit, sums[i / 4u][i % 4u]);
        }
    }
}
