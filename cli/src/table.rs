//! Tables of text: columns as wide as their content, a dim header, no rules.

use std::fmt::{self, Display, Formatter};

use console::{Alignment, measure_text_width, pad_str, style};

use crate::terminal::{CELL, shown};

/// Columns between two cells.
const GAP: usize = 2;

/// A table for people.
pub struct Table {
    columns: Vec<(String, Alignment)>,
    rows: Vec<Vec<String>>,
}

/// A left-aligned column.
pub fn left(title: &str) -> (String, Alignment) {
    (title.to_owned(), Alignment::Left)
}

/// A right-aligned column.
pub fn right(title: &str) -> (String, Alignment) {
    (title.to_owned(), Alignment::Right)
}

impl Table {
    /// An empty table.
    pub fn new(columns: impl IntoIterator<Item = (String, Alignment)>) -> Self {
        Self { columns: columns.into_iter().map(|(title, at)| (shown(&title, CELL), at)).collect(), rows: Vec::new() }
    }

    /// Adds a row. Cells may be styled; control characters in names from files are escaped.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| shown(&cell, CELL)).collect());
    }

    /// Terminal columns left for the last column, whose content is cut to fit; 60 if stdout is not a
    /// terminal.
    pub fn room_for_last(&self) -> usize {
        const LEAST: usize = 20;
        const NO_TERMINAL: usize = 60;
        let Some((_, columns)) = console::Term::stdout().size_checked() else { return NO_TERMINAL };
        let widths = self.widths();
        let before = widths[..widths.len().saturating_sub(1)].iter().map(|width| width + GAP).sum();
        usize::from(columns).saturating_sub(before).max(LEAST)
    }

    /// As Markdown, plain text in the cells.
    pub fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let plain = |cell: &String| console::strip_ansi_codes(cell).replace('|', "\\|");
        let mut text = line(self.columns.iter().map(|(title, _)| plain(title)).collect());
        let rule = |alignment: &Alignment| if *alignment == Alignment::Right { "---:" } else { "---" }.to_owned();
        text += &line(self.columns.iter().map(|(_, alignment)| rule(alignment)).collect());
        for row in &self.rows {
            text += &line(row.iter().map(plain).collect());
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let widest = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.chain([&self.columns[column].0]).map(|cell| measure_text_width(cell)).max().unwrap_or(0)
        };
        (0..self.columns.len()).map(widest).collect()
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        let line = |cells: &[String]| {
            let padded = cells
                .iter()
                .zip(&self.columns)
                .zip(&widths)
                .map(|((cell, (_, alignment)), &width)| pad_str(cell, width, *alignment, None).into_owned());
            padded.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_owned()
        };
        let titles: Vec<String> = self.columns.iter().map(|(title, _)| title.clone()).collect();
        writeln!(f, "{}", dim(&line(&titles)))?;
        for row in &self.rows {
            writeln!(f, "{}", line(row))?;
        }
        Ok(())
    }
}

/// `text` dimmed, for details.
pub fn dim(text: &str) -> String {
    style(text).dim().to_string()
}

/// `text` in bold.
pub fn bold(text: &str) -> String {
    style(text).bold().to_string()
}

/// `text` in the style of success.
pub fn good(text: &str) -> String {
    style(text).green().to_string()
}

/// `text` in the style of failure.
pub fn bad(text: &str) -> String {
    style(text).red().bold().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_do_not_trail() {
        let mut table = Table::new([left("name"), right("n"), left("text")]);
        table.row(["a".into(), "1".into(), "one".into()]);
        table.row(["longer".into(), "100".into(), "ü".into()]);
        let text = console::strip_ansi_codes(&table.to_string()).into_owned();
        assert_eq!(text, "name      n  text\na         1  one\nlonger  100  ü\n");
    }
}
