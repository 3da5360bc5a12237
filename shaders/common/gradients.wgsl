// What the products of a backward pass read.

// The gradients of number k of four rows from `row` on; past the last row those of the last.
fn gradients_at(lane: u32, time: u32, row: u32, k: u32) -> vec4<f32> {
    let rows = min(vec4<u32>(row, row + 1u, row + 2u, row + 3u), vec4<u32>(params.rows - 1u));
    return vec4<f32>(
        gradient_at(lane, time, rows.x, FROM + k),
        gradient_at(lane, time, rows.y, FROM + k),
        gradient_at(lane, time, rows.z, FROM + k),
        gradient_at(lane, time, rows.w, FROM + k),
    );
}
