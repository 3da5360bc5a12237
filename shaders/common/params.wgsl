// What changes from dispatch to dispatch; chosen by a dynamic offset into one uniform buffer.
struct Params {
    rows: u32,        // rows to compute
    input_row: u32,   // first row read
    output_row: u32,  // first row written
    reserved: u32,
}
