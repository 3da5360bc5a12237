// What changes from dispatch to dispatch; chosen by a dynamic offset into one uniform buffer.
struct Params {
    rows: u32,        // rows to compute
    input_row: u32,   // first row read
    output_row: u32,  // first row written
    mask_row: u32,    // first row of the mask [T, B]
    steps: u32,       // T of the input
    batch: u32,       // B
    reserved_0: u32,
    reserved_1: u32,
}
