// Dropout of h inside a recurrent layer that is trained: every gate reads h through a mask of its own, which stays for all
// steps of a row. Reference: src/train/recurrent_dropout.rs.

override DROP_GATES: u32 = 0u;        // G, gates of a unit; 0 where nothing is dropped
override DROP_GATE: u32 = 0u;         // the first gate of the product
override DROP_WIDTH: u32 = 0u;        // width of h
override DROP_LEAST: u32 = 0u;        // the smallest random number that keeps
override DROP_SCALE: f32 = 1.0;       // what is kept is multiplied by
override DROP_SITE: u32 = 0u;         // which draws are those of lane 0

// What number k of h of a row is multiplied by, for a gate counted from the first of the product.
fn state_factor(lane: u32, row: u32, gate: u32, k: u32) -> f32 {
    let place = (row * DROP_GATES + DROP_GATE + gate) * DROP_WIDTH + k;
    let drawn = random(seed_of_step(), place, DROP_SITE | (lane << 1u));
    return select(0.0, DROP_SCALE, drawn >= DROP_LEAST);
}
