// The most probable class of a row of logits: the highest number, of equals the first. NaN is no number; a row of NaN alone
// has no class.

const NO_CLASS: u32 = 0xffffffffu;

fn is_number(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) <= 0x7f800000u;
}

// Whether a class comes before another that was found, if one was.
fn is_higher(value: f32, class_: u32, highest: f32, found_class: u32) -> bool {
    let before = value > highest || (value == highest && class_ < found_class);
    return class_ != NO_CLASS && (found_class == NO_CLASS || before);
}
