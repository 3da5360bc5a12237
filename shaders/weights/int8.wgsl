// Weights as 8-bit integers with a scale per row: a word holds four k, each as the integer + 128.

const WORDS: u32 = 1u;
alias Words = array<Word, 1>;

// What a lane's matrix has for `unit` at four k from 4 * quad.
fn words_at(base: u32, quad: u32, unit: u32) -> Words {
    return Words(word_at(base, quad * WIDTH + unit));
}

// Byte `index` of every gate.
fn byte(word: Word, index: u32) -> Word {
    return (word >> Word(8u * index)) & Word(255u);
}

fn scaled(sum: Gates, start: u32, unit: u32) -> Gates {
    return sum * vector_at(start, unit);
}
