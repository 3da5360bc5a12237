// The backward pass of a timestep of a layer-normalized LSTM. Reference: src/reference/normalized_backward.rs. `kept` is c
// between the timesteps, [LANES, T' + 1, B, H]; the second part of `carry` is the gradient of c.

override OUTPUT: u32 = 2u;
override OUTPUT_ALPHA: f32 = 0.0;
override OUTPUT_BETA: f32 = 0.0;

const GATES: u32 = 4u;

fn gate(x: f32) -> f32 {
    return activate(GATE, GATE_ALPHA, GATE_BETA, x);
}

fn gate_slope(x: f32) -> f32 {
    return derivative(GATE, GATE_ALPHA, GATE_BETA, x);
}

// What the output sees of c, normalized without weight and bias.
fn seen_c(lane: u32, unit: u32, c: f32) -> f32 {
    if NORM_CELL == NORM_NONE {
        return c;
    }
    return c * vectors[vector(lane, NORM_C_WEIGHT) + unit] + vectors[vector(lane, NORM_C_BIAS) + unit];
}

fn cell_backward(place: Place, reverse: bool, local: u32) {
    let lane = place.lane;
    let sums = place.at * GATES * WIDTH;
    // A reverse lane comes from behind the timestep.
    let of_before = select(place.time, place.time + 1u, reverse);
    let before = ((lane * (params.count + 1u) + of_before) * params.batch + place.row) * WIDTH;
    let d_c_at = 2u * (1u + NORM_PARTS) * PART + place.at * WIDTH;
    let c_at = d_c_at + CELLS;
    var total = 0.0;
    for (var unit = local; unit < WIDTH; unit += WORKGROUP) {
        let g = activate(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, sum_of(sums, lane, 2u, unit));
        let c = gate(sum_of(sums, lane, 1u, unit)) * kept[before + unit] + gate(sum_of(sums, lane, 0u, unit)) * g;
        gradients[c_at + unit] = c;
        total += c;
    }
    var mean = 0.0;
    var scale = 1.0;
    if NORM_CELL != NORM_NONE {
        mean = row_sums(vec4<f32>(total), local).x / f32(WIDTH);
        total = 0.0;
        for (var unit = local; unit < WIDTH; unit += WORKGROUP) {
            let distance = gradients[c_at + unit] - mean;
            total += distance * distance;
        }
        scale = 1.0 / sqrt(row_sums(vec4<f32>(total), local).x / f32(WIDTH) + EPS);
    }
    var of_row = vec4<f32>();
    for (var unit = local; unit < WIDTH; unit += WORKGROUP) {
        let c = (gradients[c_at + unit] - mean) * scale;
        let seen = seen_c(lane, unit, c);
        let o = gate(sum_of(sums, lane, 3u, unit));
        var d = d_state[place.at * WIDTH + unit] * o * derivative(OUTPUT, OUTPUT_ALPHA, OUTPUT_BETA, seen);
        if NORM_CELL == NORM_STATE {
            d += select(carry[carry_index(1u, place, unit)], 0.0, place.is_last);
        }
        gradients[c_at + unit] = c;
        gradients[d_c_at + unit] = d;
        let a = d * vectors[vector(lane, NORM_C_WEIGHT) + unit];
        of_row += vec4<f32>(a, a * c, 0.0, 0.0);
    }
    of_row = row_sums(of_row, local) / f32(WIDTH);
    for (var unit = local; unit < WIDTH; unit += WORKGROUP) {
        let of_c = carry_index(1u, place, unit);
        let from_behind = select(carry[of_c], 0.0, place.is_last);
        let c = gradients[c_at + unit];
        var d_c = gradients[d_c_at + unit];
        if NORM_CELL != NORM_NONE {
            d_c = scale * (d_c * vectors[vector(lane, NORM_C_WEIGHT) + unit] - of_row.x - c * of_row.y);
        }
        if NORM_CELL != NORM_STATE {
            d_c += from_behind;
        }
        let of_i = sum_of(sums, lane, 0u, unit);
        let of_f = sum_of(sums, lane, 1u, unit);
        let of_g = sum_of(sums, lane, 2u, unit);
        let of_o = sum_of(sums, lane, 3u, unit);
        let g = activate(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, of_g);
        let shown = activate(OUTPUT, OUTPUT_ALPHA, OUTPUT_BETA, seen_c(lane, unit, c));
        let d_i = d_c * g * gate_slope(of_i);
        let d_f = d_c * kept[before + unit] * gate_slope(of_f);
        let d_g = d_c * gate(of_i) * derivative(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, of_g);
        let d_o = d_state[place.at * WIDTH + unit] * shown * gate_slope(of_o);
        put_gradients(place, 0u, unit, d_i, d_i);
        put_gradients(place, 1u, unit, d_f, d_f);
        put_gradients(place, 2u, unit, d_g, d_g);
        put_gradients(place, 3u, unit, d_o, d_o);
        // Of a masked step the state stood still, and no normalization has a part in it.
        carry[of_c] = select(d_c * gate(of_f), from_behind, place.masked);
        if place.masked {
            gradients[d_c_at + unit] = 0.0;
            gradients[c_at + unit] = 0.0;
        }
    }
}
