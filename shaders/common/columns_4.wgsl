// How a unit with 4 gates lies in the columns of a tile.

const GATES: u32 = 4u;

fn put_weights(at: u32, gates: Product) {
    right[at] = f16(gates.x);
    right[at + RIGHT_STRIDE] = f16(gates.y);
    right[at + 2u * RIGHT_STRIDE] = f16(gates.z);
    right[at + 3u * RIGHT_STRIDE] = f16(gates.w);
}

fn take_sums(at: u32) -> Gates {
    return vec4(sums[at], sums[at + 1u], sums[at + 2u], sums[at + 3u]);
}
