// CTC from the last step to the first: the gradient of the loss by the logits, the probability of each class less that to be at
// one of its places. Reference: src/reference/ctc.rs.

@group(0) @binding(6) var<storage, read_write> behind: array<f32>;   // [3, B, PLACES] all further steps, by parity; shares
@group(0) @binding(7) var<storage, read_write> d: array<f32>;        // [T, B, C]

// Pairs of targets: a label, and the index of the next equal one, counted from 1; FIRST is set in that of the first.
const FIRST: u32 = 0x80000000u;

fn pair(row: u32, index: u32) -> u32 {
    return targets[row * (2u + 2u * LABELS) + 3u + 2u * index];
}

@compute @workgroup_size(WORKGROUP)
fn ctc_backward(@builtin(local_invocation_index) local: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let row = group.x;
    let length = select(length_of(row), 0u, rows[4u * row + 3u] == 1u);
    let count = labels_of(row);
    let places = 2u * count + 1u;
    let share = f32(params.rows) * f32(max(count, 1u));
    let shares = (2u * params.rows + row) * PLACES;
    for (var i = 0u; i < params.stride; i++) {
        let number = params.first + repetition.number * params.stride + i;
        let inside = number < params.steps;
        let time = params.steps - 1u - min(number, params.steps - 1u);
        let counts = inside && time < length;
        let at = time * params.rows + row;
        let now = ((time & 1u) * params.rows + row) * PLACES;
        let next = (((time + 1u) & 1u) * params.rows + row) * PLACES;
        var most = NO_PROBABILITY;
        for (var place = local; place < PLACES; place += WORKGROUP) {
            if counts && place < places {
                if time + 1u == length {
                    behind[now + place] = select(NO_PROBABILITY, 0.0, place + 2u >= places);
                }
                most = max(most, forward[at * PLACES + place] + behind[now + place]);
            }
        }
        for (var k = local; k < FEATURES; k += WORKGROUP) {
            if inside {
                d[at * FEATURES + k] = 0.0;
            }
        }
        storageBarrier();
        most = greatest(local, most);
        var sum = 0.0;
        for (var place = local; place < PLACES; place += WORKGROUP) {
            if counts && place < places {
                sum += exp(forward[at * PLACES + place] + behind[now + place] - most);
            }
        }
        let all = most + log(total(local, sum));
        var blanks = 0.0;
        var highest = NO_PROBABILITY;
        for (var place = local; place < PLACES; place += WORKGROUP) {
            if counts && place < places {
                let here = exp(forward[at * PLACES + place] + behind[now + place] - all);
                behind[shares + place] = here;
                blanks += select(0.0, here, place % 2u == 0u);
                // From this place at the step before to the same one, the next, or the one behind a blank.
                let stays = behind[now + place] + log_probability(row, time, place);
                var goes = NO_PROBABILITY;
                if place + 1u < places {
                    goes = behind[now + place + 1u] + log_probability(row, time, place + 1u);
                }
                var skipped = NO_PROBABILITY;
                if place + 2u < places && skips(row, place + 2u) {
                    skipped = behind[now + place + 2u] + log_probability(row, time, place + 2u);
                }
                let before = max(log_sum(stays, goes, skipped), NO_PROBABILITY);
                behind[next + place] = before;
                highest = max(highest, before);
            }
        }
        storageBarrier();
        highest = greatest(local, highest);
        let off = select(highest, 0.0, highest < LEAST);
        blanks = total(local, blanks);
        for (var place = local; place < PLACES; place += WORKGROUP) {
            if counts && place < places {
                behind[next + place] = max(behind[next + place] - off, NO_PROBABILITY);
                let index = place / 2u;
                // The places of a label, in their order.
                if place % 2u == 1u && (pair(row, index) & FIRST) != 0u {
                    var of_label = 0.0;
                    var other = index + 1u;
                    while other > 0u {
                        of_label += behind[shares + 2u * other - 1u];
                        other = pair(row, other - 1u) & ~FIRST;
                    }
                    d[at * FEATURES + label(row, index)] = -of_label;
                }
                if place == 0u {
                    d[at * FEATURES + BLANK] = -blanks;
                }
            }
        }
        storageBarrier();
        workgroupBarrier();
        for (var k = local; k < FEATURES; k += WORKGROUP) {
            if counts {
                let probability = exp(x[at * FEATURES + k] - bitcast<f32>(steps[2u * at]));
                d[at * FEATURES + k] = (d[at * FEATURES + k] + probability) / share;
            }
        }
        storageBarrier();
        workgroupBarrier();
    }
}
