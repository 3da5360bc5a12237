// The halves of a word of f16, one for each gate.

fn low_half(word: Word) -> Gates {
    return unpack2x16float(word).x;
}

fn high_half(word: Word) -> Gates {
    return unpack2x16float(word).y;
}
