// Adds the slices of a sum in their order: output = slices[0] + slices[1] + .., or added to what the output holds.

struct Sizes {
    count: u32,       // numbers of one slice
    slices: u32,
    output_first: u32,  // where the output begins
    accumulate: u32,  // 1 where the output is added to
}

override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Sizes;
@group(0) @binding(1) var<storage, read> x: array<f32>;             // [slices, count]
@group(0) @binding(2) var<storage, read_write> output: array<f32>;  // [count]

@compute @workgroup_size(WORKGROUP)
fn add_slices(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    if index >= params.count {
        return;
    }
    var sum = 0.0;
    for (var slice = 0u; slice < params.slices; slice++) {
        sum += x[slice * params.count + index];
    }
    if params.accumulate == 1u {
        sum += output[params.output_first + index];
    }
    output[params.output_first + index] = sum;
}
