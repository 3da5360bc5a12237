// Parameters of a dispatch, in addition to its constants.
struct Params {
    rows: u32,            // rows to compute; B of a recurrence
    input_row: u32,       // first row read
    output_row: u32,      // first row written
    steps: u32,           // T of the input
    batch: u32,           // B
    // Of a recurrence alone, in timesteps of a lane:
    done: u32,            // before the projected chunk
    count: u32,           // in the projected chunk
    first: u32,           // step of repetition 0
    stride: u32,          // steps of one repetition
    end: u32,             // after the last step
    projected_lane: u32,  // gates between the projected inputs of two lanes
    output_lane: u32,     // numbers between the outputs of two lanes
}
