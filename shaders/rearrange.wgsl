// Numbers of a batch row in another place: rows repeated over time, parts of the timesteps or channels, other shapes. The
// number (t, n) of the output is that at offset + t * stride + n * COLUMN of the input's [T, N], or 0 where there is none.
// Where timesteps are reflected, one outside is the one inside that is as far from the first or the last.
// Reference: src/reference/rearrange.rs.

struct Sizes {
    rows: u32,     // T'*B
    batch: u32,    // B
    numbers: u32,  // T*N
    offset: u32,   // place of the first number; an i32
    stride: u32,   // places from a timestep to the next; an i32
}

override FEATURES: u32;          // N
override OUT_FEATURES: u32;      // N'
override COLUMN: u32 = 1u;       // places from a channel to the next
override REFLECTED: u32 = 0u;    // 1 where timesteps are reflected; the stride is N then
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Sizes;
@group(0) @binding(1) var<storage, read> x: array<f32>;             // [T, B, N]
@group(0) @binding(2) var<storage, read_write> output: array<f32>;  // [T', B, N']

@compute @workgroup_size(WORKGROUP)
fn rearrange(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    let row = index / OUT_FEATURES;
    if row >= params.rows {
        return;
    }
    let channel = i32(index % OUT_FEATURES * COLUMN);
    var step = bitcast<i32>(params.offset) + i32(row / params.batch) * bitcast<i32>(params.stride);
    if REFLECTED == 1u {
        step = abs(step);
        step = min(step, 2 * i32(params.numbers - FEATURES) - step);
    }
    let place = step + channel;
    var value = 0.0;
    if place >= 0 && u32(place) < params.numbers {
        let at = u32(place) / FEATURES * params.batch + row % params.batch;
        value = x[at * FEATURES + u32(place) % FEATURES];
    }
    output[index] = value;
}
