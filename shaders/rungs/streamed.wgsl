// Weights read from memory at every step.

fn hold(base: u32, unit: u32, first: u32) {}

fn weights_at(turn: u32, base: u32, quad: u32, unit: u32) -> array<Product, 4> {
    return decoded(words_at(base, quad, unit));
}
