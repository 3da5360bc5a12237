//! Compiled kernels, kept from command to command.

use std::path::PathBuf;

use crate::support::{Folder, Run, command, json, on_software};

const ARGS: [&str; 6] = ["classify", "a warm, funny film", "--device", "software", "--format", "json"];

/// Classifies with this cache folder; the probabilities and the run.
fn classified(cache: &str) -> (serde_json::Value, Run) {
    let output = command(ARGS).env("XDG_CACHE_HOME", cache).output().expect("the binary starts");
    let run = Run {
        code: output.status.code().expect("an exit code"),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    assert_eq!(run.code, 0, "{run:?}");
    (json(&run.stdout)["predictions"].clone(), run)
}

#[test]
fn kernels_are_kept_and_damage_is_mended() {
    on_software(&ARGS[..2]);
    let folder = Folder::new("pipelines");
    let cache = folder.path("cache");
    let _ = std::fs::remove_dir_all(&cache);
    let kept = || -> Vec<PathBuf> {
        let Ok(files) = std::fs::read_dir(PathBuf::from(&cache).join("gatefold")) else { return Vec::new() };
        files.map(|file| file.expect("a file").path()).collect()
    };
    let (first, run) = classified(&cache);
    let [file] = &kept()[..] else {
        // Adapters without Vulkan keep nothing.
        assert!(kept().is_empty() && !run.stdout.contains("vulkan"), "{run:?}: {:?}", kept());
        return;
    };
    let name = file.file_name().expect("a name").to_str().expect("UTF-8");
    assert!(name.starts_with("pipelines-") && name.ends_with(".bin"), "{name}");
    let good = std::fs::read(file).expect("the file");
    for content in [&good[..], &good[..good.len() / 2], b"nonsense"] {
        std::fs::write(file, content).expect("the file");
        let (again, run) = classified(&cache);
        assert_eq!((again, run.stderr.as_str()), (first.clone(), ""), "quietly, the same answer");
        assert_eq!((kept().len(), std::fs::read(file).expect("the file")), (1, good.clone()));
    }
    // If nothing can be stored or read, one line reports it, and the answer is printed.
    let blocked = folder.file("blocked", "no folder");
    for (cache, word) in [(blocked.as_str(), "compiling every kernel"), ("/proc", "not kept")] {
        let (again, run) = classified(cache);
        assert_eq!(again, first);
        // Mesa's own cache is there too and prints its own errors.
        let ours: Vec<&str> = run.stderr.lines().filter(|line| line.starts_with("gatefold")).collect();
        assert!(ours.len() == 1 && ours[0].contains(word), "{run:?}");
    }
}
