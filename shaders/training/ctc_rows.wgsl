// The logarithm of the sum of the exponentials of every step's logits, and the most probable class, for CTC. One workgroup per
// row of a step. Reference: src/reference/ctc.rs.

override FEATURES: u32;           // C
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                   // rows = T*B
@group(0) @binding(1) var<storage, read> x: array<f32>;              // [T, B, C] logits
@group(0) @binding(2) var<storage, read_write> found: array<u32>;    // [T, B, 2] the bits of the logarithm, the class

var<workgroup> partial: array<f32, WORKGROUP>;
var<workgroup> places: array<u32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn ctc_rows(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let row = group.x + group.y * groups.x;
    if row >= params.rows {
        return;
    }
    let at = row * FEATURES;
    var highest = -3.4028234e38;
    var place = 0xffffffffu;
    for (var k0 = 0u; k0 < FEATURES; k0 += WORKGROUP) {
        let k = k0 + local;
        if k < FEATURES && (x[at + k] > highest || place == 0xffffffffu) {
            highest = x[at + k];
            place = k;
        }
    }
    partial[local] = highest;
    places[local] = place;
    workgroupBarrier();
    highest = partial[0];
    place = places[0];
    for (var k = 1u; k < WORKGROUP; k++) {
        if partial[k] > highest || (partial[k] == highest && places[k] < place) {
            highest = partial[k];
            place = places[k];
        }
    }
    workgroupBarrier();
    var sum = 0.0;
    for (var k0 = 0u; k0 < FEATURES; k0 += WORKGROUP) {
        let k = k0 + local;
        if k < FEATURES {
            sum += exp(x[at + k] - highest);
        }
    }
    partial[local] = sum;
    workgroupBarrier();
    if local == 0u {
        for (var k = 1u; k < WORKGROUP; k++) {
            sum += partial[k];
        }
        found[2u * row] = bitcast<u32>(highest + log(sum));
        found[2u * row + 1u] = min(place, FEATURES - 1u);
    }
}
