//! Files that several threads write at once: a reader finds the complete content of one of them.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::{fs, thread};

use gatefold::network::LayerSpec;
use gatefold::tuning::{Tuned, Tuning};
use gatefold::{Arithmetic, DeviceInfo, Error, Network, State, Strategy, files};

use crate::common::{lstm, spec};

/// What went wrong while two threads wrote and one read.
#[derive(Debug, Default, PartialEq)]
struct Faults {
    saves: usize,
    reads: usize,
}

/// Two threads save, each its own content, and one reads until they have ended.
fn faults(saves: usize, save: impl Fn(usize) -> bool + Sync, read: impl Fn() -> bool + Sync) -> Faults {
    let (failed, broken, ended) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    assert!(save(0) && read(), "one alone");
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                broken.fetch_add(usize::from(!read()), Ordering::Relaxed);
            }
        });
        let savers = [0, 1].map(|saver| {
            let (save, failed) = (&save, &failed);
            scope.spawn(move || {
                for _ in 0..saves {
                    failed.fetch_add(usize::from(!save(saver)), Ordering::Relaxed);
                }
            })
        });
        savers.into_iter().for_each(|saver| saver.join().unwrap());
        ended.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
    Faults { saves: failed.into_inner(), reads: broken.into_inner() }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn two_savers_and_a_reader_see_whole_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let network = Network::random(spec(vec![LayerSpec::Lstm(lstm(1, 256))]), 1).unwrap();
    let mut states = [1, 400].map(|batch| State::zeros(&network, batch).unwrap());
    states[1].layers[0].parts[0].data.fill(1.0);
    let found = faults(
        200,
        |saver| states[saver].save(&path, &network).is_ok(),
        || State::load(&path, &network).is_ok_and(|read| states.contains(&read)),
    );
    assert_eq!(found, Faults::default());
    assert_eq!(names(folder.path()), ["state.safetensors"]);
}

/// The negative control: the same with the name of this process alone, as it once was.
#[test]
fn a_shared_temporary_name_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, partial) = (folder.path().join("file"), folder.path().join("file.partial"));
    let contents = [vec![0; 1 << 20], vec![1; 1 << 16]];
    let found = faults(
        2000,
        |saver| fs::write(&partial, &contents[saver]).and_then(|()| fs::rename(&partial, &path)).is_ok(),
        || fs::read(&path).is_ok_and(|read| contents.contains(&read)),
    );
    assert!(found.saves + found.reads > 0, "{found:?}");
}

#[test]
fn a_taken_name_is_not_taken_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let won: usize = thread::scope(|scope| {
        let writers = [(); 8].map(|()| scope.spawn(|| files::write_new(&path, b"mine")));
        writers.into_iter().map(|writer| usize::from(writer.join().unwrap().is_ok())).sum()
    });
    assert_eq!((won, fs::read(&path).unwrap().as_slice()), (1, &b"mine"[..]));
    let error = files::write_new(&path, b"other").unwrap_err();
    assert!(
        matches!(&error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists),
        "{error}"
    );
    assert_eq!((names(folder.path()), fs::read(&path).unwrap().as_slice()), (vec!["file".into()], &b"mine"[..]));
}

#[test]
fn an_error_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("folder")).unwrap();
    for name in ["folder", "no/such/folder/file", "folder/"] {
        let path = folder.path().join(name);
        assert!(matches!(files::write(&path, b"x").unwrap_err(), Error::Io { path: at, .. } if at == path), "{name}");
        assert!(files::check(&path).is_err(), "{name}");
    }
    assert!(names(&folder.path().join("folder")).is_empty());
    assert_eq!(names(folder.path()), ["folder"]);
    // A check leaves what is there, and nothing where nothing is.
    let path = folder.path().join("file");
    files::check(&path).unwrap();
    assert!(!path.exists());
    // If the name has the maximum length, a longer temporary name is impossible.
    let long = folder.path().join("x".repeat(255));
    files::write(&long, b"x").unwrap();
    files::check(&long).unwrap();
    assert_eq!(fs::read(&long).unwrap(), b"x");
}

#[cfg(unix)]
mod on_unix {
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn permissions_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let [path, new, plain] = ["file", "new", "plain"].map(|name| folder.path().join(name));
        fs::write(&path, "old").unwrap();
        for kept in [0o600, 0o640, 0o444, 0o755] {
            fs::set_permissions(&path, fs::Permissions::from_mode(kept)).unwrap();
            files::write(&path, b"new").unwrap();
            assert_eq!(mode(&path), kept);
        }
        files::write(&new, b"new").unwrap();
        fs::write(&plain, "new").unwrap();
        assert_eq!(mode(&new), mode(&plain), "a new file is as any other");
    }

    #[test]
    fn links_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("there")).unwrap();
        symlink("there/file", at("link")).unwrap();
        symlink("link", at("link to a link")).unwrap();
        for content in ["the first, where it pointed nowhere", "the second"] {
            files::check(&at("link to a link")).unwrap();
            files::write(&at("link to a link"), content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(at("there/file")).unwrap(), content);
            assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
        }
        assert_eq!((names(folder.path()).len(), names(&at("there"))), (3, vec!["file".to_owned()]));
        symlink("round", at("round")).unwrap();
        assert!(files::write(&at("round"), b"x").is_err());
        // A link that points nowhere has the name.
        symlink("nowhere", at("dangling")).unwrap();
        assert!(files::write_new(&at("dangling"), b"x").is_err());
        assert!(fs::symlink_metadata(at("dangling")).unwrap().is_symlink() && !at("nowhere").exists());
    }

    /// A pipe of the test's own: a writer that replaces what is no file must not reach `/dev/null`.
    #[test]
    fn pipes_stay_pipes() {
        let folder = tempfile::tempdir().unwrap();
        let [pipe, link] = ["pipe", "link"].map(|name| folder.path().join(name));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        symlink("pipe", &link).unwrap();
        files::check(&link).unwrap();
        // Open for both, so that no side waits for the other.
        let mut end = fs::File::options().read(true).write(true).open(&pipe).unwrap();
        files::write(&link, b"through").unwrap();
        let mut read = [0; 7];
        std::io::Read::read_exact(&mut end, &mut read).unwrap();
        assert_eq!(&read, b"through");
        assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(files::write_new(&pipe, b"x").is_err());
    }
}

fn tuned(batch: usize) -> Tuned {
    Tuned {
        recurrences: "LSTM".into(),
        steps: 8,
        batch,
        arithmetic: Arithmetic::F32,
        strategy: Strategy::Step,
        split: None,
        units: None,
        four_rows: None,
        held: None,
        microseconds: 1.0,
        untuned_microseconds: 1.0,
        cpu_microseconds: 1.0,
    }
}

#[test]
fn results_of_all_that_tune_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tuning.json");
    let info = DeviceInfo::cpu();
    let update = |batch: usize| {
        Tuning::update(&path, |found| {
            let mut tuning = found.unwrap_or_else(|_| Tuning::new(&info));
            tuning.keep(tuned(batch));
            Ok::<_, Error>(tuning)
        })
        .unwrap();
    };
    thread::scope(|scope| {
        for saver in 0..8 {
            scope.spawn(move || (0..5).for_each(|index| update(1 + 5 * saver + index)));
        }
    });
    let mut batches: Vec<usize> = Tuning::load(&path).unwrap().entries().iter().map(|tuned| tuned.batch).collect();
    batches.sort_unstable();
    assert_eq!(batches, (1..=40).collect::<Vec<_>>());
    assert_eq!(names(folder.path()), ["tuning.json"], "the lock leaves no file");
    // An error changes nothing, and ends the lock.
    let error = Tuning::update(&path, |_| Err(Error::QueueClosed)).unwrap_err();
    assert!(matches!(error, Error::QueueClosed));
    update(50);
    assert_eq!(Tuning::load(&path).unwrap().entries().len(), 41);
}
