// Second half of an LSTM with a projection: h = Whr h' (Sak, Senior & Beaufays 2014). Reference: the
// projection in src/reference/recurrent.rs.

alias Gates = f32;
alias Product = Real;
alias Word = u32;
alias Integers = i32;

override ZONEOUT_H: f32 = 0.0;       // share of h that stays as it was, 0 for none

@group(0) @binding(1) var<storage, read> projected: array<f32>;             // not read: the first half did
@group(0) @binding(2) var<storage, read> weights: array<u32>;               // per lane Whr [H, P], packed

const SCALE_OF_SUM: u32 = SCALE_PROJECTION;

// The sum is over h', which lies after the cells.
fn state_start(lane: u32, row: u32, step: u32) -> u32 {
    return ((LANES + lane) * params.batch + row) * DEPTH;
}

fn state_at(index: u32) -> f32 {
    return cell[index];
}

fn word_at(base: u32, index: u32) -> Word {
    return weights[base + index];
}

fn vector_at(start: u32, unit: u32) -> Gates {
    return vectors[start + unit];
}

fn projected_at(index: u32) -> Gates {
    return 0.0;
}

fn updated(lane: u32, row: u32, unit: u32, x: Gates, sum: Gates, h_before: f32) -> f32 {
    return zoned(ZONEOUT_H, h_before, sum);
}
