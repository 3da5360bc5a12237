// The masks of number k of h for the 3 gates of a product.

fn state_factors(lane: u32, row: u32, k: u32) -> Gates {
    return Gates(state_factor(lane, row, 0u, k), state_factor(lane, row, 1u, k), state_factor(lane, row, 2u, k));
}
