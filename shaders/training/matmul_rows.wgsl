// As matmul.wgsl, but an invocation computes 16 rows of 4 columns: all invocations of a workgroup need the same numbers of a
// at the same time, and a number of b is read once for 16 rows. Software adapters, which read anything but the same
// address lane by lane, run it several times as fast.

override GROUP: u32 = 64u;  // invocations, of 4 columns each

const ROWS: u32 = 16u;
const QUADS: u32 = ROWS / 4u;
const DEPTH: u32 = 64u;

var<workgroup> a_slice: array<vec4<f32>, DEPTH * QUADS>;  // [k][4 rows]

@compute @workgroup_size(GROUP)
fn matmul(@builtin(local_invocation_index) index: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let a_turned = (params.flags & A_TURNED) != 0u;
    let b_turned = (params.flags & B_TURNED) != 0u;
    let row0 = group.y * ROWS;
    let column0 = 4u * (group.x * GROUP + index);
    let first = group.z * params.slice;
    let end = min(first + params.slice, params.k);
    // Columns past the edge are read as the last and never written.
    let columns = min(vec4<u32>(column0, column0 + 1u, column0 + 2u, column0 + 3u), vec4<u32>(params.n - 1u));
    let starts = params.b_first + columns * select(1u, params.b_stride, b_turned);
    let b_step = select(params.b_stride, 1u, b_turned);
    let a_step = select(1u, params.a_stride, a_turned);
    let a_row = select(params.a_stride, 1u, a_turned);
    var sums_0 = mat4x4<f32>();
    var sums_1 = mat4x4<f32>();
    var sums_2 = mat4x4<f32>();
    var sums_3 = mat4x4<f32>();
    for (var k0 = 0u; k0 < params.slice; k0 += DEPTH) {
        for (var cell0 = 0u; cell0 < DEPTH * QUADS; cell0 += GROUP) {
            let cell = cell0 + index;
            let k = first + k0 + cell % DEPTH;
            var quad = vec4<f32>();
            for (var lane = 0u; lane < 4u; lane++) {
                let row = row0 + cell / DEPTH * 4u + lane;
                let inside = row < params.m && k < end;
                quad[lane] = select(0.0, a[select(0u, params.a_first + row * a_row + k * a_step, inside)], inside);
            }
            a_slice[cell % DEPTH * QUADS + cell / DEPTH] = quad;
        }
        workgroupBarrier();
        let depth = min(DEPTH, max(end, first + k0) - (first + k0));
        for (var k = 0u; k < depth; k++) {
            let at = starts + (first + k0 + k) * b_step;
            let weights = vec4<f32>(b[at.x], b[at.y], b[at.z], b[at.w]);
            let rows_0 = a_slice[k * QUADS];
            let rows_1 = a_slice[k * QUADS + 1u];
            let rows_2 = a_slice[k * QUADS + 2u];
            let rows_3 = a_slice[k * QUADS + 3u];
            sums_0 += mat4x4(rows_0.x * weights, rows_0.y * weights, rows_0.z * weights, rows_0.w * weights);
            sums_1 += mat4x4(rows_1.x * weights, rows_1.y * weights, rows_1.z * weights, rows_1.w * weights);
            sums_2 += mat4x4(rows_2.x * weights, rows_2.y * weights, rows_2.z * weights, rows_2.w * weights);
            sums_3 += mat4x4(rows_3.x * weights, rows_3.y * weights, rows_3.z * weights, rows_3.w * weights);
        }
        workgroupBarrier();
    }
    var sums = array<mat4x4<f32>, 4>(sums_0, sums_1, sums_2, sums_3);
    for (var i = 0u; i < 4u * ROWS; i++) {
        put(group.z, row0 + i / 4u, column0 + i % 4u, sums[i / 16u][i / 4u % 4u][i % 4u]);
    }
}
