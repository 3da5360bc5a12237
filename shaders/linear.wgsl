// Tiled matrix product: output = activation(x w + bias). Reference: src/reference/linear.rs.
// Serves the hoisted input projection W x + b of all timesteps, dense layers and, with another
// input side (`read_x`, in common/rows.wgsl or conv1d.wgsl), convolutions.
//
// A workgroup of 8 x 8 invocations makes a tile of 32 x 32 outputs, 4 x 4 in each invocation,
// and walks over K in slices of 16 that it keeps in workgroup memory.

const TILE: u32 = 32u;
const DEPTH: u32 = 16u;
const QUADS: u32 = TILE / 4u;

var<workgroup> x_slice: array<vec4<f32>, DEPTH * QUADS>;  // [k][4 rows]
var<workgroup> w_slice: array<vec4<f32>, DEPTH * QUADS>;  // [k][4 columns]

@compute @workgroup_size(8, 8)
fn linear(
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let column0 = group.x * TILE;
    let row0 = (group.y + group.z * groups.y) * TILE;
    var sums_0 = vec4<f32>();
    var sums_1 = vec4<f32>();
    var sums_2 = vec4<f32>();
    var sums_3 = vec4<f32>();
    for (var k0 = 0u; k0 < IN_FEATURES; k0 += DEPTH) {
        // The bound is the same for all invocations: FXC wants that where a barrier follows.
        for (var first = 0u; first < DEPTH * QUADS; first += 64u) {
            let cell = first + index;
            var quad = vec4<f32>();
            var columns = vec4<f32>();
            for (var lane = 0u; lane < 4u; lane++) {
                quad[lane] = read_x(row0 + cell / DEPTH * 4u + lane, k0 + cell % DEPTH);
                columns[lane] = read_w(k0 + cell / QUADS, column0 + cell % QUADS * 4u + lane);
            }
            x_slice[cell % DEPTH * QUADS + cell / DEPTH] = quad;
            w_slice[cell] = columns;
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let rows = x_slice[k * QUADS + local.y];
            let columns = w_slice[k * QUADS + local.x];
            sums_0 += rows.x * columns;
            sums_1 += rows.y * columns;
            sums_2 += rows.z * columns;
            sums_3 += rows.w * columns;
        }
        workgroupBarrier();
    }
    // A loop, not 16 lines: SwiftShader takes minutes to compile 16 copies of the activation.
    for (var i = 0u; i < 16u; i++) {
        let row = row0 + local.y * 4u + i / 4u;
        let column = column0 + local.x * 4u + i % 4u;
        if row < params.rows && column < OUT_FEATURES {
            let sums = select(select(sums_0, sums_1, i >= 4u), select(sums_2, sums_3, i >= 12u), i >= 8u);
            output[(params.output_row + row) * OUT_FEATURES + column] =
                activate(ACTIVATION, ALPHA, BETA, scaled(sums[i % 4u], column) + bias[column]);
        }
    }
}
