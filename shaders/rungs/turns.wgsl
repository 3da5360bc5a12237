// The sum over h in workgroup memory, a quad of k at a time.

alias Sums = Gates;

// The sum after one turn. Past an edge the last does it again and is dropped. No branch: all read the same state.
fn after_turn(sum: Sums, first: u32, turn: u32, y: u32, weights: array<Product, 4>) -> Sums {
    let i = turn * SPLIT + part_of(y);
    if STATE_QUADS % SPLIT == 0u {
        return added(sum, state_quad(i), weights);
    }
    let numbers = select(state_quad(min(i, STATE_QUADS - 1u)), vec4<f32>(), vec4<bool>(i >= STATE_QUADS));
    return added(sum, numbers, weights);
}

// This invocation's part of the sum of `unit`.
fn summed(base: u32, unit: u32, y: u32) -> Gates {
    return after_turns(Gates(), 0u, base, min(unit, WIDTH - 1u), y);
}
