use crate::support::{Folder, answer, command, json};

#[test]
fn table_and_json_list_the_same_adapters() {
    let (table, all) = (answer(["devices"]), json(&answer(["devices", "--format", "json"])));
    for adapter in all["adapters"].as_array().expect("adapters") {
        for key in ["name", "backend", "kind"] {
            let value = adapter[key].as_str().expect("a word");
            assert!(!value.is_empty() && table.contains(value), "{key} {value} in\n{table}");
        }
        for limit in adapter["limits"].as_object().expect("limits").keys() {
            assert!(table.contains(limit.as_str()), "{limit} in\n{table}");
        }
        assert!(adapter["features"]["TIMESTAMP_QUERY"].is_boolean());
    }
    let line = table.lines().last().expect("a line");
    assert!(line.starts_with("`auto` takes ") && line.contains(": "), "{line}");
    assert!(line.contains(all["takes"]["name"].as_str().expect("a name")), "{line}");
    assert!(all["why"].as_str().is_some_and(|why| !why.is_empty()));
}

#[test]
fn the_line_follows_the_choice_and_the_environment() {
    let cpu = answer(["devices", "--device", "cpu"]);
    assert!(cpu.ends_with("`cpu` takes CPU: as requested\n"), "{cpu}");
    let output = command(["devices"]).env("WGPU_BACKEND", "no-such-backend").output().expect("the binary ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("no adapter"), "{stderr}");
}

/// In a container there is often no runtime folder; error messages of drivers that look for a display there must not be printed.
#[test]
fn no_runtime_folder_is_no_error() {
    let folder = Folder::new("no runtime folder");
    let quiet = |line: &str, value: Option<&str>| {
        let mut command = command(line.split(' '));
        command.env_remove("XDG_RUNTIME_DIR");
        if let Some(value) = value {
            command.env("XDG_RUNTIME_DIR", value);
        }
        if line.starts_with("tune") {
            command.args(["--out", &folder.path("tuning.json")]);
        }
        let output = command.output().expect("the binary ends");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("XDG_RUNTIME_DIR"), "{line}: {stderr}");
        assert!(output.status.success(), "{line}: {stderr}");
    };
    for value in [None, Some(""), Some("relative")] {
        quiet("devices", value);
    }
    for line in [
        "verify --steps 2 --all",
        "verify --steps 2 --device gl",
        "plan --device software",
        "classify --device software fine",
        "tune --steps 2 --runs 1 --device software",
        "bench --quick --all --shape hidden=4,steps=2",
    ] {
        quiet(line, None);
    }
}

/// `bench --device cpu` does not look for adapters: the graphics stack, whose full log is on, logs nothing.
#[test]
fn the_cpu_needs_no_look_for_adapters() {
    let said = |device| {
        let args = ["bench", "--quick", "--shape", "hidden=4,steps=2", "--device", device, "-vvv"];
        let output = command(args).output().expect("the binary ends");
        String::from_utf8_lossy(&output.stderr).matches("wgpu").count()
    };
    assert_eq!(said("cpu"), 0);
    // The count must be able to rise.
    assert!(said("software") > 0);
}
