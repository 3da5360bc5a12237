// How often a row's class is among the most probable, and which class is the most probable of each class. One workgroup per row.
// Counts are integers: their order does not matter. Reference: src/reference/metrics.rs.

override FEATURES: u32;           // C
override TOP: u32 = 1u;           // how many classes are the most probable
override CONFUSION: u32 = 0u;     // 1 where there is room for C x C counts
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                          // rows = M
@group(0) @binding(1) var<storage, read> x: array<f32>;                     // [M, C] logits
@group(0) @binding(2) var<storage, read> targets: array<u32>;               // [M] classes
@group(0) @binding(3) var<storage, read> factors: array<f32>;               // [M] a row whose factor is 0 does not count
@group(0) @binding(4) var<storage, read_write> counts: array<atomic<u32>>;  // right answers, then [C, C]

var<workgroup> highest: array<f32, WORKGROUP>;
var<workgroup> places: array<u32, WORKGROUP>;
var<workgroup> ahead: array<u32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn class_metrics(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let row = group.x + group.y * groups.x;
    if row >= params.rows {
        return;
    }
    let label = min(targets[row], FEATURES - 1u);
    let own = x[row * FEATURES + label];
    var most = 0.0;
    var place = NO_CLASS;
    var before = 0u;
    for (var k0 = 0u; k0 < FEATURES; k0 += WORKGROUP) {
        let k = k0 + local;
        if k < FEATURES {
            let value = x[row * FEATURES + k];
            // Of equal logits the lower class comes first.
            before += select(0u, 1u, value > own || (value == own && k < label));
            if is_number(value) && is_higher(value, k, most, place) {
                most = value;
                place = k;
            }
        }
    }
    highest[local] = most;
    places[local] = place;
    ahead[local] = before;
    workgroupBarrier();
    if local == 0u && factors[row] != 0.0 {
        for (var k = 1u; k < WORKGROUP; k++) {
            before += ahead[k];
            if is_higher(highest[k], places[k], most, place) {
                most = highest[k];
                place = places[k];
            }
        }
        if is_number(own) && before < TOP {
            atomicAdd(&counts[0], 1u);
        }
        if CONFUSION == 1u && place != NO_CLASS {
            atomicAdd(&counts[1u + label * FEATURES + place], 1u);
        }
    }
}
