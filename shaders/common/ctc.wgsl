// What both passes of CTC share. A row's places are a blank, a label, a blank and so on; one workgroup goes through the
// timesteps of one row. Logarithms of 0 are a large negative number: drivers may assume that no float is infinite.

override FEATURES: u32;           // C
override BLANK: u32 = 0u;         // the class that stands for no label
override LABELS: u32 = 1u;        // most labels of a row that there is room for
override PLACES: u32 = 2u * LABELS + 1u;
override WORKGROUP: u32 = 64u;    // a power of two

@group(0) @binding(0) var<uniform> params: Params;                   // rows = B
@group(0) @binding(1) var<storage, read> x: array<f32>;              // [T, B, C] logits
@group(0) @binding(2) var<storage, read> targets: array<u32>;        // [B, 2 + 2*LABELS]: steps, labels, then pairs
@group(0) @binding(3) var<storage, read> steps: array<u32>;          // [T, B, 2] the bits of the logarithm, the class
@group(0) @binding(4) var<storage, read_write> forward: array<f32>;  // [T, B, PLACES]
@group(0) @binding(5) var<storage, read_write> rows: array<u32>;     // [B, 4] taken off, labels seen, last class, infinite

const NO_PROBABILITY: f32 = -1e30;
// Anything below has no probability.
const LEAST: f32 = -5e29;

var<workgroup> partial: array<f32, WORKGROUP>;

fn length_of(row: u32) -> u32 {
    return targets[row * (2u + 2u * LABELS)];
}

fn labels_of(row: u32) -> u32 {
    return targets[row * (2u + 2u * LABELS) + 1u];
}

fn label(row: u32, index: u32) -> u32 {
    return targets[row * (2u + 2u * LABELS) + 2u + 2u * index];
}

// The class of a place.
fn class_of(row: u32, place: u32) -> u32 {
    if place % 2u == 0u {
        return BLANK;
    }
    return label(row, place / 2u);
}

// Whether a label may follow another without the blank between them: only another label.
fn skips(row: u32, place: u32) -> bool {
    return place % 2u == 1u && place >= 2u && class_of(row, place) != class_of(row, place - 2u);
}

fn log_probability(row: u32, time: u32, place: u32) -> f32 {
    let at = time * params.rows + row;
    return x[at * FEATURES + class_of(row, place)] - bitcast<f32>(steps[2u * at]);
}

fn log_sum(a: f32, b: f32, c: f32) -> f32 {
    let most = max(a, max(b, c));
    if most < LEAST {
        return NO_PROBABILITY;
    }
    return most + log(exp(a - most) + exp(b - most) + exp(c - most));
}

// The greatest number of all invocations.
fn greatest(local: u32, value: f32) -> f32 {
    workgroupBarrier();
    partial[local] = value;
    for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if local < half {
            partial[local] = max(partial[local], partial[local + half]);
        }
    }
    workgroupBarrier();
    return partial[0];
}

// The sum of the numbers of all invocations, in one order.
fn total(local: u32, value: f32) -> f32 {
    workgroupBarrier();
    partial[local] = value;
    for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if local < half {
            partial[local] += partial[local + half];
        }
    }
    workgroupBarrier();
    return partial[0];
}
