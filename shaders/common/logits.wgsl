// Functions of a row of logits that one workgroup reads. A kernel that uses them declares `x` (the logits' bits),
// FEATURES and WORKGROUP, a power of two. Reference: src/reference/logits.rs.

const NO_INDEX: u32 = 0xffffffffu;

struct Place {
    value: f32,
    index: u32,
}

var<workgroup> values: array<f32, WORKGROUP>;
var<workgroup> indices: array<u32, WORKGROUP>;

fn logit(at: u32) -> f32 {
    return bitcast<f32>(x[at]);
}

// Decided by the bits: drivers may assume that no float is NaN or infinite.
fn finite(at: u32) -> bool {
    return (x[at] & 0x7f800000u) != 0x7f800000u;
}

// The larger comes first; of equal ones the lowest index.
fn before(a: Place, b: Place) -> bool {
    return a.value > b.value || (a.value == b.value && a.index < b.index);
}

// The first logit that is NaN or infinite, else NO_INDEX.
fn first_bad(row_at: u32, live: bool, local: u32) -> u32 {
    var first = NO_INDEX;
    for (var k0 = 0u; k0 < FEATURES; k0 += WORKGROUP) {
        let k = k0 + local;
        if live && k < FEATURES && !finite(row_at + k) {
            first = min(first, k);
        }
    }
    indices[local] = first;
    workgroupBarrier();
    for (var k = 0u; k < WORKGROUP; k++) {
        first = min(first, indices[k]);
    }
    workgroupBarrier();
    return first;
}

// The best logit after `last`, or of all where that is NO_INDEX.
fn best(row_at: u32, live: bool, local: u32, last: Place) -> Place {
    var found = Place(0.0, NO_INDEX);
    for (var k0 = 0u; k0 < FEATURES; k0 += WORKGROUP) {
        let k = k0 + local;
        if live && k < FEATURES && finite(row_at + k) {
            let here = Place(logit(row_at + k), k);
            if (last.index == NO_INDEX || before(last, here)) && (found.index == NO_INDEX || before(here, found)) {
                found = here;
            }
        }
    }
    values[local] = found.value;
    indices[local] = found.index;
    // In halves: `candidates` does this once for each of them.
    for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if local < half {
            let here = Place(values[local + half], indices[local + half]);
            if here.index != NO_INDEX && (found.index == NO_INDEX || before(here, found)) {
                found = here;
                values[local] = here.value;
                indices[local] = here.index;
            }
        }
    }
    workgroupBarrier();
    found = Place(values[0], indices[0]);
    workgroupBarrier();
    return found;
}

// The logarithm of the sum of exp(logit - highest).
fn log_sum(row_at: u32, live: bool, local: u32, highest: f32) -> f32 {
    var sum = 0.0;
    for (var k0 = 0u; k0 < FEATURES; k0 += WORKGROUP) {
        let k = k0 + local;
        if live && k < FEATURES && finite(row_at + k) {
            sum += exp(logit(row_at + k) - highest);
        }
    }
    values[local] = sum;
    workgroupBarrier();
    sum = 0.0;
    for (var k = 0u; k < WORKGROUP; k++) {
        sum += values[k];
    }
    workgroupBarrier();
    return log(max(sum, 1.0));
}
