//! More streams than the device has memory for: states move to the host's memory and to a file, and come back.

use std::path::Path;

use gatefold::{Device, Error, Network, PagingOptions, PoolOptions, Session, State, StreamId, StreamPool};

use super::streams::{Source, networks};
use crate::common::{device, devices, pool, random_state};

/// Bytes of so many states of a network.
fn bytes(network: &Network, states: u64) -> u64 {
    let initial: State = State::initial(network, 1).unwrap();
    let numbers = initial.layers.iter().map(|layer| layer.numbers().count()).sum::<usize>();
    states * 4 * numbers as u64
}

/// A pool with room for so many states on the device, in the host's memory and in the file.
fn paged(device: &Device, network: &Network, [on_device, host, in_file]: [u64; 3], file: Option<&Path>) -> StreamPool {
    let [device_bytes, host_bytes, file_bytes] = [on_device, host, in_file].map(|states| bytes(network, states));
    let paging = PagingOptions { device_bytes, host_bytes, file_bytes, file: file.map(Into::into) };
    let options = PoolOptions { paging: Some(paging), ..PoolOptions::default() };
    StreamPool::with_options(Session::new(device, network).unwrap(), options).unwrap()
}

fn advance(pool: &StreamPool, calls: &[(StreamId, &Source)], from: usize) -> Result<Vec<Vec<f32>>, Error> {
    let network = pool.session().network();
    let calls: Vec<_> = calls.iter().map(|&(id, source)| (id, source.input(network, from, from + 2))).collect();
    Ok(pool.advance(&calls)?.iter().map(<[f32]>::to_vec).collect())
}

/// Streams that come and go through all memories have the bits of streams that stay on the device. `fault` is done to the pool in
/// between.
fn come_back(device: &Device, name: &str, network: &Network, fault: impl Fn(&StreamPool, &[StreamId])) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pages");
    let (paged, plain) = (paged(device, network, [4, 5, 11], Some(&file)), pool(device, network, 20));
    let ids = [&paged, &plain].map(|pool| (0..20).map(|_| pool.open().unwrap()).collect::<Vec<_>>());
    let sources: Vec<Source> = (0..20).map(|seed| Source::new(network, 8, seed)).collect();
    let mut rng = fastrand::Rng::with_seed(4);
    for turn in 0..4 {
        let mut order: Vec<usize> = (0..20).collect();
        rng.shuffle(&mut order);
        let mut rest = &order[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rng.usize(1..=4).min(rest.len()));
            rest = later;
            let [got, expected] = [(&paged, &ids[0]), (&plain, &ids[1])].map(|(pool, ids)| {
                let calls: Vec<_> = now.iter().map(|&stream| (ids[stream], &sources[stream])).collect();
                advance(pool, &calls, 2 * turn).unwrap()
            });
            assert_eq!(got, expected, "{name}, answers");
        }
        fault(&paged, &ids[0]);
    }
    assert_eq!((paged.capacity(), paged.states_by_place()), (4, [4, 5, 11]), "{name}");
    for (&own, &other) in ids[0].iter().zip(&ids[1]) {
        assert_eq!(paged.snapshot(own).unwrap(), plain.snapshot(other).unwrap(), "{name}, states");
    }
    assert_eq!(paged.states(&ids[0]).unwrap(), plain.states(&ids[1]).unwrap(), "{name}");
    let counters = paged.counters();
    assert!(counters.paged_in >= 48 && counters.paged_out >= 64, "{counters:?}");
    assert!(file.exists());
    ids[0].iter().for_each(|&id| paged.close(id).unwrap());
    assert_eq!(paged.states_by_place(), [0; 3]);
    drop(paged);
    assert!(!file.exists(), "the file goes with the pool");
}

#[test]
fn streams_come_back_with_the_same_bits() {
    for device in devices(device()) {
        for (name, network) in networks() {
            come_back(&device, name, &network, |_, _| {});
        }
    }
}

/// Negative control: two streams that changed places are noticed.
#[test]
fn changed_places_are_noticed() {
    let swap = |pool: &StreamPool, ids: &[StreamId]| {
        let states = [3, 11].map(|at: usize| pool.snapshot(ids[at]).unwrap());
        pool.restore(ids[3], &states[1]).unwrap();
        pool.restore(ids[11], &states[0]).unwrap();
    };
    let (name, network) = &networks()[0];
    let check = std::panic::AssertUnwindSafe(|| come_back(device(), name, network, swap));
    let panic = std::panic::catch_unwind(check).expect_err("a fault went unseen");
    assert!(panic.downcast_ref::<String>().expect("a message").contains("answers"));
}

/// Forks of an idle stream and what it was before move with it.
#[test]
fn shared_states_move_once() {
    for device in devices(device()) {
        let network = &networks()[0].1;
        let paging =
            PagingOptions { device_bytes: bytes(network, 2), host_bytes: bytes(network, 10), ..Default::default() };
        let options = PoolOptions { keep_last: 1, paging: Some(paging), ..PoolOptions::default() };
        let pool = StreamPool::with_options(Session::new(&device, network).unwrap(), options).unwrap();
        let source = Source::new(network, 8, 1);
        let id = pool.open().unwrap();
        advance(&pool, &[(id, &source)], 0).unwrap();
        let first = pool.snapshot(id).unwrap();
        advance(&pool, &[(id, &source)], 2).unwrap();
        let second = pool.snapshot(id).unwrap();
        let forks: Vec<StreamId> = (0..50).map(|_| pool.fork(id).unwrap()).collect();
        let others = [0; 2].map(|_| pool.open().unwrap());
        others.iter().for_each(|&other| drop(advance(&pool, &[(other, &source)], 0).unwrap()));
        assert_eq!(pool.states_by_place(), [2, 2, 0]);
        assert_eq!(pool.snapshot(forks[9]).unwrap(), second);
        pool.rewind(forks[9], 1).unwrap();
        pool.rewind(id, 1).unwrap();
        assert_eq!([forks[9], id].map(|id| pool.snapshot(id).unwrap()), [first.clone(), first]);
        let answers = [forks[9], forks[10]].map(|id| advance(&pool, &[(id, &source)], 4).unwrap());
        assert_ne!(answers[0], answers[1]);
        assert_eq!(pool.snapshot(forks[11]).unwrap(), second);
    }
}

/// What has no room is refused, and every stream stays what it was.
#[test]
fn full_memories_are_errors() {
    for device in devices(device()) {
        let network = &networks()[0].1;
        let source = Source::new(network, 8, 1);
        let pool = paged(&device, network, [2, 3, 0], None);
        let ids: Vec<StreamId> = (0..6).map(|_| pool.open().unwrap()).collect();
        ids[..5].iter().for_each(|&id| drop(advance(&pool, &[(id, &source)], 0).unwrap()));
        let kept: Vec<State> = ids.iter().map(|&id| pool.snapshot(id).unwrap()).collect();
        let unharmed = |what: &str| {
            let states: Vec<State> = ids.iter().map(|&id| pool.snapshot(id).unwrap()).collect();
            assert_eq!((states, pool.states_by_place()), (kept.clone(), [2, 3, 0]), "{what}");
        };
        let error = advance(&pool, &[(ids[5], &source)], 0).unwrap_err();
        assert!(
            matches!(&error, Error::TooLarge { limit: 5, limit_name, .. } if limit_name.contains("host_bytes")),
            "{error}"
        );
        unharmed("a sixth state");
        let error = pool.restore(ids[5], &random_state(network, 1, 1)).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
        unharmed("a sixth state that is given");
        let three: Vec<_> = ids[..3].iter().map(|&id| (id, &source)).collect();
        let error = advance(&pool, &three, 2).unwrap_err();
        assert!(
            matches!(&error, Error::TooLarge { limit: 2, limit_name, .. } if limit_name == "device_bytes"),
            "{error}"
        );
        unharmed("a batch of three");
        // Full memories still exchange their states.
        for turn in 1..3 {
            ids[..5].iter().for_each(|&id| drop(advance(&pool, &[(id, &source)], 2 * turn).unwrap()));
        }
        pool.close(ids[0]).unwrap();
        advance(&pool, &[(ids[5], &source)], 0).unwrap();

        let refused = |paging: PagingOptions, name: &str| {
            let options = PoolOptions { paging: Some(paging), ..PoolOptions::default() };
            let error = StreamPool::with_options(Session::new(&device, network).unwrap(), options).unwrap_err();
            assert!(matches!(&error, Error::Option { option, .. } if option == name), "{error}");
        };
        refused(PagingOptions { device_bytes: bytes(network, 1) - 1, ..Default::default() }, "device_bytes");
        refused(PagingOptions { device_bytes: 4096, file_bytes: 4096, ..Default::default() }, "file_bytes");
    }
}

/// The one state of each stream, all of them in the file but the last two.
fn filed(device: &Device, network: &Network, file: &Path, source: &Source) -> (StreamPool, Vec<StreamId>, Vec<State>) {
    let pool = paged(device, network, [2, 0, 20], Some(file));
    let ids: Vec<StreamId> = (0..6).map(|_| pool.open().unwrap()).collect();
    ids.iter().enumerate().for_each(|(at, &id)| pool.restore(id, &random_state(network, 1, at as u64)).unwrap());
    assert_eq!(pool.states_by_place(), [2, 0, 4]);
    let states = ids.iter().map(|&id| pool.snapshot(id).unwrap()).collect();
    advance(&pool, &[(ids[5], source)], 0).unwrap();
    (pool, ids, states)
}

/// A file that was cut or changed is an error of the streams that lie there; the others go on.
#[test]
fn a_damaged_file_harms_no_other_stream() {
    for device in devices(device()) {
        let network = &networks()[0].1;
        let source = Source::new(network, 8, 1);
        let row = 8 + bytes(network, 1);
        for cut in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("pages");
            let (pool, ids, states) = filed(&device, network, &path, &source);
            let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
            assert_eq!(file.metadata().unwrap().len(), 4 * row);
            // The third and fourth row, or one number of the third.
            if cut {
                file.set_len(2 * row + 5).unwrap();
            } else {
                use std::io::{Seek as _, Write as _};
                let mut file = &file;
                file.seek(std::io::SeekFrom::Start(2 * row + 20)).unwrap();
                file.write_all(&[0x55]).unwrap();
            }
            let lost: Vec<usize> = (0..6).filter(|&at| pool.snapshot(ids[at]).is_err()).collect();
            assert_eq!(lost.len(), if cut { 2 } else { 1 }, "{lost:?}");
            let word = if cut { "cut" } else { "checksum" };
            let error = pool.snapshot(ids[lost[0]]).unwrap_err();
            assert!(matches!(&error, Error::Malformed { got, .. } if got.contains(word)), "{error}");
            for &at in &lost {
                // The call writes to the file too, which is then no longer shorter.
                let error = advance(&pool, &[(ids[at], &source)], 0).unwrap_err();
                assert!(matches!(error, Error::Malformed { .. }), "{error}");
                let together = [(ids[5], &source), (ids[at], &source)];
                let before = pool.snapshot(ids[5]).unwrap();
                assert!(matches!(advance(&pool, &together, 2), Err(Error::Malformed { .. })));
                assert_eq!(pool.snapshot(ids[5]).unwrap(), before);
            }
            for at in (0..5).filter(|at| !lost.contains(at)) {
                assert_eq!(pool.snapshot(ids[at]).unwrap(), states[at]);
                advance(&pool, &[(ids[at], &source)], 0).unwrap();
            }
            // A stream whose state is lost can be given another.
            pool.restore(ids[lost[0]], &states[5]).unwrap();
            advance(&pool, &[(ids[lost[0]], &source)], 0).unwrap();
        }
    }
}

/// A full disk is an error of the call that needs it; every stream stays what it was.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_harms_no_stream() {
    for device in devices(device()) {
        let network = &networks()[0].1;
        let source = Source::new(network, 8, 1);
        let pool = paged(&device, network, [2, 1, 10], Some(Path::new("/dev/full")));
        let ids: Vec<StreamId> = (0..4).map(|_| pool.open().unwrap()).collect();
        ids[..3].iter().for_each(|&id| drop(advance(&pool, &[(id, &source)], 0).unwrap()));
        let kept: Vec<State> = ids.iter().map(|&id| pool.snapshot(id).unwrap()).collect();
        for _ in 0..2 {
            let error = advance(&pool, &[(ids[3], &source)], 0).unwrap_err();
            assert!(matches!(&error, Error::Io { path, .. } if path.ends_with("full")), "{error}");
            let states: Vec<State> = ids.iter().map(|&id| pool.snapshot(id).unwrap()).collect();
            assert_eq!((states, pool.states_by_place()), (kept.clone(), [2, 1, 0]));
        }
        ids[..3].iter().for_each(|&id| drop(advance(&pool, &[(id, &source)], 2).unwrap()));
        drop(pool);
        assert!(Path::new("/dev/full").exists());
    }
}

/// A file that is there already is not written over.
#[test]
fn an_existing_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pages");
    std::fs::write(&path, "mine").unwrap();
    let network = &networks()[0].1;
    let absent = folder.path().join("absent").join("pages");
    for path in [path.as_path(), folder.path(), &absent] {
        let paging = PagingOptions { device_bytes: 4096, file: Some(path.into()), ..Default::default() };
        let options = PoolOptions { paging: Some(paging), ..PoolOptions::default() };
        let error = StreamPool::with_options(Session::new(device(), network).unwrap(), options).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
}
