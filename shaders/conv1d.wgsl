// The input side of a convolution over time, in front of linear.wgsl: row (t, b) of the matrix
// is what output t of batch row b sees, [K, I], 0 outside the sequence.
// Reference: src/reference/conv1d.rs.

override CHANNELS: u32;         // I; IN_FEATURES is K*I
override STRIDE: u32 = 1u;      // timesteps between two outputs
override DILATION: u32 = 1u;    // timesteps between two that one output sees
override LEFT: u32 = 0u;        // timesteps of padding in front

fn read_x(row: u32, k: u32) -> f32 {
    let output_row = params.input_row + row;
    let padded = output_row / params.batch * STRIDE + k / CHANNELS * DILATION;
    let inside = row < params.rows && k < IN_FEATURES && padded >= LEFT && padded - LEFT < params.steps;
    let index = ((padded - LEFT) * params.batch + output_row % params.batch) * CHANNELS + k % CHANNELS;
    return select(0.0, x[select(0u, index, inside)], inside);
}
