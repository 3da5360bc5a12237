// A run of a cell with a memory leaves nothing for a backward pass.

fn keep_state(local: u32, step: u32) {}

fn keep_sums(local: u32, step: u32) {}

fn keep_control(step: u32, p: u32, sum: f32) {}

fn keep_nothing(local: u32, step: u32) {}
