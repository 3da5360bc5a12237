// The gradient of filters [N, I/groups, K] from that of the matrix [N, K, I] with which a convolution multiplies.
// Reference: src/network/fold.rs.

override OUT_FEATURES: u32;     // N
override CHANNELS: u32;         // I
override TAPS: u32;             // K
override GROUPS: u32 = 1u;
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                  // rows = numbers of the filters
@group(0) @binding(1) var<storage, read> matrix: array<f32>;
@group(0) @binding(2) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn filters(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    if index >= params.rows {
        return;
    }
    let of_inputs = CHANNELS / GROUPS;
    let of_outputs = OUT_FEATURES / GROUPS;
    let tap = index % TAPS;
    let input = index / TAPS % of_inputs;
    let row = index / TAPS / of_inputs;
    output[index] = matrix[(row * TAPS + tap) * CHANNELS + row / of_outputs * of_inputs + input];
}
