// Sums that several invocations share: products are added one after the other, a multiply-add for each and no addition besides.
// Where an invocation has a whole sum, four products at a time are summed first, which rounds less.

fn added(sum: Gates, state: vec4<f32>, weights: array<Product, 4>) -> Gates {
    if SPLIT == 1u {
        return sum + product(state, weights);
    }
    let start = begun(sum, state);
    return (((start + state.x * weights[0]) + state.y * weights[1]) + state.z * weights[2]) + state.w * weights[3];
}
