// Weights read from memory at every step.

fn hold(base: u32, unit: u32, y: u32) {}

// The sums after all turns. One at a time: of 1,024 invocations each has 64 registers on NVIDIA and GCN, and weights under way
// take 16 a turn; so many invocations hide the wait between them.
fn after_turns(sums: Sums, first: u32, base: u32, unit: u32, y: u32) -> Sums {
    var after = sums;
    for (var turn = 0u; turn < TURNS; turn++) {
        let quad = min(turn * SPLIT + part_of(y), STATE_QUADS - 1u);
        after = after_turn(after, first, turn, y, decoded(words_at(base, quad, unit)));
    }
    return after;
}
