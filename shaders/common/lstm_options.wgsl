// Options of an LSTM for the kernels of its training.

override PEEPHOLE: u32 = 0u;
override PEEPHOLE_FIRST: u32 = 0u;   // where lane 0's peepholes [3, H] begin in the parameters
override PEEPHOLE_LANE: u32 = 0u;    // from lane 0's to lane 1's
override COUPLED: u32 = 0u;
override CLIP_GATES: f32 = 0.0;      // bound of the pre-activations, 0 for none
override CLIP_CELL: f32 = 0.0;       // bound of c, 0 for none
override GATE: u32 = 3u;
override GATE_ALPHA: f32 = 0.0;
override GATE_BETA: f32 = 0.0;
override CANDIDATE: u32 = 2u;
override CANDIDATE_ALPHA: f32 = 0.0;
override CANDIDATE_BETA: f32 = 0.0;
override OUTPUT: u32 = 2u;
override OUTPUT_ALPHA: f32 = 0.0;
override OUTPUT_BETA: f32 = 0.0;

fn peephole(lane: u32, block: u32, unit: u32) -> f32 {
    if PEEPHOLE == 0u {
        return 0.0;
    }
    return parameters[PEEPHOLE_FIRST + lane * PEEPHOLE_LANE + block * WIDTH + unit];
}
