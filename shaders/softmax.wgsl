// Softmax of every row, or its logarithm, the row's maximum taken off first. Reference: src/reference/softmax.rs.
// One workgroup per row.

override FEATURES: u32;    // N
override LOG: u32 = 0u;    // 1 for the logarithm
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                      // rows = M
@group(0) @binding(1) var<storage, read> x: array<f32>;                 // [M, N]
@group(0) @binding(2) var<storage, read_write> output: array<f32>;      // [M, N]

var<workgroup> partial: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn softmax(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let row = group.x + group.y * groups.x;
    let live = row < params.rows;
    let read_at = (params.input_row + row) * FEATURES;
    let write_at = (params.output_row + row) * FEATURES;

    var highest = -3.4028234e38;
    for (var k0 = 0u; k0 < FEATURES; k0 += WORKGROUP) {
        if live && k0 + local < FEATURES {
            highest = max(highest, x[read_at + k0 + local]);
        }
    }
    partial[local] = highest;
    workgroupBarrier();
    for (var k = 0u; k < WORKGROUP; k++) {
        highest = max(highest, partial[k]);
    }
    workgroupBarrier();

    var sum = 0.0;
    for (var k0 = 0u; k0 < FEATURES; k0 += WORKGROUP) {
        if live && k0 + local < FEATURES {
            sum += exp(x[read_at + k0 + local] - highest);
        }
    }
    partial[local] = sum;
    workgroupBarrier();
    sum = 0.0;
    for (var k = 0u; k < WORKGROUP; k++) {
        sum += partial[k];
    }

    for (var k0 = 0u; k0 < FEATURES; k0 += WORKGROUP) {
        if live && k0 + local < FEATURES {
            let value = x[read_at + k0 + local] - highest;
            output[write_at + k0 + local] = select(exp(value) / sum, value - log(sum), LOG == 1u);
        }
    }
}
