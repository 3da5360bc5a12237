// Matrix product for few rows: output = activation(x w + bias). Reference: src/reference/linear.rs.
// As linear.wgsl, but an invocation computes 16 rows of 4 columns: all invocations of a workgroup
// need the same numbers of x at the same time, and a weight is read once for 16 rows. Software
// adapters, which read anything but the same address lane by lane, run it several times as fast.

const GROUP: u32 = 64u;
const ROWS: u32 = 16u;
const QUADS: u32 = ROWS / 4u;
const DEPTH: u32 = 64u;

var<workgroup> x_slice: array<vec4<f32>, DEPTH * QUADS>;  // [k][4 rows]

@compute @workgroup_size(GROUP)
fn linear(
    @builtin(local_invocation_index) index: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let column0 = 4u * (group.x * GROUP + index);
    let row0 = (group.y + group.z * groups.y) * ROWS;
    // Columns past the edge are read as the last and never written.
    let columns = min(vec4(column0, column0 + 1u, column0 + 2u, column0 + 3u), vec4(OUT_FEATURES - 1u));
    var sums_0 = mat4x4<f32>();
    var sums_1 = mat4x4<f32>();
    var sums_2 = mat4x4<f32>();
    var sums_3 = mat4x4<f32>();
    for (var k0 = 0u; k0 < IN_FEATURES; k0 += DEPTH) {
        for (var first = 0u; first < DEPTH * QUADS; first += GROUP) {
            let cell = first + index;
            var quad = vec4<f32>();
            for (var lane = 0u; lane < 4u; lane++) {
                quad[lane] = read_x(row0 + cell / DEPTH * 4u + lane, k0 + cell % DEPTH);
            }
            x_slice[cell % DEPTH * QUADS + cell / DEPTH] = quad;
        }
        workgroupBarrier();
        let depth = min(DEPTH, IN_FEATURES - k0);
        for (var k = 0u; k < depth; k++) {
            let at = k0 + k;
            let weights = vec4(
                weight_at(at, columns.x), weight_at(at, columns.y), weight_at(at, columns.z), weight_at(at, columns.w),
            );
            let rows_0 = x_slice[k * QUADS];
            let rows_1 = x_slice[k * QUADS + 1u];
            let rows_2 = x_slice[k * QUADS + 2u];
            let rows_3 = x_slice[k * QUADS + 3u];
            sums_0 += mat4x4(rows_0.x * weights, rows_0.y * weights, rows_0.z * weights, rows_0.w * weights);
            sums_1 += mat4x4(rows_1.x * weights, rows_1.y * weights, rows_1.z * weights, rows_1.w * weights);
            sums_2 += mat4x4(rows_2.x * weights, rows_2.y * weights, rows_2.z * weights, rows_2.w * weights);
            sums_3 += mat4x4(rows_3.x * weights, rows_3.y * weights, rows_3.z * weights, rows_3.w * weights);
        }
        workgroupBarrier();
    }
    var sums = array<mat4x4<f32>, 4>(sums_0, sums_1, sums_2, sums_3);
    for (var i = 0u; i < 4u * ROWS; i++) {
        let row = row0 + i / 4u;
        let column = column0 + i % 4u;
        if row < params.rows && column < OUT_FEATURES {
            let sum = scaled(sums[i / 16u][i / 4u % 4u][i % 4u], column);
            output[(params.output_row + row) * OUT_FEATURES + column] =
                activate(ACTIVATION, ALPHA, BETA, sum + bias[column]);
        }
    }
}
