// Of each block an invocation fetches one quad of h, and the others of its subgroup, eight in all, have it from there.

var<private> brought: array<vec4<f32>, BLOCKS>;

fn bring() {
    // All are active here, so that this is the position in the subgroup.
    let position = subgroupExclusiveAdd(1u);
    for (var i = params.first; i < params.first + (STATE_QUADS + BLOCK - 1u) / BLOCK; i++) {
        let block = i - params.first;
        brought[block] = state[min(block * BLOCK + position, STATE_QUADS - 1u)];
    }
}

fn of_block(block: u32) -> Gates {
    let mine = brought[block];
    var sum = product(subgroupBroadcast(mine, 0u), held[block][0]);
    sum += product(subgroupBroadcast(mine, 1u), held[block][1]);
    sum += product(subgroupBroadcast(mine, 2u), held[block][2]);
    sum += product(subgroupBroadcast(mine, 3u), held[block][3]);
    sum += product(subgroupBroadcast(mine, 4u), held[block][4]);
    sum += product(subgroupBroadcast(mine, 5u), held[block][5]);
    sum += product(subgroupBroadcast(mine, 6u), held[block][6]);
    sum += product(subgroupBroadcast(mine, 7u), held[block][7]);
    return sum;
}
