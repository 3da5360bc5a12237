// Weights read once and held in registers: each invocation keeps those of one unit for the quads
// of k that are its own.

const HELD: u32 = 16u / WORDS;    // 16 words in registers
var<private> held: array<Words, HELD>;

fn hold(base: u32, unit: u32, first: u32) {
    for (var turn = 0u; turn < HELD; turn++) {
        let quad = min(turn * SPLIT + first, STATE_QUADS - 1u);
        if turn < TURNS {
            held[turn] = words_at(base, quad, min(unit, WIDTH - 1u));
        }
    }
}

fn weights_at(turn: u32, base: u32, quad: u32, unit: u32) -> array<Product, 4> {
    return decoded(held[turn]);
}
