// A cell with a memory, all timesteps of a row: one workgroup a row. Reference: src/reference/ntm.rs.

override KEPT_ROWS: u32;           // N, or 1 if STORED

@group(0) @binding(1) var<storage, read> x: array<f32>;              // [T, B, I]
@group(0) @binding(2) var<storage, read> w: array<f32>;              // W, U, bias, extra, heads, their bias
@group(0) @binding(3) var<storage, read> mask: array<u32>;           // [T, B], if MASKED
@group(0) @binding(4) var<storage, read_write> state: array<f32>;    // h [B, H], c, read, weights, memory, scratch
@group(0) @binding(5) var<storage, read_write> output: array<f32>;   // [T, B, H + R*M] or [B, H + R*M]

var<workgroup> z: array<f32, Z>;
var<workgroup> h: array<f32, HIDDEN>;
var<workgroup> c: array<f32, HIDDEN>;
var<workgroup> sums: array<f32, SUMS>;
var<workgroup> scratch: array<f32, KEPT_ROWS>;

fn memory_at(at: u32) -> f32 {
    if STORED == 1u {
        return state[memory_place() + at];
    }
    return memory[at];
}

fn put_memory(at: u32, number: f32) {
    if STORED == 1u {
        state[memory_place() + at] = number;
    } else {
        memory[at] = number;
    }
}

fn weight_at(at: u32) -> f32 {
    if STORED == 1u {
        return state[weights_place() + at];
    }
    return weights[at];
}

fn put_weight(at: u32, number: f32) {
    if STORED == 1u {
        state[weights_place() + at] = number;
    } else {
        weights[at] = number;
    }
}

fn scratch_at(n: u32) -> f32 {
    if STORED == 1u {
        return state[params.scratch + row * MEMORY_ROWS + n];
    }
    return scratch[n];
}

fn put_scratch(n: u32, number: f32) {
    if STORED == 1u {
        state[params.scratch + row * MEMORY_ROWS + n] = number;
    } else {
        scratch[n] = number;
    }
}

// The sums of the controller, whose candidate's part that a GRU's reset gate multiplies lies apart.
fn add_up(local: u32) {
    let width = gate_rows();
    let of_state = Z * width;
    let bias = of_state + HIDDEN * width;
    for (var j = local; j < SUMS; j += WORKGROUP) {
        let apart = CELL == 1u && j >= 3u * HIDDEN;
        let column = select(j, j - HIDDEN, apart);
        var sum = w[bias + j];
        if !apart {
            for (var k = 0u; k < Z; k++) {
                sum += z[k] * w[k * width + j];
            }
        }
        if CELL != 1u || j < 2u * HIDDEN || apart {
            for (var k = 0u; k < HIDDEN; k++) {
                sum += h[k] * w[of_state + k * width + column];
            }
        }
        sums[j] = sum;
    }
}

fn advance(unit: u32) {
    if CELL == 0u {
        let i = sigmoid(sums[unit]);
        let f = sigmoid(sums[HIDDEN + unit]);
        let g = guarded_tanh(sums[2u * HIDDEN + unit]);
        let o = sigmoid(sums[3u * HIDDEN + unit]);
        let after = f * c[unit] + i * g;
        c[unit] = after;
        h[unit] = o * guarded_tanh(after);
    } else if CELL == 1u {
        let r = sigmoid(sums[unit]);
        let u = sigmoid(sums[HIDDEN + unit]);
        let n = guarded_tanh(sums[2u * HIDDEN + unit] + r * sums[3u * HIDDEN + unit]);
        h[unit] = (1.0 - u) * n + u * h[unit];
    } else {
        h[unit] = guarded_tanh(sums[unit]);
    }
}

// What the controller gives the heads.
fn control(local: u32, step: u32) {
    let first = (Z + HIDDEN) * gate_rows() + SUMS;
    for (var p = local; p < CONTROLS; p += WORKGROUP) {
        var sum = w[first + HIDDEN * CONTROLS + p];
        for (var k = 0u; k < HIDDEN; k++) {
            sum += h[k] * w[first + k * CONTROLS + p];
        }
        keep_control(step, p, sum);
        controls[p] = control_of(p, sum);
    }
}

fn address(local: u32, head: u32) {
    let first = head * of_head();
    let count = 2u * SHIFTS + 1u;
    let scalars = first + MEMORY_COLUMNS;
    let beta = positive(controls[scalars]);
    let gate = sigmoid(controls[scalars + 1u]);
    let gamma = 1.0 + positive(controls[scalars + 2u + count]);
    let own = head * MEMORY_ROWS;
    var key_square = 0.0;
    for (var m = 0u; m < MEMORY_COLUMNS; m++) {
        key_square += controls[first + m] * controls[first + m];
    }
    let key_norm = sqrt(key_square);

    var highest = -3.4028234e38;
    for (var n = local; n < MEMORY_ROWS; n += WORKGROUP) {
        var product = 0.0;
        var square = 0.0;
        for (var m = 0u; m < MEMORY_COLUMNS; m++) {
            let number = memory_at(n * MEMORY_COLUMNS + m);
            product += number * controls[first + m];
            square += number * number;
        }
        let score = beta * (product / (sqrt(square) * key_norm + 1e-8));
        put_scratch(n, score);
        highest = max(highest, score);
    }
    highest = reduced(local, highest, true);
    var sum = 0.0;
    for (var n = local; n < MEMORY_ROWS; n += WORKGROUP) {
        let share = exp(scratch_at(n) - highest);
        put_scratch(n, share);
        sum += share;
    }
    sum = reduced(local, sum, false);
    for (var n = local; n < MEMORY_ROWS; n += WORKGROUP) {
        put_weight(own + n, gate * (scratch_at(n) / sum) + (1.0 - gate) * weight_at(own + n));
    }
    together();

    var most = controls[scalars + 2u];
    for (var place = 1u; place < count; place++) {
        most = max(most, controls[scalars + 2u + place]);
    }
    var shares = 0.0;
    for (var place = 0u; place < count; place++) {
        shares += exp(controls[scalars + 2u + place] - most);
    }
    highest = 0.0;
    for (var n = local; n < MEMORY_ROWS; n += WORKGROUP) {
        var shifted = 1e-16;
        for (var place = 0u; place < count; place++) {
            shifted += exp(controls[scalars + 2u + place] - most) / shares * weight_at(own + shifted_from(n, place));
        }
        put_scratch(n, shifted);
        highest = max(highest, shifted);
    }
    highest = reduced(local, highest, true);
    sum = 0.0;
    for (var n = local; n < MEMORY_ROWS; n += WORKGROUP) {
        // As a share of the highest: logarithms near 0 are the most exact.
        let share = exp(gamma * log(scratch_at(n) / highest));
        put_scratch(n, share);
        sum += share;
    }
    sum = reduced(local, sum, false);
    for (var n = local; n < MEMORY_ROWS; n += WORKGROUP) {
        put_weight(own + n, scratch_at(n) / sum);
    }
    together();
}

fn read_memory(local: u32, head: u32) {
    let groups = WORKGROUP / span();
    let group = local / span();
    for (var first = 0u; first < MEMORY_COLUMNS; first += span()) {
        let column = first + local % span();
        var sum = 0.0;
        if group < groups && column < MEMORY_COLUMNS {
            for (var n = group; n < MEMORY_ROWS; n += groups) {
                sum += weight_at(head * MEMORY_ROWS + n) * memory_at(n * MEMORY_COLUMNS + column);
            }
        }
        sum = over_groups(local, sum);
        if group == 0u && column < MEMORY_COLUMNS {
            z[INPUTS + head * MEMORY_COLUMNS + column] = sum;
        }
    }
    together();
}

fn write_memory(local: u32, write: u32) {
    let erase = erase_place(write);
    let own = (READS + write) * MEMORY_ROWS;
    for (var at = local; at < MEMORY_ROWS * MEMORY_COLUMNS; at += WORKGROUP) {
        let column = erase + at % MEMORY_COLUMNS;
        let weight = weight_at(own + at / MEMORY_COLUMNS);
        put_memory(at, written(memory_at(at), weight, controls[column], controls[column + MEMORY_COLUMNS]));
    }
    together();
}

fn put_output(local: u32, at: u32) {
    let width = HIDDEN + READS * MEMORY_COLUMNS;
    for (var i = local; i < HIDDEN; i += WORKGROUP) {
        output[at * width + i] = h[i];
    }
    for (var i = local; i < READS * MEMORY_COLUMNS; i += WORKGROUP) {
        output[at * width + HIDDEN + i] = z[INPUTS + i];
    }
}

@compute @workgroup_size(WORKGROUP)
fn ntm(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let own = group.x + group.y * groups.x;
    if own >= params.rows {
        return;
    }
    row = own;
    let read_size = READS * MEMORY_COLUMNS;
    for (var i = local; i < HIDDEN; i += WORKGROUP) {
        h[i] = state[own * HIDDEN + i];
        if CELL == 0u {
            c[i] = state[params.c + own * HIDDEN + i];
        }
    }
    for (var i = local; i < read_size; i += WORKGROUP) {
        z[INPUTS + i] = state[params.read + own * read_size + i];
    }
    if STORED == 0u {
        for (var i = local; i < KEPT_WEIGHTS; i += WORKGROUP) {
            weights[i] = state[weights_place() + i];
        }
        for (var i = local; i < KEPT_MEMORY; i += WORKGROUP) {
            memory[i] = state[memory_place() + i];
        }
    }
    together();

    for (var step = params.first; step < params.end; step++) {
        keep_state(local, step);
        let at = step * params.rows + own;
        var counts = true;
        if MASKED == 1u {
            counts = (mask[at] & 1u) != 0u;
        }
        if counts {
            for (var i = local; i < INPUTS; i += WORKGROUP) {
                z[i] = x[at * INPUTS + i];
            }
            together();
            add_up(local);
            keep_sums(local, step);
            together();
            for (var unit = local; unit < HIDDEN; unit += WORKGROUP) {
                advance(unit);
            }
            together();
            control(local, step);
            together();
            for (var writes = 0u; writes <= WRITES; writes++) {
                for (var head = 0u; head < READS + WRITES; head++) {
                    if writes_before(head) == writes {
                        address(local, head);
                        if head < READS {
                            read_memory(local, head);
                        }
                    }
                }
                if writes < WRITES {
                    write_memory(local, writes);
                }
            }
            if LAST == 0u {
                put_output(local, at);
            }
        } else {
            keep_nothing(local, step);
            if LAST == 0u {
                let width = HIDDEN + read_size;
                for (var i = local; i < width; i += WORKGROUP) {
                    output[at * width + i] = 0.0;
                }
            }
        }
    }

    keep_state(local, params.end);
    for (var i = local; i < HIDDEN; i += WORKGROUP) {
        state[own * HIDDEN + i] = h[i];
        if CELL == 0u {
            state[params.c + own * HIDDEN + i] = c[i];
        }
    }
    for (var i = local; i < read_size; i += WORKGROUP) {
        state[params.read + own * read_size + i] = z[INPUTS + i];
    }
    if STORED == 0u {
        for (var i = local; i < KEPT_WEIGHTS; i += WORKGROUP) {
            state[weights_place() + i] = weights[i];
        }
        for (var i = local; i < KEPT_MEMORY; i += WORKGROUP) {
            state[memory_place() + i] = memory[i];
        }
    }
    if LAST == 1u && params.end == params.steps {
        put_output(local, own);
    }
}
