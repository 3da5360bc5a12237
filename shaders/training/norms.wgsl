// The norm of the gradients of each tensor and of all, and whether this step is made: it is not where the norm is not
// finite. One workgroup.

struct Sizes {
    tensors: u32,
    pieces: u32,
}

override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Sizes;
@group(0) @binding(1) var<storage, read> squares: array<f32>;        // [pieces]
@group(0) @binding(2) var<storage, read> first: array<u32>;          // [tensors + 1] the first piece of each tensor
@group(0) @binding(3) var<storage, read> settings: array<u32>;       // the place of the step among the results, ..
@group(0) @binding(4) var<storage, read_write> norms: array<u32>;    // steps made, whether this one is, norm, norms [tensors]
@group(0) @binding(5) var<storage, read_write> results: array<u32>;  // [steps, 4] the loss, right answers, norm, skipped

const HEAD: u32 = 3u;

@compute @workgroup_size(WORKGROUP)
fn norms_of(@builtin(local_invocation_index) local: u32) {
    for (var tensor = local; tensor < params.tensors; tensor += WORKGROUP) {
        var sum = 0.0;
        for (var piece = first[tensor]; piece < first[tensor + 1u]; piece++) {
            sum += squares[piece];
        }
        norms[HEAD + tensor] = bitcast<u32>(sqrt(sum));
    }
    if local == 0u {
        var sum = 0.0;
        for (var piece = 0u; piece < params.pieces; piece++) {
            sum += squares[piece];
        }
        let norm = bitcast<u32>(sqrt(sum));
        // Neither infinite nor NaN; of its bits, since compilers may take floats to be finite.
        let made = select(0u, 1u, (norm & 0x7f800000u) != 0x7f800000u);
        norms[0] += made;
        norms[1] = made;
        norms[2] = norm;
        results[4u * settings[0] + 2u] = norm;
        results[4u * settings[0] + 3u] = 1u - made;
    }
}
