// Matrix product on matrix units: output = activation(x w + bias). Reference: src/reference/linear.rs,
// of factors rounded to f16. As linear.wgsl, with common/matrix.wgsl for the tile.

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
