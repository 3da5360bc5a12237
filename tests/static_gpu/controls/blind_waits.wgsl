// Breaks blind_waits: a wait that Mesa reads once for: the load before the loop and the one in it become one.
// As `lstm resident held`.

@group(0) @binding(0) var<storage, read_write> counts: array<atomic<u32>>;

@compute @workgroup_size(64)
fn control(@builtin(local_invocation_index) index: u32) {
    var word = atomicLoad(&counts[index]);
    var left = 1000u;
    while word == 0u && left > 0u {
        left -= 1u;
        if left % 256u == 0u && atomicLoad(&counts[64]) != 0u {
            left = 0u;
        }
        word = atomicLoad(&counts[index]);
    }
    atomicStore(&counts[65u + index], word);
}
