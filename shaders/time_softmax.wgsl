// Softmax of every column over time, its maximum taken off first; masked steps have the share 0. Reference:
// src/reference/time_softmax.rs. One workgroup per column.

override FEATURES: u32;       // N
override MASKED: u32 = 0u;    // 1 where only steps count that the mask has on
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                      // rows = B*N
@group(0) @binding(1) var<storage, read> x: array<f32>;                 // [T, B, N]
@group(0) @binding(2) var<storage, read> mask: array<u32>;              // [T, B], if MASKED
@group(0) @binding(3) var<storage, read_write> output: array<f32>;      // [T, B, N]

var<workgroup> partial: array<f32, WORKGROUP>;

fn counts(at: u32) -> bool {
    if MASKED == 0u {
        return true;
    }
    return (mask[at] & 1u) != 0u;
}

@compute @workgroup_size(WORKGROUP)
fn time_softmax(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let column = group.x + group.y * groups.x;
    let live = column < params.rows;
    let row = column / FEATURES;

    var highest = -3.4028234e38;
    for (var t = local; t < params.steps; t += WORKGROUP) {
        if live && counts(t * params.batch + row) {
            highest = max(highest, x[t * params.rows + column]);
        }
    }
    partial[local] = highest;
    workgroupBarrier();
    for (var k = 0u; k < WORKGROUP; k++) {
        highest = max(highest, partial[k]);
    }
    workgroupBarrier();

    var sum = 0.0;
    for (var t = local; t < params.steps; t += WORKGROUP) {
        if live && counts(t * params.batch + row) {
            sum += exp(x[t * params.rows + column] - highest);
        }
    }
    partial[local] = sum;
    workgroupBarrier();
    sum = 0.0;
    for (var k = 0u; k < WORKGROUP; k++) {
        sum += partial[k];
    }

    for (var t = local; t < params.steps; t += WORKGROUP) {
        if live {
            var share = 0.0;
            if counts(t * params.batch + row) {
                share = exp(x[t * params.rows + column] - highest) / sum;
            }
            output[t * params.rows + column] = share;
        }
    }
}
