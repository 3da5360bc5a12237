// The place of every row's largest number; of equal ones, the first; the first NaN where there is one.
// Reference: src/reference/arg_max.rs. One workgroup per row.

override FEATURES: u32;    // N
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                      // rows = M
@group(0) @binding(1) var<storage, read> x: array<u32>;                 // [M, N], the numbers' bits
@group(0) @binding(2) var<storage, read_write> output: array<f32>;      // [M, 1]

var<workgroup> largest: array<u32, WORKGROUP>;
var<workgroup> places: array<u32, WORKGROUP>;

// Whole numbers in the order of the numbers with these bits, NaN last: drivers may assume that no float is NaN. The two
// zeros are equal.
fn rank(bits: u32) -> u32 {
    let magnitude = bits & 0x7fffffffu;
    if magnitude > 0x7f800000u {
        return 0xffffffffu;
    }
    return select(0x80000000u | magnitude, 0x80000000u - magnitude, bits != magnitude);
}

@compute @workgroup_size(WORKGROUP)
fn arg_max(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let row = group.x + group.y * groups.x;
    let live = row < params.rows;
    let read_at = (params.input_row + row) * FEATURES;

    // Each invocation's own numbers, in order.
    var best = 0u;
    var place = FEATURES;
    for (var k = local; live && k < FEATURES; k += WORKGROUP) {
        let value = rank(x[read_at + k]);
        if place == FEATURES || value > best {
            best = value;
            place = k;
        }
    }
    largest[local] = best;
    places[local] = place;
    workgroupBarrier();

    if !live || local != 0u {
        return;
    }
    for (var k = 1u; k < min(WORKGROUP, FEATURES); k++) {
        if largest[k] > best || (largest[k] == best && places[k] < place) {
            best = largest[k];
            place = places[k];
        }
    }
    output[params.output_row + row] = f32(place);
}
