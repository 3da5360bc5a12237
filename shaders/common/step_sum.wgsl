// The sum over k that every recurrent step begins with. A cell says what `Gates` is, what
// `state_at` reads and what `weights_at` reads.

override WIDTH: u32;          // units: H, or P in a projection
override DEPTH: u32;          // K of the sum: width of the state
override UNITS: u32 = 64u;    // units of one workgroup
override SPLIT: u32 = 1u;     // invocations that share the sum of one unit

// Named, since naga 30 panics over a nameless `UNITS * SPLIT` in front of further overrides.
override PARTIALS: u32 = UNITS * SPLIT;

var<workgroup> partial: array<Gates, PARTIALS>;

// Whole in the invocations with y = 0.
fn summed(live: bool, row: u32, unit: u32, local: vec2<u32>) -> Gates {
    var gates = Gates();
    // The bound is the same for all invocations (FXC wants that where a barrier follows).
    for (var k0 = 0u; k0 < DEPTH; k0 += SPLIT) {
        let k = k0 + local.y;
        if live && k < DEPTH {
            gates += state_at(row * DEPTH + k) * weights_at(k * WIDTH + unit);
        }
    }
    if SPLIT > 1u {
        partial[local.y * UNITS + local.x] = gates;
        workgroupBarrier();
        if local.y == 0u {
            for (var s = 1u; s < SPLIT; s++) {
                gates += partial[s * UNITS + local.x];
            }
        }
    }
    return gates;
}
