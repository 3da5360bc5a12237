// What the kernels of the training of layer-normalized cells share: normalized sums of all timesteps, and sums over a row.

override WIDTH: u32;                 // H
override LANES: u32 = 1u;
override REVERSE: u32 = 0u;          // a bit per lane that reads the sequence from its end
override MASKED: u32 = 0u;           // 0 where no step is masked
override PART: u32;                  // numbers of one part of the sums, filled up
override VECTOR: u32;                // numbers of one vector: G*H and padding
override VECTORS_LANE: u32;          // from one lane's vectors to the next
override GATE: u32 = 3u;
override GATE_ALPHA: f32 = 0.0;
override GATE_BETA: f32 = 0.0;
override CANDIDATE: u32 = 2u;
override CANDIDATE_ALPHA: f32 = 0.0;
override CANDIDATE_BETA: f32 = 0.0;
override WORKGROUP: u32 = 64u;

var<workgroup> partial: array<vec4<f32>, WORKGROUP>;

// The sums of what every invocation has summed up.
fn row_sums(sums: vec4<f32>, local: u32) -> vec4<f32> {
    workgroupBarrier();
    partial[local] = sums;
    workgroupBarrier();
    var total = vec4<f32>();
    for (var k = 0u; k < WORKGROUP; k++) {
        total += partial[k];
    }
    return total;
}

fn vector(lane: u32, part: u32) -> u32 {
    return lane * VECTORS_LANE + part * VECTOR;
}

// The weight of the normalization of a gate's sum: of W x, or of the sum, in part 0, of U h in part 1.
fn norm_weight(lane: u32, part: u32, gate: u32, unit: u32) -> f32 {
    return vectors[vector(lane, NORM_INPUT_WEIGHT + 2u * part) + unit * GATES + gate];
}

// A normalized sum with weight and bias; `sums` is the place of a row in a part.
fn part_of_sum(sums: u32, lane: u32, part: u32, gate: u32, unit: u32) -> f32 {
    let bias = vectors[vector(lane, NORM_INPUT_BIAS + 2u * part) + unit * GATES + gate];
    return normal[part * PART + sums + gate * WIDTH + unit] * norm_weight(lane, part, gate, unit) + bias;
}

// The same of both parts, if there are two.
fn sum_of(sums: u32, lane: u32, gate: u32, unit: u32) -> f32 {
    var sum = part_of_sum(sums, lane, 0u, gate, unit);
    if NORM_PARTS == 1u {
        sum += part_of_sum(sums, lane, 1u, gate, unit);
    }
    return sum;
}
