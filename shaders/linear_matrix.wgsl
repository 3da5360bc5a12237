// Matrix product on matrix units: output = activation(x w + bias). Twin: src/reference/linear.rs,
// of factors rounded to f16. As linear.wgsl, with common/matrix.wgsl for the tile.

override IN_FEATURES: u32;   // K
override OUT_FEATURES: u32;  // N
override ACTIVATION: u32 = 0u;
override ALPHA: f32 = 0.0;
override BETA: f32 = 0.0;

@group(0) @binding(0) var<uniform> params: Params;                      // rows = M
@group(0) @binding(1) var<storage, read> x: array<f32>;                 // [.., K]
@group(0) @binding(2) var<storage, read> w: array<u32>;                 // [K, N], packed as weights/ says
@group(0) @binding(3) var<storage, read> bias: array<f32>;              // [N]
@group(0) @binding(4) var<storage, read> scale: array<f32>;             // [N], of 8-bit weights
@group(0) @binding(5) var<storage, read_write> output: array<f32>;      // [.., N]

// Reads past an edge become 0.
fn read_w(k: u32, column: u32) -> f32 {
    let inside = k < IN_FEATURES && column < OUT_FEATURES;
    return select(0.0, weight_at(select(0u, k, inside), select(0u, column, inside)), inside);
}

@compute @workgroup_size(GROUP)
fn linear(
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let column0 = group.x * COLUMNS;
    let row0 = (group.y + group.z * groups.y) * ROWS;
    clear_sums();
    for (var k0 = 0u; k0 < IN_FEATURES; k0 += SLICE) {
        for (var i = index; i < ROWS * SLICE; i += GROUP) {
            left[left_at(i / SLICE, i % SLICE)] = f16(read_x(row0 + i / SLICE, k0 + i % SLICE));
        }
        for (var i = index; i < SLICE * COLUMNS; i += GROUP) {
            right[right_at(i / COLUMNS, i % COLUMNS)] = f16(read_w(k0 + i / COLUMNS, column0 + i % COLUMNS));
        }
        workgroupBarrier();
        add_product(subgroup);
        workgroupBarrier();
    }
    for (var block = 0u; block < BLOCKS; block++) {
        spread_sums(block, subgroup);
        workgroupBarrier();
        for (var i = index; i < SIDE * COLUMNS; i += GROUP) {
            let row = row0 + block * SIDE + i / COLUMNS;
            let column = column0 + i % COLUMNS;
            if row < params.rows && column < OUT_FEATURES {
                output[(params.output_row + row) * OUT_FEATURES + column] =
                    activate(ACTIVATION, ALPHA, BETA, scaled(sums[i], column) + bias[column]);
            }
        }
        workgroupBarrier();
    }
}
