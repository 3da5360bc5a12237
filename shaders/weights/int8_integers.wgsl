// 8-bit integers as they are.

fn integer(word: Word, index: u32) -> Product {
    return Product(bitcast<Integers>(byte(word, index)) - Integers(128));
}

fn decoded(words: Words) -> array<Product, 4> {
    let word = words[0];
    return array<Product, 4>(integer(word, 0u), integer(word, 1u), integer(word, 2u), integer(word, 3u));
}
