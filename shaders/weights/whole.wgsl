// Products with weights that are decoded to what they are.

// What a sum is before four products are added to it.
fn begun(sum: Gates, state: vec4<f32>) -> Gates {
    return sum;
}

// The sum of four terms, in the arithmetic that the format asks for.
fn product(state: vec4<f32>, weights: array<Product, 4>) -> Gates {
    return Gates(Real(state.x) * weights[0] + Real(state.y) * weights[1] + Real(state.z) * weights[2]
        + Real(state.w) * weights[3]);
}
