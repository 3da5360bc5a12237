// The gradient of the input of a softmax over time from its output and the gradient of that: y (d - y.d) in every column.
// Reference: src/reference/time_softmax.rs. One workgroup per column.

override ADD: u32 = 0u;            // 1 where it is added to what is there
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;               // rows = B*N
@group(0) @binding(1) var<storage, read> y: array<f32>;          // [T, B*N]
@group(0) @binding(2) var<storage, read> d_output: array<f32>;   // [T, B*N]
@group(0) @binding(3) var<storage, read_write> d_x: array<f32>;  // [T, B*N]

var<workgroup> partial: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn time_softmax_backward(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let column = group.x + group.y * groups.x;
    let live = column < params.rows;
    var sum = 0.0;
    for (var t = local; t < params.steps; t += WORKGROUP) {
        if live {
            sum += y[t * params.rows + column] * d_output[t * params.rows + column];
        }
    }
    partial[local] = sum;
    workgroupBarrier();
    var mean = 0.0;
    for (var k = 0u; k < WORKGROUP; k++) {
        mean += partial[k];
    }
    for (var t = local; t < params.steps; t += WORKGROUP) {
        if live {
            let at = t * params.rows + column;
            let value = y[at] * (d_output[at] - mean);
            if ADD == 1u {
                d_x[at] += value;
            } else {
                d_x[at] = value;
            }
        }
    }
}
