//! What the networks are trained on and tested with.

use std::collections::BTreeSet;
use std::fmt;

use clap::ValueEnum;
use gatefold::train::{Answers, Batch, Dataset, Loss, Padded};
use gatefold::{Input, Network};

use super::stories::{Facts, ROOMS, Story, vocabulary};
use crate::Result;
use crate::tasks::{Length, Made, MemoryTask, Rules};

/// A task of the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Task {
    /// 1 to 20 vectors of 8 bits, and the same again
    Copy,
    /// 2 to 6 items of three vectors of 6 bits; then the item that follows one of them
    Recall,
    /// Where a person of a story is, who walked through 6 rooms with three others
    Questions,
}

/// Sequences of a training step.
const BATCH: usize = 16;

/// Sequences with their answers, in batches.
pub enum Examples {
    Bits(Vec<Made>),
    Stories(Vec<Padded>),
}

impl Examples {
    pub fn batches(&self) -> Vec<Batch<'_>> {
        match self {
            Self::Bits(all) => all.iter().map(Made::batch).collect(),
            Self::Stories(all) => all.iter().map(Padded::batch).collect(),
        }
    }
}

/// The input of one sequence of the longest kind.
pub enum Longest {
    Vectors(Made),
    Words(Vec<u32>),
}

impl Longest {
    pub fn input(&self) -> Input<'_> {
        match self {
            Self::Vectors(made) => made.batch().input,
            Self::Words(ids) => Input::tokens(ids, [ids.len(), 1]),
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Copy => "copy",
            Self::Recall => "recall",
            Self::Questions => "questions",
        })
    }
}

impl Task {
    /// The rules of its bits; questions have none.
    pub fn rules(self) -> Option<Rules> {
        self.bits().map(Rules::of)
    }

    fn bits(self) -> Option<MemoryTask> {
        match self {
            Self::Copy => Some(MemoryTask::Copy),
            Self::Recall => Some(MemoryTask::Recall),
            Self::Questions => None,
        }
    }

    /// Words with an id, and the padding.
    pub fn words() -> usize {
        vocabulary().len() + 1
    }

    /// Numbers of an answer.
    pub fn outputs(self) -> usize {
        self.rules().map_or(ROOMS.len(), |rules| rules.outputs)
    }

    pub fn loss(self) -> Loss {
        if self.rules().is_some() { Loss::BinaryCrossEntropy } else { Loss::CrossEntropy }
    }

    /// The share of right answers of one who guesses.
    pub fn chance(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "six rooms")]
        let rooms = ROOMS.len() as f64;
        if self.rules().is_some() { 0.5 } else { 1.0 / rooms }
    }

    /// Timesteps of the longest sequence that it trains and tests with.
    pub fn longest(self) -> usize {
        match self {
            Self::Copy => 2 * 20 + 1,
            // Six items of a mark and three vectors, the one that is asked for, a mark, the answer.
            Self::Recall => 6 * 4 + 4 + 1 + 3,
            // Ten sentences of six words, and a question of four.
            Self::Questions => 10 * 6 + 4,
        }
    }

    /// Sequences to test with: `count` for each of the lengths, or stories.
    pub fn tests(self, network: &Network, count: usize, seed: u64) -> Result<Examples> {
        let made = |task, lengths: &[usize]| {
            let made = |&length: &usize| Made::of(task, Length::one(length), count, seed);
            Examples::Bits(lengths.iter().map(made).collect())
        };
        Ok(match self {
            Self::Copy => made(MemoryTask::Copy, &[5, 10, 15, 20]),
            Self::Recall => made(MemoryTask::Recall, &[2, 4, 6]),
            Self::Questions => {
                let [stories] = Story::sets(Facts::One, [4 * count], seed);
                Examples::Stories(dataset(&stories)?.batches(network, 64).collect())
            }
        })
    }

    /// One sequence of the longest kind.
    pub fn longest_example(self, seed: u64) -> Longest {
        match self.bits() {
            Some(task) => {
                let length = if task == MemoryTask::Copy { 20 } else { 6 };
                Longest::Vectors(Made::of(task, Length::one(length), 1, seed))
            }
            None => {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut stories = std::iter::repeat_with(|| Story::new(Facts::One, &mut random).ids()).take(10_000);
                Longest::Words(stories.find(|ids| ids.len() == self.longest()).unwrap_or_else(|| vec![1]))
            }
        }
    }
}

fn dataset(stories: &[Story]) -> Result<Dataset> {
    let answers = stories.iter().map(|story| u32::try_from(story.answer)).collect::<std::result::Result<_, _>>()?;
    Ok(Dataset::tokens(stories.iter().map(Story::ids).collect(), Answers::Classes(answers))?)
}

/// New sequences for every step of training.
pub struct Source {
    task: Task,
    random: fastrand::Rng,
    /// Stories that a network is tested with, which it is not trained on.
    held_out: BTreeSet<Story>,
}

impl Source {
    /// Sequences that are not those of [`Task::tests`] with `count` and `seed`.
    pub fn new(task: Task, seed: u64, held_out: &[(usize, u64)]) -> Self {
        let stories = |&(count, seed): &(usize, u64)| {
            let [stories] = Story::sets(Facts::One, [4 * count], seed);
            stories
        };
        let held_out = if task == Task::Questions { held_out } else { &[] };
        let held_out = held_out.iter().flat_map(stories).collect();
        Self { task, random: fastrand::Rng::with_seed(seed), held_out }
    }

    /// The sequences of a step and how many they are.
    pub fn next(&mut self, network: &Network) -> Result<(Examples, usize)> {
        let examples = match self.task.bits() {
            Some(task) => {
                let length = Rules::of(task).draw(&mut self.random);
                Examples::Bits(vec![Made::of(task, length, BATCH, self.random.u64(..))])
            }
            None => {
                let mut stories = Vec::with_capacity(BATCH);
                while stories.len() < BATCH {
                    let story = Story::new(Facts::One, &mut self.random);
                    if !self.held_out.contains(&story) {
                        stories.push(story);
                    }
                }
                Examples::Stories(dataset(&stories)?.batches(network, BATCH).collect())
            }
        };
        Ok((examples, BATCH))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_sequences_are_so_long() {
        let steps = |task: Task| match task.longest_example(3) {
            Longest::Vectors(made) => made.shape[0],
            Longest::Words(ids) => ids.len(),
        };
        for task in [Task::Copy, Task::Recall, Task::Questions] {
            assert_eq!(steps(task), task.longest(), "{task}");
        }
        let [stories] = Story::sets(Facts::One, [2000], 5);
        assert!(stories.iter().all(|story| story.words.len() <= Task::Questions.longest()));
    }

    #[test]
    fn no_story_of_a_test_is_trained_on() {
        let [tests] = Story::sets(Facts::One, [400], 7);
        let mut source = Source::new(Task::Questions, 7, &[(100, 7)]);
        // Without them the first stories of the same seed are those of the test.
        assert!(tests.iter().all(|story| source.held_out.contains(story)));
        let first = Story::new(Facts::One, &mut source.random.clone());
        assert!(source.held_out.contains(&first));
        let network = super::super::models::tests::small(Task::Questions);
        let (Examples::Stories(batches), count) = source.next(&network).expect("stories") else {
            panic!("expected stories");
        };
        assert_eq!((batches.len(), count), (1, BATCH));
        let shown = dataset(&[first]).expect("a story");
        let shown: Vec<Padded> = shown.batches(&network, 1).collect();
        assert_ne!(format!("{:?}", shown[0].batch().input), format!("{:?}", batches[0].batch().input));
    }
}
