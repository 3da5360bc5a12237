// c of an LSTM, in its buffer between timesteps.

fn c_before(at: u32) -> f32 {
    return cell[at];
}

fn put_c(at: u32, c: f32) {
    cell[at] = c;
}
