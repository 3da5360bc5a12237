// Weights as 8-bit integers with a scale per row: a word holds four k.

const WORDS: u32 = 1u;
alias Words = array<Word, 1>;

// What a lane's matrix has for `unit` at four k from 4 * quad.
fn words_at(base: u32, quad: u32, unit: u32) -> Words {
    return Words(word_at(base, quad * WIDTH + unit));
}

// Byte `index` with its sign, in every gate.
fn byte(word: Word, index: u32) -> Product {
    return Product(bitcast<Integers>(word << Word(24u - 8u * index)) >> Word(24u));
}

fn decoded(words: Words) -> array<Product, 4> {
    let word = words[0];
    return array<Product, 4>(byte(word, 0u), byte(word, 1u), byte(word, 2u), byte(word, 3u));
}

fn scaled(sum: Gates, start: u32, unit: u32) -> Gates {
    return sum * vector_at(start, unit);
}
