// Where the tape of a cell with a memory has what each of T' timesteps read and computed: z, the sums and the controls [T', B, ..],
// then the state h, c, weights and memory [T' + 1, B, ..] in front of each timestep and behind the last.

// The row of a timestep in each part.
fn tape_row(step: u32) -> u32 {
    return (step - params.tape_first) * params.rows + row;
}

fn sums_tape() -> u32 {
    return params.tape_steps * params.rows * Z;
}

fn controls_tape() -> u32 {
    return sums_tape() + params.tape_steps * params.rows * SUMS;
}

fn h_tape() -> u32 {
    return controls_tape() + params.tape_steps * params.rows * CONTROLS;
}

fn c_tape() -> u32 {
    return h_tape() + (params.tape_steps + 1u) * params.rows * HIDDEN;
}

fn weights_tape() -> u32 {
    return c_tape() + (params.tape_steps + 1u) * params.rows * select(0u, HIDDEN, CELL == 0u);
}

fn memory_tape() -> u32 {
    return weights_tape() + (params.tape_steps + 1u) * params.rows * (READS + WRITES) * MEMORY_ROWS;
}
