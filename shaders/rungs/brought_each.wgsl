// Every invocation fetches all of h before it sums.

var<private> brought: array<array<vec4<f32>, BLOCK>, BLOCKS>;

fn bring() {
    for (var i = params.first; i < params.first + STATE_QUADS; i++) {
        let quad = i - params.first;
        brought[quad / BLOCK][quad % BLOCK] = state[quad];
    }
}

fn of_block(block: u32) -> Gates {
    var sum = Gates();
    for (var i = 0u; i < BLOCK; i++) {
        sum += product(brought[block][i], held[block][i]);
    }
    return sum;
}
