// The halves of 2 words of f16, one for each gate.

fn low_half(word: Word) -> Gates {
    return vec2(unpack2x16float(word.x).x, unpack2x16float(word.y).x);
}

fn high_half(word: Word) -> Gates {
    return vec2(unpack2x16float(word.x).y, unpack2x16float(word.y).y);
}
