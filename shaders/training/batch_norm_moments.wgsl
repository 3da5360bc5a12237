// The means of a batch by channel, or the variances, from the sums of slices of its rows. Reference:
// src/reference/batch_norm.rs.

struct Sizes {
    slices: u32,
    variance_first: u32,   // where the variances lie; the count lies as far behind them
}

override FEATURES: u32;         // N
override SQUARES: u32 = 0u;     // 1 for the variances
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Sizes;
@group(0) @binding(1) var<storage, read> sums: array<f32>;           // [slices, N + 1] sums, rows that count
@group(0) @binding(2) var<storage, read_write> moments: array<f32>;  // means [N], .. variances [N], .. count

@compute @workgroup_size(WORKGROUP)
fn batch_norm_moments(@builtin(local_invocation_index) local: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let column = group.x * WORKGROUP + local;
    if column >= FEATURES {
        return;
    }
    var sum = 0.0;
    var count = 0.0;
    for (var slice = 0u; slice < params.slices; slice++) {
        sum += sums[slice * (FEATURES + 1u) + column];
        count += sums[slice * (FEATURES + 1u) + FEATURES];
    }
    if SQUARES == 1u {
        // Of no rows the variance is 1.
        moments[params.variance_first + column] = select(1.0, sum / max(count, 1.0), count > 0.0);
        return;
    }
    moments[column] = sum / max(count, 1.0);
    if column == 0u {
        moments[2u * params.variance_first] = count;
    }
}
