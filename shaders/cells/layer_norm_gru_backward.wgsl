// The backward pass of a timestep of a layer-normalized GRU. Reference: src/reference/normalized_backward.rs. `kept` is h
// before every step, [LANES, T', B, H].

const GATES: u32 = 3u;

fn gate(x: f32) -> f32 {
    return activate(GATE, GATE_ALPHA, GATE_BETA, x);
}

fn gate_slope(x: f32) -> f32 {
    return derivative(GATE, GATE_ALPHA, GATE_BETA, x);
}

fn cell_backward(place: Place, reverse: bool, local: u32) {
    let lane = place.lane;
    let sums = place.at * GATES * WIDTH;
    for (var unit = local; unit < WIDTH; unit += WORKGROUP) {
        let of_r = sum_of(sums, lane, 0u, unit);
        let of_z = sum_of(sums, lane, 1u, unit);
        let of_input = part_of_sum(sums, lane, 0u, 2u, unit);
        let r = gate(of_r);
        let z = gate(of_z);
        // What the reset gate multiplies.
        var q = of_input;
        var of_n = r * of_input;
        if NORM_PARTS == 1u {
            q = part_of_sum(sums, lane, 1u, 2u, unit);
            of_n = of_input + r * q;
        }
        let n = activate(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, of_n);
        let d = d_state[place.at * WIDTH + unit];
        let d_n = d * (1.0 - z) * derivative(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, of_n);
        let d_r = d_n * q * gate_slope(of_r);
        let d_z = d * (kept[place.at * WIDTH + unit] - n) * gate_slope(of_z);
        put_gradients(place, 0u, unit, d_r, d_r);
        put_gradients(place, 1u, unit, d_z, d_z);
        put_gradients(place, 2u, unit, select(d_n * r, d_n, NORM_PARTS == 1u), d_n * r);
        if !place.masked {
            carry[carry_index(0u, place, unit)] = d * z;
        }
    }
}
