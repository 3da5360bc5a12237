// The end of a step whose h alternates between two halves of a buffer: the cell update, and where its h is written.

// `below` and `sum` are the bare sums over the level below and over the state.
fn finish(lane: u32, row: u32, step: u32, time: u32, unit: u32, below: Gates, sum: Gates) {
    let before = h[state_index(lane, row, step) + min(unit, STATE - 1u)];
    let after = state_index(lane, row, step + 1u) + unit;
    if is_masked(row, time) {
        if PARTIAL == 0u {
            h[after] = before;
            output[output_index(lane, row, time, unit)] = masked_output(lane, row, time, before);
        }
        return;
    }
    var x = Gates();
    if has_below(lane) {
        x = scaled(below, vector(lane, SCALE_BELOW), unit) + vector_at(vector(lane, BIAS), unit);
    } else {
        x = projected_at(projected_index(lane, row, step, unit));
    }
    let result = updated(lane, row, unit, x, scaled(sum, vector(lane, SCALE_OF_SUM), unit), before);
    if PARTIAL == 0u {
        h[after] = result;
        output[output_index(lane, row, time, unit)] = result;
    }
}
