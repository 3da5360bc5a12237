// The gradient of the input of a convolution from that of what its outputs see: every input from row `input_row` on adds up
// its places in the windows from `first` on, and what is there. Reference: src/reference/conv1d.rs.

struct Sizes {
    input_row: u32,   // first row of the input
    rows: u32,        // how many
    batch: u32,       // B
    first: u32,       // timestep of the first window, among the outputs
    end: u32,         // behind the last
}

override CHANNELS: u32;         // I
override TAPS: u32;             // K
override STRIDE: u32 = 1u;      // timesteps between two outputs
override DILATION: u32 = 1u;    // timesteps between two that one output sees
override LEFT: u32 = 0u;        // timesteps of padding in front
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Sizes;
@group(0) @binding(1) var<storage, read> d_seen: array<f32>;     // [windows, B, K, I]
@group(0) @binding(2) var<storage, read_write> d_x: array<f32>;  // [T, B, I]

@compute @workgroup_size(WORKGROUP)
fn conv_gather(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    if index / CHANNELS >= params.rows {
        return;
    }
    let row = params.input_row + index / CHANNELS;
    let padded = row / params.batch + LEFT;
    var sum = 0.0;
    for (var tap = 0u; tap < TAPS; tap++) {
        let behind = tap * DILATION;
        let start = padded - min(behind, padded);
        let window = start / STRIDE;
        if behind <= padded && start % STRIDE == 0u && window >= params.first && window < params.end {
            let seen = (window - params.first) * params.batch + row % params.batch;
            sum += d_seen[(seen * TAPS + tap) * CHANNELS + index % CHANNELS];
        }
    }
    d_x[params.input_row * CHANNELS + index] += sum;
}
