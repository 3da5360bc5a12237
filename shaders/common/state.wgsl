// A cell that sums over h itself.

const SCALE_OF_SUM: u32 = SCALE;

fn state_start(lane: u32, row: u32, step: u32) -> u32 {
    return state_index(lane, row, step);
}

fn state_at(index: u32) -> f32 {
    return h[index];
}
