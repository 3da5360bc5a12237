// How a unit with 2 gates lies in the columns of a tile.

const GATES: u32 = 2u;

fn put_weights(at: u32, gates: Product) {
    right[at] = f16(gates.x);
    right[at + RIGHT_STRIDE] = f16(gates.y);
}

fn take_sums(at: u32) -> Gates {
    return vec2(sums[at], sums[at + 1u]);
}
