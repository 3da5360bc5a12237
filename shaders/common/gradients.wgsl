// What the products of a backward pass read.

// The gradients of number k of four rows from `row` on; past the last row those of the last.
fn gradients_at(lane: u32, time: u32, row: u32, k: u32) -> vec4<f32> {
    var gradients = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        gradients[i] = gradient_at(lane, time, min(row + i, params.rows - 1u), FROM + k);
    }
    return gradients;
}
