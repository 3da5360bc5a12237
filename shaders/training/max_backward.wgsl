// The gradient of one branch of a maximum. It goes to the first branch that has the largest number: the branches come one
// after the other, and what one takes is gone for those behind it. Reference: src/reference/combine.rs.

override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                    // rows = numbers
@group(0) @binding(1) var<storage, read> x: array<f32>;               // the branch
@group(0) @binding(2) var<storage, read> highest: array<f32>;         // the maximum of all branches
@group(0) @binding(3) var<storage, read_write> d_output: array<f32>;  // its gradient, what is left of it
@group(0) @binding(4) var<storage, read_write> d_x: array<f32>;       // added to

@compute @workgroup_size(WORKGROUP)
fn max_backward(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    if index < params.rows && x[index] == highest[index] {
        d_x[index] += d_output[index];
        d_output[index] = 0.0;
    }
}
