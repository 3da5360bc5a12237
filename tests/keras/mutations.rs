//! Broken files: for any change or truncation the reader returns a network or an error, in a short time and
//! with memory in proportion to the file.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use gatefold::formats::keras;

use crate::bundle::{Files, file, unzip, zip};

/// Counts what each thread holds, for the bound on memory.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: isize) {
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

#[expect(unsafe_code, reason = "an allocator that counts; it hands everything to the system's")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The most that `work` held at once beyond what there was before.
fn peak(work: impl FnOnce()) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    work();
    (PEAK.get() - before).try_into().unwrap()
}

/// One of several kinds of damage.
fn damage(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
    match random.u8(..5) {
        0 => bytes.truncate(random.usize(..bytes.len())),
        1 => {
            for _ in 0..random.usize(1..5) {
                let at = random.usize(..bytes.len());
                bytes[at] ^= 1 << random.u8(..8);
            }
        }
        2 => {
            for _ in 0..random.usize(1..5) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.choice([0, 1, 4, 8, 127, 128, 254, 255]).unwrap();
            }
        }
        // A size or an address.
        3 => {
            let at = random.usize(..bytes.len().saturating_sub(8).max(1));
            let value = match random.u8(..3) {
                0 => u64::MAX,
                1 => 1 << random.u32(10..63),
                _ => random.u64(..bytes.len() as u64),
            };
            let end = bytes.len().min(at + 8);
            bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
        }
        // A piece of the file in the place of another.
        _ => {
            let length = random.usize(1..bytes.len().min(64));
            let (from, to) = (random.usize(..=bytes.len() - length), random.usize(..=bytes.len() - length));
            bytes.copy_within(from..from + length, to);
        }
    }
}

/// Reads damaged copies of `bytes`; gives how many were still networks.
fn batter(name: &str, bytes: &[u8], rounds: u64, prepare: impl Fn(Vec<u8>) -> Vec<u8>) -> u64 {
    let mut whole = 0;
    for seed in 0..rounds {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut damaged = bytes.to_vec();
        damage(&mut damaged, &mut random);
        let damaged = prepare(damaged);
        let held = peak(|| whole += u64::from(keras::from_bytes(name, &damaged).is_ok()));
        // The limit of what may be unpacked, and the reader's own tables.
        let bound = 128 * bytes.len() + (16 << 20);
        assert!(held <= bound, "{name}, seed {seed}: {held} bytes held, {bound} allowed");
    }
    whole
}

#[test]
fn damaged_files_are_refused_or_read() {
    for name in [
        "bidirectional_last.keras",
        "stacked.h5",
        "keras2_graph.h5",
        "odd_stacked_packed.h5",
        "odd_stacked_packed_earliest.h5",
        "odd_stacked_deflated.keras",
    ] {
        let whole = batter(name, file(name), 1500, |bytes| bytes);
        assert!(whole < 1500, "{name}: no damage was seen");
    }
}

/// Damage whose checksums in the archive are right, so that it reaches the parser.
#[test]
fn damaged_entries_are_refused_or_read() {
    let name = "masking_residual.keras";
    let entries = unzip(file(name));
    for entry in ["config.json", "metadata.json", "model.weights.h5"] {
        let with = |bytes: Vec<u8>| {
            let mut changed: Files = entries.clone();
            changed.insert(entry.into(), bytes);
            zip(&changed)
        };
        batter(name, &entries[entry], 700, with);
    }
}

#[test]
fn no_start_of_a_file_is_a_file() {
    for name in ["lstm.keras", "lstm.h5"] {
        let bytes = file(name);
        let steps = (0..bytes.len()).step_by(37).chain(0..64);
        for length in steps {
            let result = keras::from_bytes(name, &bytes[..length]);
            // What h5py left free at the end does not matter.
            assert!(result.is_err() || length > bytes.len() - 4096, "{name} up to {length} is a network");
        }
    }
}

/// A megabyte of zeros per kilobyte is refused by its declared size, and by its actual size if the declared one is wrong.
#[test]
fn a_bomb_is_not_unpacked() {
    let mut entries = unzip(file("lstm.keras"));
    entries.insert("model.weights.h5".into(), vec![0; 64 << 20]);
    let bomb = zip(&entries);
    assert!(bomb.len() < 100_000);
    let held = peak(|| {
        let error = keras::from_bytes("bomb", &bomb).unwrap_err().to_string();
        assert!(error.contains("model.weights.h5: needs 67108864"), "{error}");
    });
    assert!(held < 1 << 20, "{held}");

    let mut liar = bomb.clone();
    let size = (64u32 << 20).to_le_bytes();
    let places: Vec<usize> = (0..liar.len() - 4).filter(|&at| liar[at..at + 4] == size).collect();
    assert!(!places.is_empty());
    for at in places {
        liar[at..at + 4].copy_from_slice(&30_000u32.to_le_bytes());
    }
    let held = peak(|| assert!(keras::from_bytes("liar", &liar).is_err()));
    assert!(held < 1 << 20, "{held}");
}
