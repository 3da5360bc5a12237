// One dispatch per timestep of the backward pass of a layer-normalized cell, behind the one that takes the gradient of h:
// the cell's own part, then the gradient of the sums before they were normalized. Reference:
// src/reference/normalized_backward.rs. A workgroup takes one row of one lane. Where memory is short, arrays hold an interval of
// the timesteps alone: T' of them, `params.count`.

override SCALES: u32;    // numbers of one part of `scales`, filled up
override CELLS: u32;     // numbers of [LANES, T', B, H], filled up
override STARTED: u32 = 0u;   // 1 where `carry` holds gradients of the final state before the first dispatch

@group(0) @binding(0) var<uniform> params: Params;                     // rows = B
@group(0) @binding(1) var<storage, read> normal: array<f32>;           // [parts, LANES, T', B, G*H] normalized sums
@group(0) @binding(2) var<storage, read> scales: array<f32>;           // [parts, LANES, T', B] 1 / sqrt(variance + eps)
@group(0) @binding(3) var<storage, read> vectors: array<f32>;          // weights and biases of the normalizations
@group(0) @binding(4) var<storage, read> kept: array<f32>;             // c between the timesteps, or h before each
@group(0) @binding(5) var<storage, read> d_state: array<f32>;          // [LANES, T', B, H] the gradient of h
@group(0) @binding(6) var<storage, read> mask: array<u32>;             // [T, B], if MASKED
@group(0) @binding(7) var<storage, read_write> carry: array<f32>;      // [2, LANES, B, H] what a step hands to the one before, then what the first dispatch reads
// Gradients of the normalized sums [parts, LANES, T', B, G*H], of the sums before, of the normalized c [LANES, T', B, H]; then
// c normalized without weight and bias [LANES, T', B, H].
@group(0) @binding(8) var<storage, read_write> gradients: array<f32>;

// A timestep of a row.
struct Place {
    lane: u32,
    row: u32,
    time: u32,       // counted from the first of the interval
    at: u32,         // its position in [LANES, T', B]
    is_last: bool,   // whether it is the lane's last step and nothing read the final state
    masked: bool,
}

fn carry_index(part: u32, place: Place, unit: u32) -> u32 {
    return ((part * LANES + place.lane) * params.batch + place.row) * WIDTH + unit;
}

// Stores the gradients of a unit's normalized sums, of W x and of U h.
fn put_gradients(place: Place, gate: u32, unit: u32, of_input: f32, of_state: f32) {
    let at = (place.at * GATES + gate) * WIDTH + unit;
    gradients[at] = select(of_input, 0.0, place.masked);
    if NORM_PARTS == 1u {
        gradients[PART + at] = select(of_state, 0.0, place.masked);
    }
}

// The gradients of the sums from those of what was made of them.
fn sums_backward(place: Place, local: u32) {
    let parts = 1u + NORM_PARTS;
    let first = place.at * GATES * WIDTH;
    var means = array<vec4<f32>, 2>();
    for (var part = 0u; part < parts; part++) {
        var sums = vec4<f32>();
        for (var unit = local; unit < WIDTH; unit += WORKGROUP) {
            for (var gate = 0u; gate < GATES; gate++) {
                let at = part * PART + first + gate * WIDTH + unit;
                let a = gradients[at] * norm_weight(place.lane, part, gate, unit);
                sums += vec4<f32>(a, a * normal[at], 0.0, 0.0);
            }
        }
        means[part] = row_sums(sums, local) / f32(GATES * WIDTH);
    }
    for (var part = 0u; part < parts; part++) {
        let scale = scales[part * SCALES + place.at];
        for (var unit = local; unit < WIDTH; unit += WORKGROUP) {
            for (var gate = 0u; gate < GATES; gate++) {
                let at = part * PART + first + gate * WIDTH + unit;
                let a = gradients[at] * norm_weight(place.lane, part, gate, unit);
                let d = scale * (a - means[part].x - normal[at] * means[part].y);
                gradients[parts * PART + at] = select(d, 0.0, place.masked);
            }
        }
    }
}

@compute @workgroup_size(WORKGROUP)
fn normalized_backward(@builtin(local_invocation_index) local: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let row = group.y;
    let lane = group.z;
    let step = params.steps - 1u - (params.first + repetition.number);
    let reverse = ((REVERSE >> lane) & 1u) == 1u;
    let time = select(step, params.steps - 1u - step, reverse);
    let masked = MASKED != 0u && (mask[time * params.batch + row] & 1u) == 0u;
    let in_interval = time - select(params.done, params.steps - params.done - params.count, reverse);
    let at = (lane * params.count + in_interval) * params.batch + row;
    let place = Place(lane, row, in_interval, at, STARTED == 0u && step + 1u == params.steps, masked);
    cell_backward(place, reverse, local);
    sums_backward(place, local);
}
