// The sum over h in workgroup memory, a quad of k at a time.

// This invocation's part of the sum of `unit`.
fn summed(base: u32, unit: u32, y: u32) -> Gates {
    var sum = Gates();
    for (var turn = 0u; turn < TURNS; turn++) {
        // Past an edge the last does it again and is dropped. No branch: all read the same state.
        let i = turn * SPLIT + part_of(y);
        let quad = min(i, STATE_QUADS - 1u);
        let numbers = select(state[quad], vec4<f32>(), vec4<bool>(i >= STATE_QUADS));
        sum += product(numbers, weights_at(turn, base, quad, min(unit, WIDTH - 1u)));
    }
    return sum;
}
