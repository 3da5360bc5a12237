// The projected input of a cell of four gates, and in its place the whole sums of each timestep, for a backward pass.

@group(0) @binding(1) var<storage, read_write> projected: array<vec4<f32>>; // [LANES, T, B, H] of (i, f, g, o): W x + b, then + U h

var<private> kept_at: u32;   // where the input that was read last lies

fn projected_at(index: u32) -> Gates {
    kept_at = index;
    return projected[index];
}

// Keeps the sums of the unit whose input was read last.
fn keep_sums(sums: Gates) {
    projected[kept_at] = sums;
}
