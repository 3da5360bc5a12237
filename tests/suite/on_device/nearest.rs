//! Nearest past states, against cosines in f64.

use fastrand::Rng;
use gatefold::{Device, NearState, StateIndex};

use crate::common::device;

/// W
const WIDTH: usize = 24;

fn vectors(rng: &mut Rng, count: usize) -> Vec<f32> {
    (0..count * WIDTH).map(|_| rng.f32() * 2.0 - 1.0).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The labels of the nearest keys by f64, which are the keys' numbers.
fn exact(keys: &[f32], query: &[f32], count: usize) -> Vec<(u64, f64)> {
    let cosines = keys.chunks_exact(WIDTH).map(|key| cosine(key, query));
    let mut all: Vec<(u64, f64)> = (0..).zip(cosines).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.truncate(count);
    all
}

fn agree(found: &[NearState], exact: &[(u64, f64)]) -> bool {
    found.len() == exact.len()
        && found.iter().zip(exact).all(|(found, &(label, cosine))| {
            // Two keys may be nearer to each other than f32 tells apart.
            let close = (f64::from(found.cosine) - cosine).abs() < 1e-6;
            close
                && (found.label == label
                    || exact.iter().any(|&(other, near)| other == found.label && (near - cosine).abs() < 1e-6))
        })
}

/// Keys in matrices on the device and those that wait in the host's memory.
#[test]
fn the_nearest_are_found() {
    let mut rng = Rng::with_seed(1);
    let device = device();
    let mut index = StateIndex::new(device, WIDTH).unwrap();
    assert_eq!(index.nearest(&[1.0; WIDTH], 3).unwrap(), [[]]);
    let keys = vectors(&mut rng, 17_000);
    let labels: Vec<u64> = (0..17_000).collect();
    for part in [0..1_000, 1_000..16_500, 16_500..17_000] {
        index.add(&keys[part.start * WIDTH..part.end * WIDTH], &labels[part]).unwrap();
    }
    assert_eq!((index.len(), index.bytes()), (17_000, 17_000 * 96));
    let queries = vectors(&mut rng, 7);
    let found = index.nearest(&queries, 10).unwrap();
    for (found, query) in found.iter().zip(queries.chunks_exact(WIDTH)) {
        let exact = exact(&keys, query, 10);
        assert!(agree(found, &exact), "{found:?}\n{exact:?}");
        // The control: a query's neighbours are not those of another direction.
        let other: Vec<f32> = query.iter().map(|x| -x).collect();
        assert!(!agree(found, &self::exact(&keys, &other, 10)));
    }
    // A key finds itself, whatever its length.
    for number in [0usize, 16_383, 16_384, 16_999] {
        let query: Vec<f32> = keys[number * WIDTH..][..WIDTH].iter().map(|x| x * 1e3).collect();
        let [near] = index.nearest(&query, 1).unwrap()[0][..] else { panic!("one") };
        assert!(near.label == number as u64 && near.cosine > 0.999_999, "{near:?}");
    }
    // Neither in a matrix nor beside it is a removed key found; its label is free again.
    for number in [5u64, 16_990] {
        index.remove(number).unwrap();
        let query = &keys[usize::try_from(number).unwrap() * WIDTH..][..WIDTH];
        assert!(index.nearest(query, 5).unwrap()[0].iter().all(|near| near.label != number));
    }
    index.add(&keys[5 * WIDTH..6 * WIDTH], &[5]).unwrap();
    assert_eq!(index.nearest(&keys[5 * WIDTH..6 * WIDTH], 1).unwrap()[0][0].label, 5);
    assert_eq!(index.len(), 16_999);
}

#[test]
fn what_has_no_direction_is_refused() {
    let mut index = StateIndex::new(device(), 2).unwrap();
    index.add(&[1.0, 0.0, 0.0, 1.0], &[1, 2]).unwrap();
    let error = |result: Result<(), gatefold::Error>| result.unwrap_err().to_string();
    let texts = [
        (error(index.add(&[1.0; 3], &[3])), "2 numbers each"),
        (error(index.add(&[1.0; 4], &[3])), "2 labels"),
        (error(index.add(&[1.0, f32::NAN], &[3])), "NaN"),
        (error(index.add(&[0.0; 2], &[3])), "not all 0"),
        (error(index.add(&[1.0; 2], &[2])), "one that is not there"),
        (error(index.add(&[1.0; 4], &[3, 3])), "one that is not there"),
        (error(index.remove(3)), "one that is there"),
        (error(index.nearest(&[f32::INFINITY, 0.0], 1).map(drop)), "inf"),
        (StateIndex::new(device(), 0).unwrap_err().to_string(), "at least 1"),
    ];
    for (error, expected) in texts {
        assert!(error.contains(expected), "{expected} in {error}");
    }
    // Unchanged by what was refused; more are asked for than there are; equally near ones in the order in which they came.
    let found = index.nearest(&[1.0, 1.0], 5).unwrap();
    assert_eq!(found[0].iter().map(|near| near.label).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(index.nearest(&[], 5).unwrap().len(), 0);
    assert_eq!(index.nearest(&[1.0, 1.0], 0).unwrap(), [[]]);
}

/// The size that the documentation names: the device finds what the CPU finds, and a past state that is near.
#[test]
#[ignore = "100 MB of keys"]
fn among_100_000_keys_the_device_finds_what_the_cpu_does() {
    const NUMBERS: usize = 256;
    let mut rng = Rng::with_seed(2);
    let keys: Vec<f32> = (0..100_000 * NUMBERS).map(|_| rng.f32() * 2.0 - 1.0).collect();
    let labels: Vec<u64> = (0..100_000).collect();
    let [ours, theirs] = [device(), &Device::cpu()].map(|device| {
        let mut index = StateIndex::new(device, NUMBERS).unwrap();
        index.add(&keys, &labels).unwrap();
        index
    });
    let near: Vec<f32> = (0..20usize)
        .flat_map(|query| keys[query * 4_999 * NUMBERS..][..NUMBERS].to_vec())
        .map(|x| x + 0.2 * (rng.f32() - 0.5))
        .collect();
    let [ours, theirs] = [&ours, &theirs].map(|index| index.nearest(&near, 5).unwrap());
    for (query, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        assert_eq!(ours[0].label, 4_999 * query as u64, "recall of the nearest");
        for (a, b) in ours.iter().zip(theirs) {
            assert!((a.cosine - b.cosine).abs() < 1e-6, "{ours:?}\n{theirs:?}");
            assert!(a.label == b.label || theirs.iter().any(|b| b.label == a.label), "{ours:?}\n{theirs:?}");
        }
    }
    // The control: without the key it is not found.
    let mut without = StateIndex::new(&Device::cpu(), NUMBERS).unwrap();
    without.add(&keys[NUMBERS..], &labels[1..]).unwrap();
    let start = std::time::Instant::now();
    let found = without.nearest(&near[..NUMBERS], 1).unwrap();
    eprintln!("a search of 100,000 keys on the CPU: {:?}", start.elapsed());
    assert!(found[0][0].label != 0 && found[0][0].cosine < 0.5, "{found:?}");
}
