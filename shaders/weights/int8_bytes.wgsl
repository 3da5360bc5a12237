// Products with 8-bit integers that are decoded to the byte that stands for them, 128 more: GPUs convert an unsigned byte in
// one instruction, a signed one in two.

fn decoded(words: Words) -> array<Product, 4> {
    let word = words[0];
    return array<Product, 4>(
        Product(byte(word, 0u)), Product(byte(word, 1u)), Product(byte(word, 2u)), Product(byte(word, 3u)),
    );
}

// What a sum is before four products are added to it: less what the bytes have too much, so that no sum grows with it.
fn begun(sum: Gates, state: vec4<f32>) -> Gates {
    return sum - 128.0 * (state.x + state.y + state.z + state.w);
}

// The sum of four terms.
fn product(state: vec4<f32>, weights: array<Product, 4>) -> Gates {
    let start = begun(Gates(), state);
    return (((start + state.x * weights[0]) + state.y * weights[1]) + state.z * weights[2]) + state.w * weights[3];
}
