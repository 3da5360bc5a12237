// The moving average of the parameters, unless the step is left out. Reference: src/train/average.rs.

struct Sizes {
    count: u32,   // parameters
    start: u32,   // 1 where the first step sets the average to the parameters, 0 where it moves towards them
    share: u32,   // the bits of the share of the parameters
}

override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Sizes;
@group(0) @binding(1) var<storage, read> norms: array<u32>;           // steps made, whether this one is, ..
@group(0) @binding(2) var<storage, read> parameters: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn average(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    if index >= params.count || norms[1] == 0u {
        return;
    }
    if params.start == 0u {
        output[index] += bitcast<f32>(params.share) * (parameters[index] - output[index]);
    } else if norms[0] == 1u {
        output[index] = parameters[index];
    }
}
