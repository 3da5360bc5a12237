//! One name of a type stands for one thing in all of `src/`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails panics")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Files whose types repeat those of other files, and why.
const EXCEPTIONS: [(&str, &str); 1] =
    [("gpu/stub.rs", "stands for the types of `src/gpu/` in a build without the feature `gpu`")];

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of src") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
}

/// Names of the types that `text` defines, without those of its unit tests and without the associated types of traits,
/// which are indented aliases.
fn types(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut names = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace().peekable();
        words.next_if(|word| word.starts_with("pub"));
        // `pub(in path)` is two words.
        words.next_if(|word| word.ends_with(')'));
        words.next_if(|&word| word == "unsafe");
        let is_type = match words.next() {
            Some("struct" | "enum" | "union" | "trait") => true,
            Some("type") => !line.starts_with(' '),
            _ => false,
        };
        if let Some(rest) = words.next().filter(|_| is_type) {
            names.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    names
}

/// Names that more than one of `files` (path and text) gives to a type, or one file twice, each with its files.
fn shared(files: &[(String, String)]) -> BTreeMap<String, Vec<String>> {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in files {
        if EXCEPTIONS.iter().all(|(exception, _)| exception != path) {
            for name in types(text) {
                places.entry(name).or_default().push(path.clone());
            }
        }
    }
    places.retain(|_, paths| paths.len() > 1);
    places
}

#[test]
fn no_two_types_share_a_name() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    rust_files(&src, &mut paths);
    let files: Vec<(String, String)> = paths
        .iter()
        .map(|path| {
            let name = path.strip_prefix(&src).expect("a file of src").to_string_lossy().replace('\\', "/");
            (name, std::fs::read_to_string(path).expect("UTF-8"))
        })
        .collect();
    for (exception, reason) in EXCEPTIONS {
        assert!(files.iter().any(|(path, _)| path == exception), "{exception} ({reason}) does not exist");
    }
    let count: usize = files.iter().map(|(_, text)| types(text).len()).sum();
    assert!(count > 200, "only {count} types were found");
    let shared = shared(&files);
    assert!(shared.is_empty(), "one name, several types; rename the private ones: {shared:?}");
}

#[test]
fn made_up_namesakes_are_found() {
    let of = |files: &[(&str, &str)]| -> Vec<String> {
        let files: Vec<_> = files.iter().map(|&(path, text)| (path.to_owned(), text.to_owned())).collect();
        shared(&files).into_keys().collect()
    };
    let found = of(&[
        ("a.rs", "pub struct Row<'a> {\n}\nstruct Work;\ntype Rows = Vec<Row>;"),
        ("b.rs", "pub(crate) enum Row {\n}\nfn f() {\n    struct Work(u32);\n}\npub(in crate::b) trait Rows: Copy {}"),
    ]);
    assert_eq!(found, ["Row", "Rows", "Work"]);
    let fine = [
        ("a.rs", "struct A;\nimpl Future for A {\n    type Output = u32;\n}\n// struct B"),
        ("b.rs", "struct B;\nimpl Future for B {\n    type Output = u32;\n}\n#[cfg(test)]\nmod tests {\nstruct A;"),
        ("gpu/stub.rs", "struct A;"),
    ];
    assert!(of(&fine).is_empty(), "{:?}", of(&fine));
}
