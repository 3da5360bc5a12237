// For adapters that run on the CPU: weights read once, as plain numbers, into private memory, and the
// products of a step unrolled.
//
// Mesa's llvmpipe computes eight invocations as one vector. What they load from storage or workgroup
// memory it fetches number by number, a branch before each; private memory at an index that the compiler knows is
// one vector. So only h is fetched at each step, and nothing within the sums.

// How h reaches all is another file's: brought_each.wgsl, brought_by_subgroup.wgsl.

const BLOCK: u32 = 8u;      // quads of k summed by one call of of_block: as many as a vector, or Mesa would unroll as a loop

var<private> held: array<array<array<Product, 4>, BLOCK>, BLOCKS>;    // 0 past the last quad

// The loops that fetch count from a number that no compiler knows: unrolled, their branches would take it seconds.
fn hold(base: u32, unit: u32, first: u32) {
    for (var i = params.first; i < params.first + STATE_QUADS; i++) {
        let quad = i - params.first;
        held[quad / BLOCK][quad % BLOCK] = decoded(words_at(base, quad, min(unit, WIDTH - 1u)));
    }
}

fn summed(base: u32, unit: u32, y: u32) -> Gates {
    bring();
    var sum = Gates();
    // Always so. Without it LLVM moves the additions behind the branch of whoever asked, and the products to the stack.
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
