// Sums of the columns of a matrix over the rows that count, or of the squares of their distances from the means, each over
// a slice of the rows; and how many rows of the slice count. batch_norm_moments.wgsl adds the slices.

struct Sizes {
    rows: u32,
    slice: u32,   // rows of one slice
}

override FEATURES: u32;         // N
override SQUARES: u32 = 0u;     // 1 for the squares
override MASKED: u32 = 0u;      // 1 where only rows count that the mask has on
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Sizes;
@group(0) @binding(1) var<storage, read> x: array<f32>;             // [rows, N]
@group(0) @binding(2) var<storage, read> mask: array<u32>;          // [rows], if MASKED
@group(0) @binding(3) var<storage, read> moments: array<f32>;       // the means [N], if SQUARES
@group(0) @binding(4) var<storage, read_write> output: array<f32>;  // [slices, N + 1] sums, rows that count

@compute @workgroup_size(WORKGROUP)
fn batch_norm_sums(@builtin(local_invocation_index) local: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let column = group.x * WORKGROUP + local;
    if column >= FEATURES {
        return;
    }
    var mean = 0.0;
    if SQUARES == 1u {
        mean = moments[column];
    }
    let first = group.y * params.slice;
    let end = min(first + params.slice, params.rows);
    var sum = 0.0;
    var count = 0u;
    for (var row = first; row < end; row++) {
        if MASKED == 0u || (mask[row] & 1u) != 0u {
            let value = x[row * FEATURES + column];
            if SQUARES == 1u {
                sum += (value - mean) * (value - mean);
            } else {
                sum += value;
            }
            count++;
        }
    }
    let at = group.y * (FEATURES + 1u);
    output[at + column] = sum;
    if column == 0u {
        output[at + FEATURES] = f32(count);
    }
}
