// The projected input of a cell of four gates, which is only read.

@group(0) @binding(1) var<storage, read> projected: array<vec4<f32>>;       // [LANES, T', B, H] of (i, f, g, o): W x + b

fn projected_at(index: u32) -> Gates {
    return projected[index];
}

fn keep_sums(sums: Gates) {}
