// The three gates of a unit (r, z, n of a GRU), which lie together: neighbouring invocations read neighbours.

alias Gates = vec3<f32>;
alias Product = vec3<Real>;
alias Word = vec3<u32>;
alias Integers = vec3<i32>;

@group(0) @binding(1) var<storage, read> projected: array<f32>;             // [LANES, T', B, H, 3]: W x + b
@group(0) @binding(2) var<storage, read> weights: array<Three>;             // per lane [K, H] of three, packed

// One address for three words, 12 bytes from the next.
struct Three {
    x: u32,
    y: u32,
    z: u32,
}

fn word_at(base: u32, index: u32) -> Word {
    let at = base / 3u + index;
    return vec3(weights[at].x, weights[at].y, weights[at].z);
}

fn vector_at(start: u32, unit: u32) -> Gates {
    let at = start + 3u * unit;
    return vec3(vectors[at], vectors[at + 1u], vectors[at + 2u]);
}

fn projected_at(index: u32) -> Gates {
    return vec3(projected[3u * index], projected[3u * index + 1u], projected[3u * index + 2u]);
}
