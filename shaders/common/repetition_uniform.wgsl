// Which repetition of its dispatch this is; chosen by a dynamic offset where there are no immediates.
struct Repetition {
    number: u32,
}

@group(1) @binding(0) var<uniform> repetition: Repetition;
