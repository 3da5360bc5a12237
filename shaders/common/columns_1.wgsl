// How a unit with 1 gate lies in the columns of a tile.

const GATES: u32 = 1u;

fn put_weights(at: u32, gates: Product) {
    right[at] = f16(gates);
}

fn take_sums(at: u32) -> Gates {
    return sums[at];
}
