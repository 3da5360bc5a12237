// The gradient of the input of shaders/rearrange.wgsl, added to what is there: every number has the sum of the gradients of
// the numbers that it became. Reference: src/reference/rearrange.rs.

struct Sizes {
    rows: u32,     // T*B
    batch: u32,    // B
    offset: u32,   // place of the first number; an i32
    stride: u32,   // places from a timestep of the output to the next
    first: u32,    // timestep of the output to begin with
    end: u32,      // behind the last timestep
}

override FEATURES: u32;          // N
override OUT_FEATURES: u32;      // N'
override COLUMN: u32 = 1u;       // places from a channel to the next
override REFLECTED: u32 = 0u;    // 1 where timesteps are reflected; the stride is N then
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Sizes;
@group(0) @binding(1) var<storage, read> d_output: array<f32>;   // [T', B, N']
@group(0) @binding(2) var<storage, read_write> d_x: array<f32>;  // [T, B, N]

@compute @workgroup_size(WORKGROUP)
fn rearrange_backward(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    let row = index / FEATURES;
    if row >= params.rows {
        return;
    }
    let batch_row = row % params.batch;
    let place = i32(row / params.batch * FEATURES + index % FEATURES) - bitcast<i32>(params.offset);
    if place < 0 {
        return;
    }
    // One timestep of the output has the number, or all of them where the stride is 0.
    var first = params.first;
    var end = params.end;
    var channel = u32(place);
    if COLUMN > 1u {
        // Timesteps and channels were exchanged.
        first = u32(place) % max(COLUMN, 1u);
        end = select(first, first + 1u, first >= params.first && first < params.end);
        channel = u32(place) / max(COLUMN, 1u);
    } else if params.stride > 0u {
        first = u32(place) / params.stride;
        end = select(first, first + 1u, first >= params.first && first < params.end);
        channel = u32(place) % params.stride;
    }
    let channels = select(1u, OUT_FEATURES, COLUMN == 0u);
    if channel + channels > OUT_FEATURES {
        return;
    }
    var sum = 0.0;
    for (var t = first; t < end; t++) {
        for (var n = 0u; n < channels; n++) {
            sum += d_output[(t * params.batch + batch_row) * OUT_FEATURES + channel + n];
        }
    }
    if REFLECTED == 1u {
        // The timesteps before the first and behind the last that are this one, too.
        let before = bitcast<i32>(0u - params.offset) / i32(FEATURES);
        let step = row / params.batch;
        let left = before - i32(step);
        if step > 0u && left >= 0 {
            sum += d_output[(u32(left) * params.batch + batch_row) * OUT_FEATURES + channel];
        }
        let last = params.rows / params.batch - 1u;
        let right = 2u * last - step + u32(before);
        if step < last && right < params.end {
            sum += d_output[(right * params.batch + batch_row) * OUT_FEATURES + channel];
        }
    }
    d_x[index] += sum;
}
