//! Stories of people who walk through a house and carry things, each with a question and an answer of one word.

use fastrand::Rng;

const PEOPLE: [&str; 4] = ["ada", "ben", "cleo", "dan"];
/// The answers.
pub const ROOMS: [&str; 6] = ["kitchen", "garden", "hall", "bedroom", "office", "bathroom"];
const THINGS: [&str; 3] = ["apple", "lamp", "book"];
/// All other words.
const OTHERS: [&str; 10] = ["went", "to", "the", "took", "dropped", ".", "where", "is", "was", "before"];
const END: &str = "?";

/// How many facts an answer needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Facts {
    /// `where is ada ?`
    One,
    /// `where is the lamp ?`: who took it, and where that person went.
    Two,
    /// `where was the lamp before the hall ?`
    Three,
}

/// A story with its question.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Story {
    /// Its words, the question's last.
    pub words: Vec<&'static str>,
    /// The place of the answer in [`ROOMS`].
    pub answer: usize,
}

/// Where everybody and everything is.
#[derive(Default)]
struct House {
    /// Room of every person who was named.
    rooms: [Option<usize>; PEOPLE.len()],
    /// Who has a thing.
    holders: [Option<usize>; THINGS.len()],
    /// The rooms that a thing was in, in order.
    trails: [Vec<usize>; THINGS.len()],
    words: Vec<&'static str>,
}

impl House {
    fn say(&mut self, words: &[&'static str]) {
        self.words.extend_from_slice(words);
        self.words.push(".");
    }

    /// A person takes or drops a thing, where that can be, or walks.
    fn act(&mut self, facts: Facts, random: &mut Rng) {
        let person = random.usize(..PEOPLE.len());
        let chance = random.f32();
        let pick = |random: &mut Rng, things: Vec<usize>| random.choice(things);
        if let (true, Some(room)) = (facts != Facts::One, self.rooms[person]) {
            let here = |thing: &usize| {
                self.holders[*thing].is_none() && self.trails[*thing].last().is_none_or(|&last| last == room)
            };
            let free = (0..THINGS.len()).filter(here).collect();
            let held = (0..THINGS.len()).filter(|&thing| self.holders[thing] == Some(person)).collect();
            let taken = if chance < 0.35 { pick(random, free) } else { None };
            if let Some(thing) = taken {
                self.holders[thing] = Some(person);
                if self.trails[thing].is_empty() {
                    self.trails[thing].push(room);
                }
                return self.say(&[PEOPLE[person], "took", "the", THINGS[thing]]);
            }
            let dropped = if chance < 0.55 { pick(random, held) } else { None };
            if let Some(thing) = dropped {
                self.holders[thing] = None;
                return self.say(&[PEOPLE[person], "dropped", "the", THINGS[thing]]);
            }
        }
        let others = (0..ROOMS.len()).filter(|&room| self.rooms[person] != Some(room)).collect();
        let Some(room) = pick(random, others) else { return };
        self.rooms[person] = Some(room);
        for thing in 0..THINGS.len() {
            if self.holders[thing] == Some(person) {
                self.trails[thing].push(room);
            }
        }
        self.say(&[PEOPLE[person], "went", "to", "the", ROOMS[room]]);
    }

    /// A question of the kind, if there is something to ask.
    fn ask(&self, facts: Facts, random: &mut Rng) -> Option<(Vec<&'static str>, usize)> {
        let least = if facts == Facts::Three { 2 } else { 1 };
        match facts {
            Facts::One => {
                let known = (0..PEOPLE.len()).filter_map(|person| Some((person, self.rooms[person]?)));
                let (person, room) = random.choice(known.collect::<Vec<_>>())?;
                Some((vec!["where", "is", PEOPLE[person], END], room))
            }
            _ => {
                let moved = (0..THINGS.len()).filter(|&thing| self.trails[thing].len() >= least);
                let thing = random.choice(moved.collect::<Vec<_>>())?;
                let trail = &self.trails[thing];
                let last = trail[trail.len() - 1];
                if facts == Facts::Two {
                    return Some((vec!["where", "is", "the", THINGS[thing], END], last));
                }
                let words = vec!["where", "was", "the", THINGS[thing], "before", "the", ROOMS[last], END];
                Some((words, trail[trail.len() - 2]))
            }
        }
    }
}

impl Story {
    /// A random story.
    pub fn new(facts: Facts, random: &mut Rng) -> Self {
        let (least, most) = match facts {
            Facts::One => (2, 10),
            Facts::Two => (4, 20),
            Facts::Three => (8, 40),
        };
        loop {
            let mut house = House::default();
            let sentences = random.usize(least..=most);
            // A few more where nothing has moved yet.
            for sentence in 1..=most + 20 {
                house.act(facts, random);
                if sentence >= sentences
                    && let Some((question, answer)) = house.ask(facts, random)
                {
                    let words = [house.words, question].concat();
                    return Self { words, answer };
                }
            }
        }
    }

    /// Different stories, `counts` of each set, with no story in two sets.
    pub fn sets<const N: usize>(facts: Facts, counts: [usize; N], seed: u64) -> [Vec<Self>; N] {
        let mut random = Rng::with_seed(seed);
        let mut seen = std::collections::BTreeSet::new();
        counts.map(|count| {
            let mut set = Vec::with_capacity(count);
            while set.len() < count {
                let story = Self::new(facts, &mut random);
                if seen.insert(story.clone()) {
                    set.push(story);
                }
            }
            set
        })
    }

    /// The ids of its words.
    pub fn ids(&self) -> Vec<u32> {
        let words = vocabulary();
        self.words
            .iter()
            .filter_map(|word| (1..).zip(&words).find(|(_, known)| *known == word).map(|(id, _)| id))
            .collect()
    }
}

/// All words; the id of a word is its place here and 1, as 0 is padding.
pub fn vocabulary() -> Vec<&'static str> {
    [&PEOPLE[..], &ROOMS, &THINGS, &OTHERS, &[END]].concat()
}
