// A stored initial state, from which every row of a batch starts.

struct Sizes {
    first: u32,   // where the state begins in the parameters
    output_first: u32,  // where it goes
    width: u32,   // of h or c
    count: u32,   // numbers of all rows
}

override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Sizes;
@group(0) @binding(1) var<storage, read> parameters: array<f32>;
@group(0) @binding(2) var<storage, read_write> output: array<f32>;  // .., [B, width], ..

@compute @workgroup_size(WORKGROUP)
fn initial_state(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    if index < params.count {
        output[params.output_first + index] = parameters[params.first + index % params.width];
    }
}
