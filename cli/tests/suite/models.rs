//! `inspect` and `plan`.

use crate::support::{answer, on_software, repository};

#[test]
fn inspect_shows_the_built_in_model() {
    let text = answer(["inspect"]);
    for word in [
        "345,218 parameters",
        "10,000 -> 32",
        "lstm.weight_hh_l0",
        "256 x 64",
        "10,000 tokens",
        "negative, positive",
        "last step",
    ] {
        assert!(text.contains(word), "{word} in\n{text}");
    }
    let file = answer(["inspect", &repository("models/sentiment/sentiment.safetensors")]);
    assert_eq!(file.lines().skip(1).collect::<Vec<_>>(), text.lines().skip(1).collect::<Vec<_>>());
}

#[test]
fn inspect_reads_every_golden() {
    let mut seen = 0;
    for entry in std::fs::read_dir(repository("tests/goldens")).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        if name.ends_with(".safetensors") && !name.ends_with(".golden.safetensors") {
            let text = answer([&"inspect".into(), &path.clone().into_os_string()]);
            assert!(text.contains("parameters") && text.contains(".weight_ih_l0"), "{name}:\n{text}");
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen} goldens");
}

#[test]
fn plan_says_for_which_limits() {
    let cpu = answer(["plan", "--device", "cpu", "--steps", "7", "--batch", "2"]);
    assert!(cpu.contains("WebGPU's default limits") && cpu.contains("T = 7, B = 2"), "{cpu}");
    assert!(cpu.contains("lstm.l0: sequence: no launch per step") && cpu.contains("x1"), "{cpu}");
    let step = answer(["plan", "--device", "cpu", "--steps", "7", "--strategy", "step"]);
    assert!(step.contains("lstm step") && step.contains("x7"), "{step}");
    let split = answer(["plan", "--device", "cpu", "--split", "2", "--budget", "1"]);
    assert!(split.contains("SPLIT=2"), "{split}");
    let software = on_software(&["plan"]);
    assert_eq!(software.code, 0, "{software:?}");
    assert!(software.stdout.contains("software renderer"), "{software:?}");
}
