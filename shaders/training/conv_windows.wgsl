// What the outputs of a convolution see, as rows of a matrix, 0 outside the sequence. Reference: src/reference/conv1d.rs.

override CHANNELS: u32;         // I
override TAPS: u32;             // K
override STRIDE: u32 = 1u;      // timesteps between two outputs
override DILATION: u32 = 1u;    // timesteps between two that one output sees
override LEFT: u32 = 0u;        // timesteps of padding in front
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                  // rows; input_row = the first row of the output
@group(0) @binding(1) var<storage, read> x: array<f32>;             // [T, B, I]
@group(0) @binding(2) var<storage, read_write> output: array<f32>;  // [rows, K, I]

@compute @workgroup_size(WORKGROUP)
fn conv_windows(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    let row = index / CHANNELS / TAPS;
    if row >= params.rows {
        return;
    }
    let output_row = params.input_row + row;
    let padded = output_row / params.batch * STRIDE + index / CHANNELS % TAPS * DILATION;
    let inside = padded >= LEFT && padded - LEFT < params.steps;
    let at = ((padded - LEFT) * params.batch + output_row % params.batch) * CHANNELS + index % CHANNELS;
    output[index] = select(0.0, x[select(0u, at, inside)], inside);
}
