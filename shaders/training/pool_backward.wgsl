// The gradient of the input of a pooling, added to what is there. Reference: src/reference/pool.rs. An invocation goes
// through the windows of one channel of one row, so that windows which overlap are added in their order.

struct Sizes {
    batch: u32,   // B
    steps: u32,   // T
    first: u32,   // window to begin with
    end: u32,     // behind the last window
}

override FEATURES: u32;            // N
override KERNEL: u32 = 0u;         // timesteps of a window, 0 for all time
override STRIDE: u32 = 1u;         // timesteps between two windows
override LEFT: u32 = 0u;           // timesteps of padding in front
override RIGHT: u32 = 0u;          // timesteps of padding at the end
override HOW: u32 = 0u;            // LARGEST, AVERAGE, SUM or LAST_VALID
override COUNT_PAD: u32 = 0u;      // a mean counts the padding
override MASKED: u32 = 0u;         // all but the largest count only steps that the mask has on
override WORKGROUP: u32 = 64u;

const LARGEST: u32 = 0u;
const AVERAGE: u32 = 1u;
const SUM: u32 = 2u;
const LAST_VALID: u32 = 3u;

@group(0) @binding(0) var<uniform> params: Sizes;
@group(0) @binding(1) var<storage, read> x: array<f32>;              // [T, B, N]
@group(0) @binding(2) var<storage, read> mask: array<u32>;           // [T, B], if MASKED
@group(0) @binding(3) var<storage, read> d_output: array<f32>;       // [T', B, N]
@group(0) @binding(4) var<storage, read_write> d_x: array<f32>;      // [T, B, N]

fn counts(at: u32) -> bool {
    if MASKED == 0u {
        return true;
    }
    return (mask[at] & 1u) != 0u;
}

@compute @workgroup_size(WORKGROUP)
fn pool_backward(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    let stride = params.batch * FEATURES;
    if index >= stride {
        return;
    }
    let row = index / FEATURES;
    let size = select(KERNEL, params.steps, KERNEL == 0u);
    for (var window = params.first; window < params.end; window++) {
        // In the padded sequence; a window may begin in the padding.
        let first = window * STRIDE;
        let end = min(first + size, params.steps + LEFT + RIGHT);
        let from_step = max(first, LEFT) - LEFT;
        let to_step = min(max(end, LEFT) - LEFT, params.steps);
        let d = d_output[window * stride + index];
        if HOW == LARGEST {
            var best = from_step;
            for (var t = from_step + 1u; t < to_step; t++) {
                best = select(best, t, x[t * stride + index] > x[best * stride + index]);
            }
            if from_step < to_step {
                d_x[best * stride + index] += d;
            }
            continue;
        }
        if HOW == LAST_VALID {
            var last = to_step - 1u;
            for (var t = from_step; t < to_step; t++) {
                last = select(last, t, counts(t * params.batch + row));
            }
            d_x[last * stride + index] += d;
            continue;
        }
        var counted = select(end - first, 1u, HOW == SUM);
        if COUNT_PAD == 0u && HOW == AVERAGE {
            counted = 0u;
            for (var t = from_step; t < to_step; t++) {
                counted += select(0u, 1u, counts(t * params.batch + row));
            }
        }
        for (var t = from_step; t < to_step; t++) {
            if counts(t * params.batch + row) {
                d_x[t * stride + index] += d / f32(max(counted, 1u));
            }
        }
    }
}
