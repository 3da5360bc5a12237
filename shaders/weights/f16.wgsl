// Weights as f16: a word holds two k. Reading them needs no feature.

const WORDS: u32 = 2u;
alias Words = array<Word, 2>;

// What a lane's matrix has for `unit` at four k from 4 * quad.
fn words_at(base: u32, quad: u32, unit: u32) -> Words {
    let at = 2u * quad * WIDTH + unit;
    return Words(word_at(base, at), word_at(base, at + WIDTH));
}

fn decoded(words: Words) -> array<Product, 4> {
    return array<Product, 4>(
        Product(low_half(words[0])),
        Product(high_half(words[0])),
        Product(low_half(words[1])),
        Product(high_half(words[1])),
    );
}

fn scaled(sum: Gates, start: u32, unit: u32) -> Gates {
    return sum;
}
