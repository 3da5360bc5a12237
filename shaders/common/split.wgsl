// The invocations with one x share the sum of one unit.

override SPLIT: u32 = 1u;     // a power of two

// Named, since naga 30 panics over a nameless `UNITS * SPLIT` in front of further overrides.
override PARTIALS: u32 = UNITS * SPLIT;

var<workgroup> partial: array<Gates, PARTIALS>;

// Which part of the sum an invocation takes. Where none is shared the compiler is told that all
// take the same, so that what they read at the same address is read once.
fn part_of(y: u32) -> u32 {
    return select(y, 0u, SPLIT == 1u);
}

// The sum over all y, whole where y = 0. A barrier must follow before the next.
fn reduced(sum: Gates, local: vec2<u32>) -> Gates {
    if SPLIT == 1u {
        return sum;
    }
    partial[local.y * UNITS + local.x] = sum;
    workgroupBarrier();
    var whole = sum;
    // One barrier, and loads that do not wait for each other: halving would take a barrier and a load after it each time.
    if local.y == 0u {
        for (var y = 1u; y < SPLIT; y++) {
            whole += partial[y * UNITS + local.x];
        }
    }
    return whole;
}
