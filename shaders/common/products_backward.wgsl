// The products of a backward pass: sums of an invocation's unit and of 4 * ROW_QUADS rows, over gradients that `slice` holds.
// SPLIT invocations share the sums of a unit.

override ROW_QUADS: u32 = 1u;  // quads of rows of an invocation, up to 4
override GROUP: u32 = UNITS * SPLIT;
override SHARED: u32 = 2u * (SPLIT - 1u) / SPLIT;   // 1 where invocations share a sum, else 0
override PARTIALS: u32 = GROUP * ROW_QUADS * SHARED;   // behind the gradients in `slice`

// Adds the products of the gradients `k` with a weight.
fn add_weighted(sums: mat4x4<f32>, weight: f32, k: u32) -> mat4x4<f32> {
    var result = sums;
    let at = k * ROW_QUADS;
    result[0] += weight * slice[at];
    if ROW_QUADS > 1u {
        result[1] += weight * slice[at + 1u];
    }
    if ROW_QUADS > 2u {
        result[2] += weight * slice[at + 2u];
    }
    if ROW_QUADS > 3u {
        result[3] += weight * slice[at + 3u];
    }
    return result;
}

// The sums over `count` gradients, of which an invocation takes every SPLIT-th from `part` on; `base` is where the weights of
// its unit begin.
fn products(before: mat4x4<f32>, base: u32, count: u32, part: u32) -> mat4x4<f32> {
    var sums = before;
    let last = count - 1u;
    for (var i0 = 0u; i0 < count; i0 += 4u * SPLIT) {
        // Past the end the last is taken again, with a weight of 0. No branch: all read the same gradients.
        let i = i0 + part + vec4<u32>(0u, SPLIT, 2u * SPLIT, 3u * SPLIT);
        let k = min(i, vec4<u32>(last));
        let weights = vec4<f32>(
            parameters[base + k.x * WIDTH],
            parameters[base + k.y * WIDTH],
            parameters[base + k.z * WIDTH],
            parameters[base + k.w * WIDTH],
        );
        let inside = select(weights, vec4<f32>(), i > vec4<u32>(last));
        sums = add_weighted(sums, inside.x, k.x);
        sums = add_weighted(sums, inside.y, k.y);
        sums = add_weighted(sums, inside.z, k.z);
        sums = add_weighted(sums, inside.w, k.w);
    }
    return sums;
}

// The sums of all invocations that share a unit, whole where y = 0. A barrier must follow before the next.
fn together(sums: mat4x4<f32>, local: vec2<u32>) -> mat4x4<f32> {
    var result = sums;
    if SPLIT > 1u {
        let index = local.y * UNITS + local.x;
        for (var quad = 0u; quad < ROW_QUADS; quad++) {
            slice[SLICE_QUADS + quad * GROUP + index] = sums[quad];
        }
        workgroupBarrier();
        for (var quad = 0u; quad < ROW_QUADS; quad++) {
            for (var other = 1u; other < SPLIT; other++) {
                result[quad] += slice[SLICE_QUADS + quad * GROUP + other * UNITS + local.x];
            }
        }
    }
    return result;
}
