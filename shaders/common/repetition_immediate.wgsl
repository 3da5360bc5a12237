// Which repetition of its dispatch this is; all that changes from one to the next.
struct Repetition {
    number: u32,
}

var<immediate> repetition: Repetition;
