// Sums to which four products at a time are added.

fn added(sum: Gates, state: vec4<f32>, weights: array<Product, 4>) -> Gates {
    return sum + product(state, weights);
}
