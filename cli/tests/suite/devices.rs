use crate::support::{answer, command, json};

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
    assert!(cpu.ends_with("`cpu` takes CPU: that was the choice\n"), "{cpu}");
    let output = command(["devices"]).env("WGPU_BACKEND", "no-such-backend").output().expect("the binary ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("no adapter"), "{stderr}");
}
