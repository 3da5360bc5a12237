// Adds the slices of a sum, one after the other: output = slices[0] + slices[1] + .., from the last where `descending`, and on
// top of what the output holds where `accumulate`. How many slices one dispatch adds does not change a bit.

struct Sizes {
    count: u32,       // numbers of one slice
    slices: u32,
    output_first: u32,  // where the output begins
    accumulate: u32,  // 1 where the output is added to
    descending: u32,  // 1 where the last slice comes first
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
    if params.accumulate == 1u {
        sum = output[params.output_first + index];
    }
    for (var i = 0u; i < params.slices; i++) {
        let slice = select(i, params.slices - 1u - i, params.descending == 1u);
        sum += x[slice * params.count + index];
    }
    output[params.output_first + index] = sum;
}
