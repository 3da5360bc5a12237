// CTC from the first step to the last: the logarithm of the probability to be at each place after a step, the loss of every row,
// and whether its most probable path gives its labels. Reference: src/reference/ctc.rs.

@group(0) @binding(6) var<storage, read_write> found: array<f32>;    // [B, 2] the row's part of the loss, right answers

// Follows the most probable path: how many of its labels are those of the row, LABELS + 1 once one is not.
fn follow(row: u32, time: u32) {
    let best = steps[2u * (time * params.rows + row) + 1u];
    let seen = rows[4u * row + 1u];
    let repeats = time > 0u && rows[4u * row + 2u] == best;
    rows[4u * row + 2u] = best;
    if best == BLANK || repeats {
        return;
    }
    var is_label = false;
    if seen < labels_of(row) {
        is_label = label(row, seen) == best;
    }
    rows[4u * row + 1u] = select(LABELS + 1u, seen + 1u, is_label);
}

fn finish(row: u32, log_total: f32) {
    let count = labels_of(row);
    let share = f32(params.rows) * f32(max(count, 1u));
    let infinite = log_total < LEAST;
    let loss = -(log_total + bitcast<f32>(rows[4u * row]));
    rows[4u * row + 3u] = select(0u, 1u, infinite);
    found[2u * row] = select(loss / share, 0.0, infinite);
    found[2u * row + 1u] = select(0.0, 1.0, rows[4u * row + 1u] == count);
}

@compute @workgroup_size(WORKGROUP)
fn ctc_forward(@builtin(local_invocation_index) local: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let row = group.x;
    let length = length_of(row);
    let places = 2u * labels_of(row) + 1u;
    for (var i = 0u; i < params.stride; i++) {
        let time = params.first + repetition.number * params.stride + i;
        let counts = time < length;
        let at = (time * params.rows + row) * PLACES;
        let before = at - params.rows * PLACES;
        if local == 0u && time == 0u {
            rows[4u * row] = 0u;
            rows[4u * row + 1u] = 0u;
            if length == 0u {
                // Without a step there is one way to say nothing.
                finish(row, select(NO_PROBABILITY, 0.0, places == 1u));
            }
        }
        var most = NO_PROBABILITY;
        for (var place = local; place < PLACES; place += WORKGROUP) {
            if counts && place < places {
                var value = select(NO_PROBABILITY, 0.0, place < 2u);
                if time > 0u {
                    var next = NO_PROBABILITY;
                    if place >= 1u {
                        next = forward[before + place - 1u];
                    }
                    var skipped = NO_PROBABILITY;
                    if skips(row, place) {
                        skipped = forward[before + place - 2u];
                    }
                    value = log_sum(forward[before + place], next, skipped);
                }
                value = max(value + log_probability(row, time, place), NO_PROBABILITY);
                forward[at + place] = value;
                most = max(most, value);
            }
        }
        most = greatest(local, most);
        let off = select(most, 0.0, most < LEAST);
        for (var place = local; place < PLACES; place += WORKGROUP) {
            if counts && place < places {
                forward[at + place] = max(forward[at + place] - off, NO_PROBABILITY);
            }
        }
        storageBarrier();
        if local == 0u && counts {
            rows[4u * row] = bitcast<u32>(bitcast<f32>(rows[4u * row]) + off);
            follow(row, time);
            if time + 1u == length {
                var other = NO_PROBABILITY;
                if places > 1u {
                    other = forward[at + places - 2u];
                }
                finish(row, log_sum(forward[at + places - 1u], other, NO_PROBABILITY));
            }
        }
    }
}
