// The mask of number k of h for the one gate of a product.

fn state_factors(lane: u32, row: u32, k: u32) -> Gates {
    return state_factor(lane, row, 0u, k);
}
