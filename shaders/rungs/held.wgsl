// Weights read once and held in registers: each invocation keeps those of one unit for the quads
// of k that are its own.

const HELD: u32 = 16u / WORDS;         // most turns: 16 words of each gate
var<private> held: array<Words, 16>;

// Turn by turn, not in a loop: compilers keep an array in registers where each index is a constant, and not all write a loop out.
fn hold(base: u32, unit: u32, y: u32) {
    let real = min(unit, WIDTH - 1u);
    held[0] = words_of_turn(0u, base, real, y);
    if TURNS > 1u {
        held[1] = words_of_turn(1u, base, real, y);
    }
    if TURNS > 2u {
        held[2] = words_of_turn(2u, base, real, y);
    }
    if TURNS > 3u {
        held[3] = words_of_turn(3u, base, real, y);
    }
    if TURNS > 4u {
        held[4] = words_of_turn(4u, base, real, y);
    }
    if TURNS > 5u {
        held[5] = words_of_turn(5u, base, real, y);
    }
    if TURNS > 6u {
        held[6] = words_of_turn(6u, base, real, y);
    }
    if TURNS > 7u {
        held[7] = words_of_turn(7u, base, real, y);
    }
    if TURNS > 8u {
        held[8] = words_of_turn(8u, base, real, y);
    }
    if TURNS > 9u {
        held[9] = words_of_turn(9u, base, real, y);
    }
    if TURNS > 10u {
        held[10] = words_of_turn(10u, base, real, y);
    }
    if TURNS > 11u {
        held[11] = words_of_turn(11u, base, real, y);
    }
    if TURNS > 12u {
        held[12] = words_of_turn(12u, base, real, y);
    }
    if TURNS > 13u {
        held[13] = words_of_turn(13u, base, real, y);
    }
    if TURNS > 14u {
        held[14] = words_of_turn(14u, base, real, y);
    }
    if TURNS > 15u {
        held[15] = words_of_turn(15u, base, real, y);
    }
}

fn words_of_turn(turn: u32, base: u32, unit: u32, y: u32) -> Words {
    return words_at(base, min(turn * SPLIT + y, STATE_QUADS - 1u), unit);
}

// The sums after all turns.
fn after_turns(sums: Sums, first: u32, base: u32, unit: u32, y: u32) -> Sums {
    var after = after_turn(sums, first, 0u, y, decoded(held[0]));
    if TURNS > 1u {
        after = after_turn(after, first, 1u, y, decoded(held[1]));
    }
    if TURNS > 2u {
        after = after_turn(after, first, 2u, y, decoded(held[2]));
    }
    if TURNS > 3u {
        after = after_turn(after, first, 3u, y, decoded(held[3]));
    }
    if TURNS > 4u {
        after = after_turn(after, first, 4u, y, decoded(held[4]));
    }
    if TURNS > 5u {
        after = after_turn(after, first, 5u, y, decoded(held[5]));
    }
    if TURNS > 6u {
        after = after_turn(after, first, 6u, y, decoded(held[6]));
    }
    if TURNS > 7u {
        after = after_turn(after, first, 7u, y, decoded(held[7]));
    }
    if TURNS > 8u {
        after = after_turn(after, first, 8u, y, decoded(held[8]));
    }
    if TURNS > 9u {
        after = after_turn(after, first, 9u, y, decoded(held[9]));
    }
    if TURNS > 10u {
        after = after_turn(after, first, 10u, y, decoded(held[10]));
    }
    if TURNS > 11u {
        after = after_turn(after, first, 11u, y, decoded(held[11]));
    }
    if TURNS > 12u {
        after = after_turn(after, first, 12u, y, decoded(held[12]));
    }
    if TURNS > 13u {
        after = after_turn(after, first, 13u, y, decoded(held[13]));
    }
    if TURNS > 14u {
        after = after_turn(after, first, 14u, y, decoded(held[14]));
    }
    if TURNS > 15u {
        after = after_turn(after, first, 15u, y, decoded(held[15]));
    }
    return after;
}
