// What the timesteps of a cell with a memory leave for a backward pass.

@group(0) @binding(6) var<storage, read_write> tape: array<f32>;

fn keep_state(local: u32, step: u32) {
    let at = tape_row(step);
    for (var i = local; i < HIDDEN; i += WORKGROUP) {
        tape[h_tape() + at * HIDDEN + i] = h[i];
        if CELL == 0u {
            tape[c_tape() + at * HIDDEN + i] = c[i];
        }
    }
    let of_heads = (READS + WRITES) * MEMORY_ROWS;
    for (var i = local; i < of_heads; i += WORKGROUP) {
        tape[weights_tape() + at * of_heads + i] = weight_at(i);
    }
    let numbers = MEMORY_ROWS * MEMORY_COLUMNS;
    for (var i = local; i < numbers; i += WORKGROUP) {
        tape[memory_tape() + at * numbers + i] = memory_at(i);
    }
}

fn keep_sums(local: u32, step: u32) {
    let at = tape_row(step);
    for (var i = local; i < Z; i += WORKGROUP) {
        tape[at * Z + i] = z[i];
    }
    for (var i = local; i < SUMS; i += WORKGROUP) {
        tape[sums_tape() + at * SUMS + i] = sums[i];
    }
}

fn keep_control(step: u32, p: u32, sum: f32) {
    tape[controls_tape() + tape_row(step) * CONTROLS + p] = sum;
}

// A masked timestep has no part in the products.
fn keep_nothing(local: u32, step: u32) {
    for (var i = local; i < Z; i += WORKGROUP) {
        tape[tape_row(step) * Z + i] = 0.0;
    }
}
