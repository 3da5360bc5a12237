// The gradient of the input of a softmax from its output and the gradient of that: y (d - y.d) in every row; of its
// logarithm, d - exp(y) sum(d). Reference: src/reference/softmax.rs. One workgroup per row.

override FEATURES: u32;            // N
override ADD: u32 = 0u;            // 1 where it is added to what is there
override LOG: u32 = 0u;            // 1 for the logarithm
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;               // rows = M
@group(0) @binding(1) var<storage, read> y: array<f32>;          // [M, N]
@group(0) @binding(2) var<storage, read> d_output: array<f32>;   // [M, N]
@group(0) @binding(3) var<storage, read_write> d_x: array<f32>;  // [M, N]

var<workgroup> partial: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn softmax_backward(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let row = group.x + group.y * groups.x;
    let live = row < params.rows;
    var sum = 0.0;
    for (var k = local; k < FEATURES; k += WORKGROUP) {
        if live {
            sum += select(y[row * FEATURES + k], 1.0, LOG == 1u) * d_output[row * FEATURES + k];
        }
    }
    partial[local] = sum;
    workgroupBarrier();
    var mean = 0.0;
    for (var k = 0u; k < WORKGROUP; k++) {
        mean += partial[k];
    }
    for (var k = local; k < FEATURES; k += WORKGROUP) {
        if live {
            let at = row * FEATURES + k;
            let value = select(y[at] * (d_output[at] - mean), d_output[at] - exp(y[at]) * mean, LOG == 1u);
            if ADD == 1u {
                d_x[at] += value;
            } else {
                d_x[at] = value;
            }
        }
    }
}
