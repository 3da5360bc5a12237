// The four gates of a unit (i, f, g, o of an LSTM), which lie together: one load reads all, and neighbouring invocations read
// neighbours.

alias Gates = vec4<f32>;
alias Product = vec4<Real>;
alias Word = vec4<u32>;
alias Integers = vec4<i32>;

@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;         // per lane [K, H] of four, packed

fn word_at(base: u32, index: u32) -> Word {
    return weights[base / 4u + index];
}

fn vector_at(start: u32, unit: u32) -> Gates {
    let at = start + 4u * unit;
    return vec4(vectors[at], vectors[at + 1u], vectors[at + 2u], vectors[at + 3u]);
}
