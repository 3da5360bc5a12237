// Matrix product of two arrays while training: c = a b, with a bias, or added to what c holds.
// Each array may lie transposed, so that one kernel takes every product of a backward pass: dX = dY W, dW = dY^T X,
// and sums = X W^T + bias.
//
// A workgroup of 8 x 8 invocations makes a tile of 32 x 32 numbers, 4 x 4 in each invocation, over a slice of K;
// slices of one tile go to different workgroups (z), and add_slices.wgsl adds them in order.

const TILE: u32 = 32u;
const DEPTH: u32 = 16u;
const QUADS: u32 = TILE / 4u;

var<workgroup> a_slice: array<vec4<f32>, DEPTH * QUADS>;  // [k][4 rows]
var<workgroup> b_slice: array<vec4<f32>, DEPTH * QUADS>;  // [k][4 columns]

@compute @workgroup_size(8, 8)
fn matmul(
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
    @builtin(workgroup_id) group: vec3<u32>,
) {
    let row0 = group.y * TILE;
    let column0 = group.x * TILE;
    let a_turned = (params.flags & A_TURNED) != 0u;
    let b_turned = (params.flags & B_TURNED) != 0u;
    let first = group.z * params.slice;
    let end = min(first + params.slice, params.k);
    var sums_0 = vec4<f32>();
    var sums_1 = vec4<f32>();
    var sums_2 = vec4<f32>();
    var sums_3 = vec4<f32>();
    for (var k0 = 0u; k0 < params.slice; k0 += DEPTH) {
        // The bound is the same for all invocations: FXC wants that where a barrier follows.
        for (var cell0 = 0u; cell0 < DEPTH * QUADS; cell0 += 64u) {
            let cell = cell0 + index;
            // Neighbouring invocations read neighbouring numbers.
            let a_k = select(cell % DEPTH, cell / QUADS, a_turned);
            let a_quad = select(cell / DEPTH, cell % QUADS, a_turned);
            let b_k = select(cell / QUADS, cell % DEPTH, b_turned);
            let b_quad = select(cell % QUADS, cell / DEPTH, b_turned);
            var rows = vec4<f32>();
            var columns = vec4<f32>();
            for (var lane = 0u; lane < 4u; lane++) {
                let row = row0 + a_quad * 4u + lane;
                let of_a = first + k0 + a_k;
                let in_a = row < params.m && of_a < end;
                let a_at = params.a_first
                    + select(row * params.a_stride + of_a, of_a * params.a_stride + row, a_turned);
                rows[lane] = select(0.0, a[select(0u, a_at, in_a)], in_a);
                let column = column0 + b_quad * 4u + lane;
                let of_b = first + k0 + b_k;
                let in_b = column < params.n && of_b < end;
                let b_at = params.b_first
                    + select(of_b * params.b_stride + column, column * params.b_stride + of_b, b_turned);
                columns[lane] = select(0.0, b[select(0u, b_at, in_b)], in_b);
            }
            a_slice[a_k * QUADS + a_quad] = rows;
            b_slice[b_k * QUADS + b_quad] = columns;
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let rows = a_slice[k * QUADS + local.y];
            let columns = b_slice[k * QUADS + local.x];
            sums_0 += rows.x * columns;
            sums_1 += rows.y * columns;
            sums_2 += rows.z * columns;
            sums_3 += rows.w * columns;
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < 16u; i++) {
        let sums = select(select(sums_0, sums_1, i >= 4u), select(sums_2, sums_3, i >= 12u), i >= 8u);
        put(group.z, row0 + local.y * 4u + i / 4u, column0 + local.x * 4u + i % 4u, sums[i % 4u]);
    }
}
