//! `tune`, and that the other commands follow it.

use crate::support::{Folder, answer, command, on_software, refusal};

#[test]
fn what_is_tuned_is_followed() {
    let folder = Folder::new("tune");
    let out = folder.path("tuning.json");
    let _ = std::fs::remove_file(&out);
    let tuned = on_software(&["tune", "--steps", "5", "--batch", "2", "--runs", "1", "--out", &out]);
    assert_eq!(tuned.code, 0, "{tuned:?}");
    assert!(tuned.stdout.contains("fastest") && tuned.stdout.contains(&out), "{tuned:?}");
    let args = ["plan", "--device", "software", "--steps", "5", "--batch", "2"];
    let followed = command(args).env("GATEFOLD_TUNING", &out).output().expect("the binary starts");
    let text = String::from_utf8_lossy(&followed.stdout).into_owned();
    assert!(text.contains("measured to be the fastest on this adapter"), "{text}");
    assert!(!answer(args).contains("measured to be"), "without the file nothing is tuned");
    // A software adapter is slower than the CPU: if gatefold may choose, it takes the CPU.
    assert!(tuned.stdout.contains("`auto` takes the CPU"), "{tuned:?}");
    let adapter = serde_json::from_str::<serde_json::Value>(&std::fs::read_to_string(&out).expect("a file"));
    let adapter = adapter.expect("JSON");
    for (device, goes) in [("auto", true), ("software", false)] {
        let freely = command(["plan", "--device", device, "--steps", "5", "--batch", "2"])
            .env("GATEFOLD_TUNING", &out)
            .env("WGPU_ADAPTER_NAME", adapter["adapter"].as_str().expect("a name"))
            .env("WGPU_BACKEND", adapter["backend"].as_str().expect("a name"))
            .output()
            .expect("the binary starts");
        let text = String::from_utf8_lossy(&freely.stdout).into_owned();
        assert_eq!(text.contains("such runs go to the CPU"), goes, "{device}: {text} {freely:?}");
    }
    // A file that is no tuning is not written over.
    let model = folder.file("model.safetensors", b"another file");
    let refused = on_software(&["tune", "--steps", "5", "--runs", "1", "--out", &model]);
    assert!(refused.code == 2 && refused.stderr.contains("tuning file"), "{refused:?}");
    assert_eq!(std::fs::read(&model).expect("a file"), b"another file");
    // Broken, or another adapter's: an error where it is named.
    let named = |content: &str| {
        let path = folder.file("named.json", content.as_bytes());
        command(args).env("GATEFOLD_TUNING", &path).output().expect("the binary starts")
    };
    let other = std::fs::read_to_string(&out).expect("a file").replace("\"adapter\": \"", "\"adapter\": \"Other ");
    for (content, word) in [("nonsense", "tuning file"), (other.as_str(), "Other ")] {
        let output = named(content);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && stderr.contains(word), "{stderr}");
    }
}

#[test]
fn where_nothing_can_be_tuned_it_says_so() {
    let folder = Folder::new("tune_cpu");
    let out = folder.path("t.json");
    refusal(["tune", "--device", "cpu", "--out", &out], &["nothing to tune on CPU"]);
    assert!(!std::path::Path::new(&out).exists(), "a refusal leaves no file");
    let unwritable = on_software(&["tune", "--out", "/proc/no/tuning.json"]);
    assert_eq!(unwritable.code, 2, "{unwritable:?}");
    assert!(unwritable.stderr.contains("/proc/no"), "{unwritable:?}");
}
