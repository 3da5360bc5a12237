// Measures how many workgroups run at the same time: each increments a counter and then waits. The
// result is the count that the first of them reads before it ends.

override GROUP: u32 = 64u;       // as many invocations as a workgroup may have
override MAX_LOOKS: u32 = 1u;     // reads of the counter before a workgroup ends

@group(0) @binding(0) var<storage, read_write> counts: array<atomic<u32>>; // arrived, and found by the first

@compute @workgroup_size(GROUP)
fn probe(@builtin(local_invocation_index) index: u32) {
    if index != 0u {
        return;
    }
    let arrived = atomicAdd(&counts[0], 1u);
    var found = 0u;
    for (var look = 0u; look < MAX_LOOKS; look++) {
        found = atomicLoad(&counts[0]);
    }
    if arrived == 0u {
        atomicStore(&counts[1], found);
    }
}
