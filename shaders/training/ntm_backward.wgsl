// The gradients of a cell with a memory, from the last timestep to the first: one workgroup a row. The tape's sums and controls
// become their gradients, from which those of the weights are products over all timesteps.
// Reference: src/reference/ntm_backward.rs.

override INPUT_FIRST: u32;         // where W [G*H, Z] begins in the parameters
override STATE_FIRST: u32;         // U [G*H, H]
override HEADS_FIRST: u32;         // Wp [P, H]
override SCRATCH: u32;             // 3 * N, or 1 if STORED

@group(0) @binding(1) var<storage, read> parameters: array<f32>;
@group(0) @binding(2) var<storage, read> mask: array<u32>;              // [T, B], if MASKED
@group(0) @binding(3) var<storage, read> d_output: array<f32>;          // [T, B, H + R*M] or [B, H + R*M]
@group(0) @binding(4) var<storage, read_write> tape: array<f32>;
// Gradients of the state, which lie as it does, then for each row [3, N] and the memory between the writes [W - 1, N, M].
@group(0) @binding(5) var<storage, read_write> carry: array<f32>;

var<workgroup> d_controls: array<f32, CONTROLS>;
var<workgroup> d_sums: array<f32, SUMS>;
var<workgroup> scratch: array<f32, SCRATCH>;

// Rows of the tape in front of the timestep and behind it.
var<private> before: u32;
var<private> after: u32;

// Arrays in the scratch: the shares by content, the gated weights, the gradients of the shifted ones.
const CONTENT: u32 = 0u;
const GATED: u32 = 1u;
const SHIFTED: u32 = 2u;

fn scratch_place() -> u32 {
    return params.scratch + row * (3u + (WRITES - 1u) * MEMORY_COLUMNS) * MEMORY_ROWS;
}

fn scratch_at(part: u32, n: u32) -> f32 {
    if STORED == 1u {
        return carry[scratch_place() + part * MEMORY_ROWS + n];
    }
    return scratch[part * MEMORY_ROWS + n];
}

fn put_scratch(part: u32, n: u32, number: f32) {
    if STORED == 1u {
        carry[scratch_place() + part * MEMORY_ROWS + n] = number;
    } else {
        scratch[part * MEMORY_ROWS + n] = number;
    }
}

fn d_memory_at(at: u32) -> f32 {
    if STORED == 1u {
        return carry[memory_place() + at];
    }
    return memory[at];
}

fn put_d_memory(at: u32, number: f32) {
    if STORED == 1u {
        carry[memory_place() + at] = number;
    } else {
        memory[at] = number;
    }
}

fn d_weight_at(at: u32) -> f32 {
    if STORED == 1u {
        return carry[weights_place() + at];
    }
    return weights[at];
}

fn put_d_weight(at: u32, number: f32) {
    if STORED == 1u {
        carry[weights_place() + at] = number;
    } else {
        weights[at] = number;
    }
}

// A number of the memory after so many writes of the timestep.
fn memory_after(writes: u32, at: u32) -> f32 {
    let numbers = MEMORY_ROWS * MEMORY_COLUMNS;
    if writes == 0u {
        return tape[memory_tape() + before * numbers + at];
    }
    if writes == WRITES {
        return tape[memory_tape() + after * numbers + at];
    }
    return carry[scratch_place() + 3u * MEMORY_ROWS + (writes - 1u) * numbers + at];
}

// Weights of all heads in front of a timestep or behind it.
fn weight_in(tape_row: u32, at: u32) -> f32 {
    return tape[weights_tape() + tape_row * (READS + WRITES) * MEMORY_ROWS + at];
}

// The memory between the writes.
fn write_again(local: u32) {
    let numbers = MEMORY_ROWS * MEMORY_COLUMNS;
    for (var write = 0u; write + 1u < WRITES; write++) {
        let place = scratch_place() + 3u * MEMORY_ROWS + write * numbers;
        for (var at = local; at < numbers; at += WORKGROUP) {
            let column = erase_place(write) + at % MEMORY_COLUMNS;
            let weight = weight_in(after, (READS + write) * MEMORY_ROWS + at / MEMORY_COLUMNS);
            let number = memory_after(write, at);
            carry[place + at] = written(number, weight, controls[column], controls[column + MEMORY_COLUMNS]);
        }
        together();
    }
}

// The gradient of the memory after a write becomes that before it.
fn write_backward(local: u32, write: u32) {
    let own = (READS + write) * MEMORY_ROWS;
    let erase = erase_place(write);
    let add = erase + MEMORY_COLUMNS;
    let groups = WORKGROUP / span();
    let group = local / span();
    for (var first = 0u; first < MEMORY_COLUMNS; first += span()) {
        let column = first + local % span();
        var of_erase = 0.0;
        var of_add = 0.0;
        if group < groups && column < MEMORY_COLUMNS {
            for (var n = group; n < MEMORY_ROWS; n += groups) {
                let at = n * MEMORY_COLUMNS + column;
                let d = d_memory_at(at) * weight_in(after, own + n);
                of_erase -= d * memory_after(write, at);
                of_add += d;
            }
        }
        of_erase = over_groups(local, of_erase);
        of_add = over_groups(local, of_add);
        if group == 0u && column < MEMORY_COLUMNS {
            let e = controls[erase + column];
            let a = controls[add + column];
            d_controls[erase + column] = of_erase * e * (1.0 - e);
            d_controls[add + column] = of_add * select(1.0, 1.0 - a * a, TANH_ADD == 1u);
        }
    }
    together();
    for (var n = local; n < MEMORY_ROWS; n += WORKGROUP) {
        let weight = weight_in(after, own + n);
        var sum = 0.0;
        for (var m = 0u; m < MEMORY_COLUMNS; m++) {
            let at = n * MEMORY_COLUMNS + m;
            let d = d_memory_at(at);
            sum += d * (controls[add + m] - memory_after(write, at) * controls[erase + m]);
            put_d_memory(at, d * (1.0 - weight * controls[erase + m]));
        }
        put_d_weight(own + n, d_weight_at(own + n) + sum);
    }
    together();
}

fn read_backward(local: u32, head: u32, writes: u32) {
    let own = head * MEMORY_ROWS;
    let d_read = params.read + row * READS * MEMORY_COLUMNS + head * MEMORY_COLUMNS;
    for (var n = local; n < MEMORY_ROWS; n += WORKGROUP) {
        let weight = weight_in(after, own + n);
        var sum = 0.0;
        for (var m = 0u; m < MEMORY_COLUMNS; m++) {
            let at = n * MEMORY_COLUMNS + m;
            let d = carry[d_read + m];
            sum += d * memory_after(writes, at);
            put_d_memory(at, d_memory_at(at) + weight * d);
        }
        put_d_weight(own + n, d_weight_at(own + n) + sum);
    }
    together();
}

// The gradient of a head's weights becomes that of its weights before.
fn address_backward(local: u32, head: u32, writes: u32) {
    let first = head * of_head();
    let count = 2u * SHIFTS + 1u;
    let scalars = first + MEMORY_COLUMNS;
    let beta = positive(controls[scalars]);
    let gate = sigmoid(controls[scalars + 1u]);
    let sharpness = scalars + 2u + count;
    let gamma = 1.0 + positive(controls[sharpness]);
    let own = head * MEMORY_ROWS;
    var key_square = 0.0;
    for (var m = 0u; m < MEMORY_COLUMNS; m++) {
        key_square += controls[first + m] * controls[first + m];
    }
    let key_norm = sqrt(key_square);
    var most = controls[scalars + 2u];
    for (var place = 1u; place < count; place++) {
        most = max(most, controls[scalars + 2u + place]);
    }
    var shares = 0.0;
    for (var place = 0u; place < count; place++) {
        shares += exp(controls[scalars + 2u + place] - most);
    }

    // The shares by content and the gated weights again.
    var highest = -3.4028234e38;
    for (var n = local; n < MEMORY_ROWS; n += WORKGROUP) {
        let score = beta * cosine(n, writes, first, key_norm);
        put_scratch(CONTENT, n, score);
        highest = max(highest, score);
    }
    highest = reduced(local, highest, true);
    var sum = 0.0;
    for (var n = local; n < MEMORY_ROWS; n += WORKGROUP) {
        let share = exp(scratch_at(CONTENT, n) - highest);
        put_scratch(CONTENT, n, share);
        sum += share;
    }
    sum = reduced(local, sum, false);
    var mean = 0.0;
    for (var n = local; n < MEMORY_ROWS; n += WORKGROUP) {
        let content = scratch_at(CONTENT, n) / sum;
        put_scratch(CONTENT, n, content);
        put_scratch(GATED, n, gate * content + (1.0 - gate) * weight_in(before, own + n));
        mean += weight_in(after, own + n) * d_weight_at(own + n);
    }
    mean = reduced(local, mean, false);

    // Sharpening.
    highest = 0.0;
    for (var n = local; n < MEMORY_ROWS; n += WORKGROUP) {
        var shifted = 1e-16;
        for (var place = 0u; place < count; place++) {
            let share = exp(controls[scalars + 2u + place] - most) / shares;
            shifted += share * scratch_at(GATED, shifted_from(n, place));
        }
        put_scratch(SHIFTED, n, shifted);
        highest = max(highest, shifted);
    }
    highest = reduced(local, highest, true);
    var d_gamma = 0.0;
    for (var n = local; n < MEMORY_ROWS; n += WORKGROUP) {
        let shifted = scratch_at(SHIFTED, n);
        let d = weight_in(after, own + n) * (d_weight_at(own + n) - mean);
        // The gradients of the logits add up to 0: what is common to all logarithms gives nothing.
        d_gamma += d * log(shifted / highest);
        put_scratch(SHIFTED, n, d * gamma / shifted);
    }
    d_gamma = reduced(local, d_gamma, false);

    // Shift.
    for (var place = 0u; place < count; place++) {
        var d = 0.0;
        for (var n = local; n < MEMORY_ROWS; n += WORKGROUP) {
            d += scratch_at(SHIFTED, n) * scratch_at(GATED, shifted_from(n, place));
        }
        d = reduced(local, d, false);
        if local == 0u {
            d_controls[scalars + 2u + place] = d;
        }
    }
    together();

    // Gate.
    var d_gate = 0.0;
    mean = 0.0;
    for (var n = local; n < MEMORY_ROWS; n += WORKGROUP) {
        var d = 0.0;
        for (var place = 0u; place < count; place++) {
            let share = exp(controls[scalars + 2u + place] - most) / shares;
            d += share * scratch_at(SHIFTED, (n + MEMORY_ROWS + place - SHIFTS) % MEMORY_ROWS);
        }
        let content = scratch_at(CONTENT, n);
        put_scratch(GATED, n, d);
        put_d_weight(own + n, (1.0 - gate) * d);
        d_gate += d * (content - weight_in(before, own + n));
        mean += content * gate * d;
    }
    d_gate = reduced(local, d_gate, false);
    mean = reduced(local, mean, false);

    // Content.
    var d_beta = 0.0;
    var of_norms = 0.0;
    for (var n = local; n < MEMORY_ROWS; n += WORKGROUP) {
        let d = scratch_at(CONTENT, n) * (gate * scratch_at(GATED, n) - mean);
        var square = 0.0;
        for (var m = 0u; m < MEMORY_COLUMNS; m++) {
            let number = memory_after(writes, n * MEMORY_COLUMNS + m);
            square += number * number;
        }
        let norm = sqrt(square);
        let cos = cosine(n, writes, first, key_norm);
        let divisor = norm * key_norm + 1e-8;
        let of_product = beta * d / divisor;
        let of_divisor = -(beta * d * cos / divisor);
        d_beta += d * cos;
        of_norms += of_divisor * norm;
        var of_row = 0.0;
        if norm > 0.0 {
            of_row = of_divisor * key_norm / norm;
        }
        for (var m = 0u; m < MEMORY_COLUMNS; m++) {
            let at = n * MEMORY_COLUMNS + m;
            put_d_memory(at, d_memory_at(at) + of_product * controls[first + m] + of_row * memory_after(writes, at));
        }
        put_scratch(SHIFTED, n, of_product);
    }
    d_beta = reduced(local, d_beta, false);
    of_norms = reduced(local, of_norms, false);
    key_backward(local, writes, first, of_norms, key_norm);

    if local == 0u {
        var shift_mean = 0.0;
        for (var place = 0u; place < count; place++) {
            let share = exp(controls[scalars + 2u + place] - most) / shares;
            shift_mean += share * d_controls[scalars + 2u + place];
        }
        for (var place = 0u; place < count; place++) {
            let share = exp(controls[scalars + 2u + place] - most) / shares;
            d_controls[scalars + 2u + place] = share * (d_controls[scalars + 2u + place] - shift_mean);
        }
        d_controls[scalars] = d_beta * sigmoid(controls[scalars]);
        d_controls[scalars + 1u] = d_gate * gate * (1.0 - gate);
        d_controls[sharpness] = d_gamma * sigmoid(controls[sharpness]);
    }
    together();
}

// How alike a row of the memory and a key are.
fn cosine(n: u32, writes: u32, first: u32, key_norm: f32) -> f32 {
    var product = 0.0;
    var square = 0.0;
    for (var m = 0u; m < MEMORY_COLUMNS; m++) {
        let number = memory_after(writes, n * MEMORY_COLUMNS + m);
        product += number * controls[first + m];
        square += number * number;
    }
    return product / (sqrt(square) * key_norm + 1e-8);
}

// The gradient of a key, from those of its products with the rows in the scratch and that of its norm.
fn key_backward(local: u32, writes: u32, key: u32, of_norms: f32, key_norm: f32) {
    let groups = WORKGROUP / span();
    let group = local / span();
    var of_key = 0.0;
    if key_norm > 0.0 {
        of_key = of_norms / key_norm;
    }
    together();
    for (var first = 0u; first < MEMORY_COLUMNS; first += span()) {
        let column = first + local % span();
        var sum = 0.0;
        if group < groups && column < MEMORY_COLUMNS {
            for (var n = group; n < MEMORY_ROWS; n += groups) {
                sum += scratch_at(SHIFTED, n) * memory_after(writes, n * MEMORY_COLUMNS + column);
            }
        }
        sum = over_groups(local, sum);
        if group == 0u && column < MEMORY_COLUMNS {
            let number = controls[key + column];
            let d = sum + of_key * number;
            d_controls[key + column] = d * select(1.0, 1.0 - number * number, TANH_KEY == 1u);
        }
    }
}

// The gradients of the sums of a unit from that of its h, which becomes that of h before as far as no product with U gives it.
fn unit_backward(unit: u32, d_h: f32) {
    let sums = sums_tape() + before * SUMS;
    let h = h_tape() + before * HIDDEN + unit;
    let own = row * HIDDEN + unit;
    if CELL == 0u {
        let i = sigmoid(tape[sums + unit]);
        let f = sigmoid(tape[sums + HIDDEN + unit]);
        let g = guarded_tanh(tape[sums + 2u * HIDDEN + unit]);
        let o = sigmoid(tape[sums + 3u * HIDDEN + unit]);
        let squashed = guarded_tanh(tape[c_tape() + after * HIDDEN + unit]);
        let d_c = carry[params.c + own] + d_h * o * (1.0 - squashed * squashed);
        d_sums[unit] = d_c * g * i * (1.0 - i);
        d_sums[HIDDEN + unit] = d_c * tape[c_tape() + before * HIDDEN + unit] * f * (1.0 - f);
        d_sums[2u * HIDDEN + unit] = d_c * i * (1.0 - g * g);
        d_sums[3u * HIDDEN + unit] = d_h * squashed * o * (1.0 - o);
        carry[params.c + own] = d_c * f;
        carry[own] = 0.0;
    } else if CELL == 1u {
        let r = sigmoid(tape[sums + unit]);
        let u = sigmoid(tape[sums + HIDDEN + unit]);
        let of_state = tape[sums + 3u * HIDDEN + unit];
        let n = guarded_tanh(tape[sums + 2u * HIDDEN + unit] + r * of_state);
        let d_n = d_h * (1.0 - u) * (1.0 - n * n);
        d_sums[unit] = d_n * of_state * r * (1.0 - r);
        d_sums[HIDDEN + unit] = d_h * (tape[h] - n) * u * (1.0 - u);
        d_sums[2u * HIDDEN + unit] = d_n;
        d_sums[3u * HIDDEN + unit] = d_n * r;
        carry[own] = d_h * u;
    } else {
        let squashed = guarded_tanh(tape[sums + unit]);
        d_sums[unit] = d_h * (1.0 - squashed * squashed);
        carry[own] = 0.0;
    }
}

// What the products with U and W hand on to the step before.
fn products_backward(local: u32) {
    for (var unit = local; unit < HIDDEN; unit += WORKGROUP) {
        var sum = carry[row * HIDDEN + unit];
        for (var j = 0u; j < gate_rows(); j++) {
            // A GRU's candidate has the gradient of its product with h apart.
            let apart = CELL == 1u && j >= 2u * HIDDEN;
            sum += parameters[STATE_FIRST + j * HIDDEN + unit] * d_sums[select(j, j + HIDDEN, apart)];
        }
        carry[row * HIDDEN + unit] = sum;
    }
    let read_size = READS * MEMORY_COLUMNS;
    for (var k = local; k < read_size; k += WORKGROUP) {
        var sum = 0.0;
        for (var j = 0u; j < gate_rows(); j++) {
            sum += parameters[INPUT_FIRST + j * Z + INPUTS + k] * d_sums[j];
        }
        carry[params.read + row * read_size + k] = sum;
    }
}

fn step_backward(local: u32) {
    for (var p = local; p < CONTROLS; p += WORKGROUP) {
        controls[p] = control_of(p, tape[controls_tape() + before * CONTROLS + p]);
    }
    together();
    write_again(local);
    for (var left = 0u; left <= WRITES; left++) {
        let writes = WRITES - left;
        if writes < WRITES {
            write_backward(local, writes);
        }
        for (var head = 0u; head < READS + WRITES; head++) {
            if writes_before(head) == writes {
                if head < READS {
                    read_backward(local, head, writes);
                }
                address_backward(local, head, writes);
            }
        }
    }
    // Where a number was bounded, nothing is left of its gradient.
    for (var p = local; p < CONTROLS; p += WORKGROUP) {
        let at = controls_tape() + before * CONTROLS + p;
        let is_bounded = CLIP_CONTROLS > 0.0 && abs(tape[at]) > CLIP_CONTROLS;
        let d = select(d_controls[p], 0.0, is_bounded);
        d_controls[p] = d;
        tape[at] = d;
    }
    together();
    for (var unit = local; unit < HIDDEN; unit += WORKGROUP) {
        var d_h = carry[row * HIDDEN + unit];
        for (var p = 0u; p < CONTROLS; p++) {
            d_h += parameters[HEADS_FIRST + p * HIDDEN + unit] * d_controls[p];
        }
        unit_backward(unit, d_h);
    }
    together();
    for (var j = local; j < SUMS; j += WORKGROUP) {
        tape[sums_tape() + before * SUMS + j] = d_sums[j];
    }
    products_backward(local);
    together();
}

// The gradient of what the layer handed on at a row of its output.
fn add_output(local: u32, at: u32) {
    let read_size = READS * MEMORY_COLUMNS;
    let width = HIDDEN + read_size;
    for (var i = local; i < HIDDEN; i += WORKGROUP) {
        carry[row * HIDDEN + i] += d_output[at * width + i];
    }
    for (var i = local; i < read_size; i += WORKGROUP) {
        carry[params.read + row * read_size + i] += d_output[at * width + HIDDEN + i];
    }
    together();
}

@compute @workgroup_size(WORKGROUP)
fn ntm_backward(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let own = group.x + group.y * groups.x;
    if own >= params.rows {
        return;
    }
    row = own;
    if STORED == 0u {
        for (var i = local; i < KEPT_WEIGHTS; i += WORKGROUP) {
            weights[i] = carry[weights_place() + i];
        }
        for (var i = local; i < KEPT_MEMORY; i += WORKGROUP) {
            memory[i] = carry[memory_place() + i];
        }
    }
    together();
    if LAST == 1u && params.end == params.steps {
        add_output(local, own);
    }
    for (var left = params.first; left < params.end; left++) {
        let step = params.first + params.end - 1u - left;
        let at = step * params.rows + own;
        before = tape_row(step);
        after = tape_row(step + 1u);
        var counts = true;
        if MASKED == 1u {
            counts = (mask[at] & 1u) != 0u;
        }
        if counts {
            if LAST == 0u {
                add_output(local, at);
            }
            step_backward(local);
        } else {
            for (var j = local; j < SUMS; j += WORKGROUP) {
                tape[sums_tape() + before * SUMS + j] = 0.0;
            }
            for (var p = local; p < CONTROLS; p += WORKGROUP) {
                tape[controls_tape() + before * CONTROLS + p] = 0.0;
            }
        }
    }
    if STORED == 0u {
        for (var i = local; i < KEPT_WEIGHTS; i += WORKGROUP) {
            carry[weights_place() + i] = weights[i];
        }
        for (var i = local; i < KEPT_MEMORY; i += WORKGROUP) {
            carry[memory_place() + i] = memory[i];
        }
    }
}
