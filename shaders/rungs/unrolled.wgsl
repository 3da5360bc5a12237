// For lavapipe: weights read once, as plain numbers, into private memory, and the products of a step unrolled.
//
// Mesa computes eight invocations as one vector. What they load from storage or workgroup memory it fetches number by
// number, a branch before each; private memory at an index that the compiler knows is one vector. So at each step an
// invocation fetches one quad of h in eight, the others of its subgroup get it from there, and the sums load
// nothing from memory.

const BLOCK: u32 = 8u;      // quads of k that a subgroup fetches at once: its invocations

var<private> held: array<array<array<Product, 4>, BLOCK>, BLOCKS>;    // 0 past the last quad
var<private> fetched: array<vec4<f32>, BLOCKS>;                       // this invocation's quads of h(t-1)

// The loops that fetch start at a number that compilers do not know: if they were unrolled, compiling their branches
// would take seconds.
fn hold(base: u32, unit: u32, first: u32) {
    for (var i = params.first; i < params.first + STATE_QUADS; i++) {
        let quad = i - params.first;
        held[quad / BLOCK][quad % BLOCK] = decoded(words_at(base, quad, min(unit, WIDTH - 1u)));
    }
}

fn bring() {
    // All are active here, so that this is the position in the subgroup.
    let position = subgroupExclusiveAdd(1u);
    for (var i = params.first; i < params.first + (STATE_QUADS + BLOCK - 1u) / BLOCK; i++) {
        let block = i - params.first;
        fetched[block] = state_quad(min(block * BLOCK + position, STATE_QUADS - 1u));
    }
}

fn of_block(block: u32) -> Gates {
    let mine = fetched[block];
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

fn summed(base: u32, unit: u32, y: u32) -> Gates {
    bring();
    var sum = Gates();
    // Always so. Without it LLVM moves the additions after the branch that uses them, and the products to the stack.
    if params.steps > 0u {
        sum = of_block(0u);
        if BLOCKS > 1u {
            sum += of_block(1u);
        }
        if BLOCKS > 2u {
            sum += of_block(2u);
        }
        if BLOCKS > 3u {
            sum += of_block(3u);
        }
        if BLOCKS > 4u {
            sum += of_block(4u);
        }
        if BLOCKS > 5u {
            sum += of_block(5u);
        }
        if BLOCKS > 6u {
            sum += of_block(6u);
        }
        if BLOCKS > 7u {
            sum += of_block(7u);
        }
        if BLOCKS > 8u {
            sum += of_block(8u);
        }
        if BLOCKS > 9u {
            sum += of_block(9u);
        }
        if BLOCKS > 10u {
            sum += of_block(10u);
        }
        if BLOCKS > 11u {
            sum += of_block(11u);
        }
        if BLOCKS > 12u {
            sum += of_block(12u);
        }
        if BLOCKS > 13u {
            sum += of_block(13u);
        }
        if BLOCKS > 14u {
            sum += of_block(14u);
        }
        if BLOCKS > 15u {
            sum += of_block(15u);
        }
    }
    return sum;
}
