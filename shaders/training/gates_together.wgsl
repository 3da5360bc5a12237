// Projected inputs whose gates lie apart become those that the kernels of a step read: the gates of a unit together, with
// the bias.

struct Sizes {
    count: u32,    // numbers
    gates: u32,    // G
    hidden: u32,   // H
}

override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Sizes;
@group(0) @binding(1) var<storage, read> x: array<f32>;               // [rows, G, H]
@group(0) @binding(2) var<storage, read> bias: array<f32>;            // [H, G]
@group(0) @binding(3) var<storage, read_write> output: array<f32>;    // [rows, H, G]

@compute @workgroup_size(WORKGROUP)
fn gates_together(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    if index >= params.count {
        return;
    }
    let width = params.gates * params.hidden;
    let row = index / width;
    let column = index % width;
    let unit = column / params.gates;
    let gate = column % params.gates;
    output[index] = x[row * width + gate * params.hidden + unit] + bias[column];
}
