// The halves of 3 words of f16, one for each gate.

fn low_half(word: Word) -> Gates {
    return vec3(unpack2x16float(word.x).x, unpack2x16float(word.y).x, unpack2x16float(word.z).x);
}

fn high_half(word: Word) -> Gates {
    return vec3(unpack2x16float(word.x).y, unpack2x16float(word.y).y, unpack2x16float(word.z).y);
}
