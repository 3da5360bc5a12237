//! One thread reads windows, one for each core scores them, and the caller's thread writes them in order.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};

use arrow_array::RecordBatch;
use gatefold::{Scorer, TextVectorizer};

use super::encoder::Encoder;
use super::input::{Bad, Input, Position, Reads, Window, Windows};
use super::output::Output;
use crate::Result;

/// A window with its answers.
pub struct Answered {
    pub batch: RecordBatch,
    /// The rows as text, for formats of text.
    pub text: Vec<u8>,
    pub bad: Vec<Bad>,
    /// The place behind the window.
    pub end: Position,
}

/// Everything that scores a window.
pub struct Work<'a> {
    pub input: &'a Input,
    pub scorer: &'a Scorer,
    pub vectorizer: Option<&'a TextVectorizer>,
    pub reads: Reads,
    pub output: &'a Output,
}

/// An error, on its way to another thread.
type Passed<T> = std::result::Result<T, String>;

impl Work<'_> {
    fn answer(&self, window: &Window) -> Result<Answered> {
        let mut encoder = Encoder::new(self.scorer, self.vectorizer, self.reads);
        let parsed = self.input.parse(window, &mut encoder)?;
        let scores = self.scorer.score(encoder.sequences(), |_| {})?;
        let batch = self.output.batch(parsed.columns, self.scorer, &scores)?;
        let text = self.output.text(&batch)?;
        Ok(Answered { batch, text, bad: parsed.bad, end: window.end })
    }

    /// Scores all windows with so many threads. `write` is called with the answers in the order of the windows, until it says
    /// `false`.
    pub fn run(&self, windows: Windows, workers: usize, mut write: impl FnMut(Answered) -> Result<bool>) -> Result<()> {
        // As many windows may be on their way. Each that is written lets the reader read another.
        let most = 2 * workers + 2;
        let (permit, permits) = sync_channel(most);
        for _ in 0..most {
            let _ = permit.send(());
        }
        let (read, to_score) = sync_channel(most);
        let (scored, to_write) = channel();
        let to_score = Mutex::new(to_score);
        std::thread::scope(|scope| {
            scope.spawn(move || read_all(windows, &permits, &read));
            for _ in 0..workers {
                let (scored, to_score) = (scored.clone(), &to_score);
                scope.spawn(move || self.score_all(to_score, &scored));
            }
            drop(scored);
            let written = write_all(&to_write, &permit, &mut write);
            // Threads that still work find that nothing takes their results.
            drop((to_write, permit));
            written
        })
    }

    fn score_all(
        &self,
        windows: &Mutex<Receiver<(usize, Passed<Window>)>>,
        scored: &Sender<(usize, Passed<Answered>)>,
    ) {
        loop {
            let next = windows.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((number, window)) = next else { return };
            let mut promise = Promise { number, scored, kept: false };
            let answered = window.and_then(|window| self.answer(&window).map_err(|error| error.to_string()));
            promise.kept = true;
            if scored.send((number, answered)).is_err() {
                return;
            }
        }
    }
}

/// A window that a thread has taken. If the thread panics, an error takes the place of the answers, so that nothing waits for them.
struct Promise<'a> {
    number: usize,
    scored: &'a Sender<(usize, Passed<Answered>)>,
    kept: bool,
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        if !self.kept {
            let _ = self.scored.send((self.number, Err("a thread that scores has panicked".into())));
        }
    }
}

fn read_all(windows: Windows, permits: &Receiver<()>, read: &SyncSender<(usize, Passed<Window>)>) {
    for (number, window) in windows.enumerate() {
        let window = window.map_err(|error| error.to_string());
        let failed = window.is_err();
        if permits.recv().is_err() || read.send((number, window)).is_err() || failed {
            return;
        }
    }
}

fn write_all(
    scored: &Receiver<(usize, Passed<Answered>)>,
    permit: &SyncSender<()>,
    write: &mut impl FnMut(Answered) -> Result<bool>,
) -> Result<()> {
    let (mut early, mut next) = (BTreeMap::new(), 0);
    for (number, answered) in scored {
        early.insert(number, answered);
        while let Some(answered) = early.remove(&next) {
            next += 1;
            if !write(answered?)? {
                return Ok(());
            }
            // The reader is gone if everything is read.
            let _ = permit.send(());
        }
    }
    Ok(())
}
