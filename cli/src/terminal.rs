//! Text for a terminal: the styles of this command are kept, all other control sequences are escaped.

use gatefold::printable;

/// Most characters of a line: names come from files and may have any length.
const LINE: usize = 2000;
/// Most characters of a cell of a table.
pub const CELL: usize = 200;

/// What [`console`] writes for the styles of this command.
const STYLES: [&str; 5] = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m"];

/// `text` in one line of at most `most` characters. The styles of this command are kept if styles are in use; all other
/// text is made [`printable`].
pub fn shown(text: &str, most: usize) -> String {
    if !console::colors_enabled() || !text.contains('\x1b') {
        return printable(text, most);
    }
    if console::measure_text_width(text) > most {
        return printable(&console::strip_ansi_codes(text), most);
    }
    let (mut shown, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('\x1b') {
        shown += &printable(&rest[..at], usize::MAX);
        rest = &rest[at..];
        let style = STYLES.iter().find(|style| rest.starts_with(**style));
        let taken = style.map_or(1, |style| style.len());
        shown += &style.map_or_else(|| printable(&rest[..taken], usize::MAX), |style| (*style).to_owned());
        rest = &rest[taken..];
    }
    shown + &printable(rest, usize::MAX)
}

/// Every line of `text` as [`shown`].
pub fn shown_lines(text: &str) -> String {
    let line = |line: &str| match line.strip_suffix('\n') {
        Some(line) => shown(line, LINE) + "\n",
        None => shown(line, LINE),
    };
    text.split_inclusive('\n').map(line).collect()
}

/// `message` in one line.
pub fn one_line(message: &str) -> String {
    let words: Vec<&str> = message.split_whitespace().collect();
    printable(&words.join(" "), LINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, because styles are turned on for the whole process.
    #[test]
    fn only_our_own_styles_pass() {
        let styled = |text: &str| console::style(text).force_styling(true).bold().to_string();
        let text = format!("{}\x1b[2J\x1b]0;title\x07\x1b", styled("name"));
        console::set_colors_enabled(true);
        assert_eq!(shown(&text, 100), format!("{}\\u{{1b}}[2J\\u{{1b}}]0;title\\u{{7}}\\u{{1b}}", styled("name")));
        for style in [console::Style::new().green(), console::Style::new().red().bold(), console::Style::new().dim()] {
            let text = style.force_styling(true).apply_to("x").to_string();
            assert_eq!(shown(&text, 100), text);
        }
        assert_eq!(shown(&styled(&"x".repeat(1000)), 9), "xxxxx…xxx");
        assert_eq!(shown_lines(&format!("{}\na\x1b[H\n", styled("b"))), format!("{}\na\\u{{1b}}[H\n", styled("b")));
        console::set_colors_enabled(false);
        assert!(!shown(&text, 100).contains('\x1b'), "without styles nothing passes");
        assert_eq!(one_line("a\n\n  b\x1b\n"), "a b\\u{1b}");
    }
}
