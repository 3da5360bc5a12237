// activation((x - mean) * scale + offset), with a mean, a scale and an offset for each channel:
// batch normalization, and activations on their own. Reference: src/reference/channelwise.rs.

override FEATURES: u32;  // N
override ACTIVATION: u32 = 0u;
override ALPHA: f32 = 0.0;
override BETA: f32 = 0.0;
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                      // rows = M
@group(0) @binding(1) var<storage, read> x: array<f32>;                 // [M, N]
@group(0) @binding(2) var<storage, read> channels: array<f32>;          // [3, N]: mean, scale, offset
@group(0) @binding(3) var<storage, read_write> output: array<f32>;      // [M, N]

@compute @workgroup_size(WORKGROUP)
fn channelwise(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    if index / FEATURES >= params.rows {
        return;
    }
    let channel = index % FEATURES;
    let distance = x[params.input_row * FEATURES + index] - channels[channel];
    let value = distance * channels[FEATURES + channel] + channels[2u * FEATURES + channel];
    output[params.output_row * FEATURES + index] = activate(ACTIVATION, ALPHA, BETA, value);
}
