//! Talks of a customer with a shop: four turns, and every answer needs something that was said before.

use fastrand::Rng;

/// What a word of a template stands for, and the words that can stand there.
const FACTS: [(&str, &[&str]); 5] = [
    ("NAME", &["anna", "ben", "cleo", "dan", "eva", "finn", "gina", "hugo"]),
    ("COLOUR", &["red", "blue", "green", "white", "black", "yellow"]),
    ("THING", &["lamp", "chair", "table", "clock", "vase", "mirror", "carpet", "shelf"]),
    ("PROBLEM", &["broken", "late", "lost", "small"]),
    ("CITY", &["berlin", "paris", "rome", "oslo", "vienna", "madrid"]),
];
/// What every talk begins with.
const INTRODUCTION: &str = "this is the shop for lamps and other things of the house we help with what is broken late lost or small \
                            we are polite we call customers by their names and we remember what they bought and where they live";
/// Ends an answer; its id is 0.
pub const END: &str = ".";
/// Begins an answer.
const ANSWER: &str = "shop:";
/// Of each turn what customers say, and for each of that what the shop can answer.
const TURNS: [&[(&str, &[&str])]; 4] = [
    &[(
        "hello i am NAME and i bought a COLOUR THING",
        &[
            "hello NAME how is the COLOUR THING",
            "welcome NAME what about the COLOUR THING",
            "good day NAME tell me about the COLOUR THING",
        ],
    )],
    &[(
        "it is PROBLEM and i live in CITY",
        &["sorry NAME we send another COLOUR THING to CITY", "i am sorry NAME a new COLOUR THING goes to CITY"],
    )],
    &[
        ("what did i buy", &["you bought a COLOUR THING NAME", "a COLOUR THING NAME"]),
        ("where do i live", &["you live in CITY NAME", "in CITY NAME"]),
        ("what is wrong", &["the COLOUR THING is PROBLEM NAME", "your THING is PROBLEM NAME"]),
    ],
    &[("thank you do you know who i am", &["you are NAME from CITY", "NAME from CITY with the COLOUR THING"])],
];
/// Turns of a talk.
pub const COUNT: usize = TURNS.len();

/// A customer with a case.
pub struct Talk {
    /// One of the words of each of [`FACTS`].
    facts: [&'static str; FACTS.len()],
    /// What is said in each turn, one of [`TURNS`].
    said: [usize; COUNT],
    /// What is answered in training.
    answered: [usize; COUNT],
}

impl Talk {
    pub fn new(rng: &mut Rng) -> Self {
        let facts = FACTS.map(|(_, words)| words[rng.usize(..words.len())]);
        let said = TURNS.map(|turn| rng.usize(..turn.len()));
        let mut turn = 0;
        let answered = said.map(|said| {
            turn += 1;
            rng.usize(..TURNS[turn - 1][said].1.len())
        });
        Self { facts, said, answered }
    }

    fn words(&self, template: &'static str) -> Vec<&'static str> {
        let fact = |word| FACTS.iter().position(|(place, _)| *place == word).map_or(word, |fact| self.facts[fact]);
        template.split_whitespace().map(fact).collect()
    }

    /// What the customer says in a turn, and what begins the answer.
    pub fn said(&self, turn: usize) -> Vec<&'static str> {
        let mut words = self.words(TURNS[turn][self.said[turn]].0);
        words.push(ANSWER);
        words
    }

    /// Whether an answer is one that the shop can give.
    pub fn is_right(&self, turn: usize, answer: &[&str]) -> bool {
        TURNS[turn][self.said[turn]].1.iter().any(|template| self.words(template) == answer)
    }

    /// All of it, with the shop's answers.
    pub fn whole(&self) -> Vec<&'static str> {
        let mut words = introduction();
        for (turn, &answered) in self.answered.iter().enumerate() {
            words.extend(self.said(turn));
            words.extend(self.words(TURNS[turn][self.said[turn]].1[answered]));
            words.push(END);
        }
        words
    }
}

pub fn introduction() -> Vec<&'static str> {
    INTRODUCTION.split_whitespace().collect()
}

/// All words; the place of a word is its id.
pub fn vocabulary() -> Vec<&'static str> {
    let templates = TURNS.iter().flat_map(|turn| turn.iter()).flat_map(|(said, answers)| answers.iter().chain([said]));
    let words = templates.copied().chain([INTRODUCTION, ANSWER]).flat_map(str::split_whitespace);
    let words = words.filter(|word| FACTS.iter().all(|(place, _)| place != word));
    let mut words: Vec<&str> = words.chain(FACTS.iter().flat_map(|(_, words)| words.iter().copied())).collect();
    words.sort_unstable();
    words.dedup();
    words.retain(|&word| word != END);
    words.insert(0, END);
    words
}
