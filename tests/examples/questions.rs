//! The stories of the example `question_answering`.

use crate::stories::{Facts, ROOMS, Story, vocabulary};

const ALL: [Facts; 3] = [Facts::One, Facts::Two, Facts::Three];

/// The answer, from the words alone.
fn answer(words: &[&str]) -> Option<String> {
    let mut sentences: Vec<&[&str]> = words.split(|word| *word == ".").collect();
    let question = sentences.pop()?;
    // Rooms of everything and everybody that is named, in order.
    let mut trails = std::collections::BTreeMap::<&str, Vec<&str>>::new();
    let mut holders = std::collections::BTreeMap::<&str, &str>::new();
    for sentence in sentences {
        match *sentence {
            [person, "went", "to", "the", room] => {
                trails.entry(person).or_default().push(room);
                for (thing, _) in holders.iter().filter(|(_, holder)| **holder == person) {
                    trails.entry(thing).or_default().push(room);
                }
            }
            [person, "took", "the", thing] => {
                assert_eq!(holders.insert(thing, person), None, "held by one person");
                let room = *trails[person].last()?;
                let trail = trails.entry(thing).or_default();
                assert!(trail.last().is_none_or(|&last| last == room), "taken where it is");
                if trail.is_empty() {
                    trail.push(room);
                }
            }
            [person, "dropped", "the", thing] => assert_eq!(holders.remove(thing), Some(person)),
            _ => panic!("{sentence:?}"),
        }
    }
    let back = |trail: &[&str], steps: usize| trail.iter().rev().nth(steps).map(|room| (*room).to_owned());
    match *question {
        ["where", "is", person, "?"] | ["where", "is", "the", person, "?"] => back(&trails[person], 0),
        ["where", "was", "the", thing, "before", "the", last, "?"] => {
            assert_eq!(trails[thing].last(), Some(&last));
            back(&trails[thing], 1)
        }
        _ => panic!("{question:?}"),
    }
}

#[test]
fn answers_follow_from_the_words() {
    for facts in ALL {
        let [stories] = Story::sets(facts, [500], 7);
        for story in &stories {
            assert_eq!(answer(&story.words).as_deref(), Some(ROOMS[story.answer]), "{:?}", story.words);
            let ids = story.ids();
            assert_eq!(ids.len(), story.words.len());
            assert!(ids.iter().zip(&story.words).all(|(&id, word)| vocabulary()[id as usize - 1] == *word));
        }
    }
}

/// No rule without learning answers them: the most frequent answer and the last room named are far from enough.
#[test]
fn easy_rules_fail() {
    for (facts, most) in ALL.into_iter().zip([0.55, 0.40, 0.25]) {
        let [stories] = Story::sets(facts, [2000], 3);
        let share = |right: &dyn Fn(&Story) -> bool| {
            f64::from(u32::try_from(stories.iter().filter(|story| right(story)).count()).unwrap()) / 2000.0
        };
        for room in 0..ROOMS.len() {
            assert!((0.1..0.25).contains(&share(&|story| story.answer == room)), "{facts:?} {room}");
        }
        let last = share(&|story| {
            let rooms = story.words.iter().rev().find_map(|word| ROOMS.iter().position(|room| room == word));
            rooms == Some(story.answer)
        });
        assert!(last < most, "{facts:?}: {last}");
    }
}

#[test]
fn sets_are_apart_and_repeatable() {
    let [train, test] = Story::sets(Facts::Two, [300, 100], 5);
    assert!(test.iter().all(|story| !train.contains(story)));
    assert_eq!(Story::sets(Facts::Two, [300, 100], 5), [train.clone(), test]);
    assert_ne!(Story::sets(Facts::Two, [300], 6), [train]);
}
