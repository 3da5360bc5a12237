// Where a step's h goes, and what a masked step does: its state stands still.

override OUTPUT_STRIDE: u32;         // D*H
override OUTPUT_OFFSET: u32 = 0u;    // first column of this direction
override MASKED: u32 = 0u;           // a masked step's output: 0 no mask, 1 zero, 2 the state, 3 the state once SEEN
override SEEN: u32 = 0u;             // bit of the mask: a step that this direction took before counts

const VALID: u32 = 1u;               // bit of the mask: the step counts

fn is_masked(row: u32) -> bool {
    if MASKED == 0u {
        return false;
    }
    return (mask[params.mask_row + row] & VALID) == 0u;
}

fn write_h(row: u32, unit: u32, h: f32) {
    h_out[row * WIDTH + unit] = h;
    output[(params.output_row + row) * OUTPUT_STRIDE + OUTPUT_OFFSET + unit] = h;
}

fn stand_still(row: u32, unit: u32) {
    let h = h_in[row * WIDTH + unit];
    h_out[row * WIDTH + unit] = h;
    let kept = MASKED == 2u || (MASKED == 3u && (mask[params.mask_row + row] & SEEN) != 0u);
    output[(params.output_row + row) * OUTPUT_STRIDE + OUTPUT_OFFSET + unit] = select(0.0, h, kept);
}
