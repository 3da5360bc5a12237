// Categorical cross-entropy of every row of logits, and its gradient by them. Reference: src/reference/loss.rs.
// One workgroup per row.

override FEATURES: u32;           // C
override VALUES: u32 = 0u;        // 1 where targets are probabilities [M, C], 0 where they are classes [M]
override SMOOTHING: f32 = 0.0;
override CLASS_WEIGHTS: u32 = 0u; // 1 where classes have weights
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                   // rows = M
@group(0) @binding(1) var<storage, read> x: array<f32>;              // [M, C]
@group(0) @binding(2) var<storage, read> targets: array<u32>;        // classes, or the bits of probabilities
@group(0) @binding(3) var<storage, read> factors: array<f32>;        // [M] the row's weight, divided as the loss is
@group(0) @binding(4) var<storage, read> class_weights: array<f32>;  // [C]
@group(0) @binding(5) var<storage, read_write> d: array<f32>;        // [M, C]
@group(0) @binding(6) var<storage, read_write> found: array<f32>;    // [M, 2] the row's part of the loss, right answers

var<workgroup> partial: array<f32, WORKGROUP>;
var<workgroup> places: array<u32, WORKGROUP>;

fn total(local: u32, value: f32) -> f32 {
    workgroupBarrier();
    partial[local] = value;
    workgroupBarrier();
    var sum = 0.0;
    for (var k = 0u; k < WORKGROUP; k++) {
        sum += partial[k];
    }
    return sum;
}

// Position of the highest value of all invocations, of equals the lowest.
fn best_of(local: u32, value: f32, place: u32) -> u32 {
    workgroupBarrier();
    partial[local] = value;
    places[local] = place;
    workgroupBarrier();
    var highest = partial[0];
    var at = places[0];
    for (var k = 1u; k < WORKGROUP; k++) {
        if is_higher(partial[k], places[k], highest, at) {
            highest = partial[k];
            at = places[k];
        }
    }
    return at;
}

// The target of a class with smoothing and its weight.
fn wanted(row: u32, class_: u32) -> f32 {
    var q = 0.0;
    if VALUES == 1u {
        q = bitcast<f32>(targets[row * FEATURES + class_]);
    } else {
        q = select(0.0, 1.0, targets[row] == class_);
    }
    q = (1.0 - SMOOTHING) * q + SMOOTHING / f32(FEATURES);
    if CLASS_WEIGHTS == 1u {
        q *= class_weights[class_];
    }
    return q;
}

@compute @workgroup_size(WORKGROUP)
fn cross_entropy(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let row = group.x + group.y * groups.x;
    if row >= params.rows {
        return;
    }
    let at = row * FEATURES;
    let factor = factors[row];
    var highest = 0.0;
    var place = NO_CLASS;
    for (var k0 = 0u; k0 < FEATURES; k0 += WORKGROUP) {
        let k = k0 + local;
        if k < FEATURES {
            let value = x[at + k];
            if is_number(value) && is_higher(value, k, highest, place) {
                highest = value;
                place = k;
            }
        }
    }
    let answer = best_of(local, highest, place);
    let top = x[at + min(answer, FEATURES - 1u)];
    var target_class = 0u;
    if VALUES == 1u {
        highest = 0.0;
        place = NO_CLASS;
        for (var k0 = 0u; k0 < FEATURES; k0 += WORKGROUP) {
            let k = k0 + local;
            if k < FEATURES {
                let value = bitcast<f32>(targets[at + k]);
                if is_higher(value, k, highest, place) {
                    highest = value;
                    place = k;
                }
            }
        }
        target_class = best_of(local, highest, place);
    } else {
        target_class = targets[row];
    }
    var sum = 0.0;
    var of_q = 0.0;
    for (var k0 = 0u; k0 < FEATURES; k0 += WORKGROUP) {
        let k = k0 + local;
        if k < FEATURES {
            sum += exp(x[at + k] - top);
            of_q += wanted(row, k);
        }
    }
    sum = total(local, sum);
    of_q = total(local, of_q);
    let log_sum = log(sum);
    var value = 0.0;
    for (var k0 = 0u; k0 < FEATURES; k0 += WORKGROUP) {
        let k = k0 + local;
        if k < FEATURES {
            let q = wanted(row, k);
            let z = x[at + k] - top;
            // A logit of -inf has no part in a loss that does not ask for it.
            value += select(q * (log_sum - z), 0.0, q == 0.0);
            // Nothing of a row without weight is looked at.
            d[at + k] = select((exp(z) / sum * of_q - q) * factor, 0.0, factor == 0.0);
        }
    }
    value = total(local, value);
    if local == 0u {
        found[2u * row] = select(value * factor, 0.0, factor == 0.0);
        found[2u * row + 1u] = select(0.0, 1.0, answer == target_class && factor != 0.0);
    }
}
