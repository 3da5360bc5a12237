// The most probable tokens of every row with their log-probabilities, best first; of equally probable
// tokens the lowest. One workgroup per row. Reference: src/reference/candidates.rs.

override FEATURES: u32;          // V
override COUNT: u32;             // M, at most V
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                      // rows = B
@group(0) @binding(1) var<storage, read> x: array<u32>;                 // [B, V], bits of f32
@group(0) @binding(2) var<storage, read_write> output: array<u32>;      // [B, 2 + 2M]: the first logit that is not
                                                                        // finite, its bits, tokens, bits of f32

@compute @workgroup_size(WORKGROUP)
fn candidates(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let row = group.x + group.y * groups.x;
    let live = row < params.rows;
    let row_at = row * FEATURES;
    let write_at = row * (2u + 2u * COUNT);

    let bad = first_bad(row_at, live, local);
    var place = best(row_at, live, local, Place(0.0, NO_INDEX));
    let highest = place.value;
    let sum = log_sum(row_at, live, local, highest);
    if live && local == 0u {
        output[write_at] = bad;
        output[write_at + 1u] = x[row_at + min(bad, FEATURES - 1u)];
    }
    for (var c = 0u; c < COUNT; c++) {
        if live && local == 0u {
            output[write_at + 2u + c] = place.index;
            output[write_at + 2u + COUNT + c] = bitcast<u32>(place.value - highest - sum);
        }
        place = best(row_at, live, local, place);
    }
}
