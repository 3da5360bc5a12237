// The largest value, mean, sum or last valid value of windows of time, or of all time. Reference: src/reference/pool.rs.

override FEATURES: u32;            // N
override KERNEL: u32 = 0u;         // timesteps of a window, 0 for all time
override STRIDE: u32 = 1u;         // timesteps between two windows
override LEFT: u32 = 0u;           // timesteps of padding in front
override RIGHT: u32 = 0u;          // timesteps of padding at the end
override HOW: u32 = 0u;            // LARGEST, AVERAGE, SUM or LAST_VALID
override COUNT_PAD: u32 = 0u;      // a mean counts the padding
override MASKED: u32 = 0u;         // all but the largest count only steps that the mask has on
override PAST: u32 = 0u;           // timesteps in front that are no inputs where they are LOWEST
override WORKGROUP: u32 = 64u;

const LARGEST: u32 = 0u;
const AVERAGE: u32 = 1u;
const SUM: u32 = 2u;
const LAST_VALID: u32 = 3u;

const LOWEST: f32 = -3.4028234e38;

@group(0) @binding(0) var<uniform> params: Params;                      // rows = T'*B
@group(0) @binding(1) var<storage, read> x: array<f32>;                 // [T, B, N]
@group(0) @binding(2) var<storage, read> mask: array<u32>;              // [T, B], if MASKED
@group(0) @binding(3) var<storage, read_write> output: array<f32>;      // [T', B, N]

fn counts(at: u32) -> bool {
    if MASKED == 0u {
        return true;
    }
    return (mask[at] & 1u) != 0u;
}

@compute @workgroup_size(WORKGROUP)
fn pool(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    let row = index / FEATURES;
    if row >= params.rows {
        return;
    }
    let channel = index % FEATURES;
    // In the padded sequence; a window may begin in the padding.
    let first = row / params.batch * STRIDE;
    let size = select(KERNEL, params.steps, KERNEL == 0u);
    let end = min(first + size, params.steps + LEFT + RIGHT);
    let from_step = max(first, LEFT) - LEFT;
    let to_step = min(max(end, LEFT) - LEFT, params.steps);

    var highest = LOWEST;
    var sum = 0.0;
    var last = 0.0;
    var counted = 0u;
    for (var t = from_step; t < to_step; t++) {
        let at = t * params.batch + row % params.batch;
        let value = x[at * FEATURES + channel];
        highest = max(highest, value);
        if counts(at) && (t >= PAST || value != LOWEST) {
            sum += value;
            last = value;
            counted++;
        } else if counted == 0u {
            // That of the last timestep, where none counts.
            last = value;
        }
    }
    if HOW == LARGEST {
        output[index] = select(0.0, highest, from_step < to_step);
        return;
    }
    if HOW == SUM || HOW == LAST_VALID {
        output[index] = select(last, sum, HOW == SUM);
        return;
    }
    if COUNT_PAD != 0u {
        counted = end - first;
    }
    output[index] = sum / f32(max(counted, 1u));
}
