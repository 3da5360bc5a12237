// Weights as f32: a word holds one k.

const WORDS: u32 = 4u;
alias Words = array<Word, 4>;

// What a lane's matrix has for `unit` at four k from 4 * quad.
fn words_at(base: u32, quad: u32, unit: u32) -> Words {
    let at = 4u * quad * WIDTH + unit;
    return Words(
        word_at(base, at), word_at(base, at + WIDTH), word_at(base, at + 2u * WIDTH), word_at(base, at + 3u * WIDTH),
    );
}

fn decoded(words: Words) -> array<Product, 4> {
    return array<Product, 4>(
        Product(bitcast<Gates>(words[0])),
        Product(bitcast<Gates>(words[1])),
        Product(bitcast<Gates>(words[2])),
        Product(bitcast<Gates>(words[3])),
    );
}

fn scaled(sum: Gates, start: u32, unit: u32) -> Gates {
    return sum;
}
