// The product of a backward step where it reads `sums` of the step behind.

// The step whose gradients the product reads.
fn source_step(step: u32) -> u32 {
    return step + 1u;
}

fn gradient_at(lane: u32, time: u32, row: u32, k: u32) -> f32 {
    if is_behind(lane, time) {
        return carry[behind_index(lane, row) + k];
    }
    return sums[sums_index(lane, time, row) + k];
}
