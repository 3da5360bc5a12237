//! A progress bar on stderr.

use std::io::Write as _;
use std::time::{Duration, Instant};

use gatefold::printable;
use indicatif::{ProgressBar, ProgressStyle};

/// The bar appears after this time, so that short work shows none.
const SHOW_AFTER: Duration = Duration::from_millis(400);

/// A progress bar that is shown if the work takes long and stderr is a terminal, and erased at the end.
pub struct Progress {
    total: u64,
    done: u64,
    start: Instant,
    bar: Option<ProgressBar>,
    template: &'static str,
}

impl Progress {
    /// Progress of `total` pieces of work.
    pub fn new(total: usize) -> Self {
        Self::with_template(total as u64, "{bar:30} {pos}/{len}  {eta} left  {msg}")
    }

    /// Progress through `total` bytes of a file.
    #[cfg(feature = "score")]
    pub fn of_bytes(total: u64) -> Self {
        Self::with_template(total, "{bar:30} {binary_bytes}/{binary_total_bytes}  {eta} left  {msg}")
    }

    fn with_template(total: u64, template: &'static str) -> Self {
        Self { total, done: 0, start: Instant::now(), bar: None, template }
    }

    /// Counts `pieces` more as done and shows `what`.
    pub fn advance(&mut self, pieces: usize, what: &str) {
        self.done += pieces as u64;
        if self.bar.is_none() && self.start.elapsed() < SHOW_AFTER {
            return;
        }
        let (total, start, template) = (self.total, self.start, self.template);
        let bar = self.bar.get_or_insert_with(|| {
            // indicatif hides it if stderr is not a terminal.
            let bar = ProgressBar::new(total).with_elapsed(start.elapsed());
            match ProgressStyle::with_template(template) {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        });
        bar.set_position(self.done);
        bar.set_message(printable(what, 100));
    }
}

impl Progress {
    /// Writes lines to stderr, above the bar.
    pub fn show(&self, lines: &str) {
        // Nothing is lost where stderr is closed.
        let write = || drop(std::io::stderr().write_all(lines.as_bytes()));
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
