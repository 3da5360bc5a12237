// Weights as the kernels of a run read them, from the parameters as an optimizer sees them: each is a parameter, the sum
// of two (biases), or 0. `map` numbers the parameters from 1.

struct Sizes {
    count: u32,    // numbers of the output
    sources: u32,  // parameters in each, 1 or 2
}

override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Sizes;
@group(0) @binding(1) var<storage, read> parameters: array<f32>;
@group(0) @binding(2) var<storage, read> map: array<u32>;           // [sources, count]
@group(0) @binding(3) var<storage, read_write> output: array<f32>;

fn source(at: u32) -> f32 {
    return select(0.0, parameters[max(at, 1u) - 1u], at > 0u);
}

@compute @workgroup_size(WORKGROUP)
fn repack(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    if index >= params.count {
        return;
    }
    var value = source(map[index]);
    if params.sources == 2u {
        value += source(map[params.count + index]);
    }
    output[index] = value;
}
