//! Text from files and drivers, made fit to be shown.

/// `text` as a terminal or a log may show it: line breaks and tabs become spaces, other control characters and those that
/// change the direction of text are escaped (`\u{1b}`), and of more than `most` characters the middle is left out.
#[must_use]
pub fn printable(text: &str, most: usize) -> String {
    let mut shown = String::new();
    // A third of the characters comes from the end; only the characters that are shown are read.
    if text.chars().nth(most).is_some() {
        let end = most / 3;
        text.chars().take(most.saturating_sub(end + 1)).for_each(|c| push(&mut shown, c));
        shown.push('…');
        let rest = text.char_indices().rev().take(end).last().map_or(text.len(), |(at, _)| at);
        text[rest..].chars().for_each(|c| push(&mut shown, c));
    } else {
        text.chars().for_each(|c| push(&mut shown, c));
    }
    shown
}

fn push(shown: &mut String, c: char) {
    match c {
        '\n' | '\r' | '\t' => shown.push(' '),
        // Bidirectional controls, line separators, and what XML forbids.
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}' => {
            shown.extend(c.escape_unicode());
        }
        c if c.is_control() => shown.extend(c.escape_unicode()),
        c => shown.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_the_cursor_is_escaped_and_the_rest_is_left() {
        for (text, shown) in [
            ("", ""),
            ("lstm.weight_ih_l0", "lstm.weight_ih_l0"),
            ("naïve 😀 \u{200d}", "naïve 😀 \u{200d}"),
            ("a\x1b[2Jb\x07", "a\\u{1b}[2Jb\\u{7}"),
            ("two\nlines\tand\r", "two lines and "),
            ("\u{9b}31m\u{7f}\0", "\\u{9b}31m\\u{7f}\\u{0}"),
            ("\u{202e}abc\u{2066}", "\\u{202e}abc\\u{2066}"),
        ] {
            assert_eq!(printable(text, 100), shown);
        }
    }

    #[test]
    fn long_text_keeps_both_ends() {
        assert_eq!(printable("abcdefghij", 10), "abcdefghij");
        assert_eq!(printable("abcdefghijk", 10), "abcdef…ijk");
        assert_eq!(printable("ääääääääääz", 4), "ää…z");
        for most in 0..4 {
            assert!(printable("abcdefghijk", most).chars().count() <= most.max(1));
        }
        assert_eq!(printable(&"x".repeat(100_000), 100).chars().count(), 100);
    }
}
