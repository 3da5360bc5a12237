//! The documents name tests; each of them must exist.

use std::fs;
use std::path::Path;

use crate::common::in_repository;

/// The `file::function`s in `text` that stand in backquotes.
fn named(text: &str) -> Vec<(&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter_map(|word| word.split_once("::")).filter(|(file, _)| file.starts_with(char::is_lowercase)).collect()
}

/// Whether a file of this stem under `folder` has this test.
fn exists(folder: &Path, file: &str, function: &str) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return exists(&path, file, function);
        }
        path.file_name().is_some_and(|name| *name == *format!("{file}.rs"))
            && fs::read_to_string(&path).unwrap().contains(&format!("#[test]\nfn {function}() {{"))
    })
}

#[test]
fn every_test_in_the_table_of_options_exists() {
    let text = fs::read_to_string(in_repository("docs/options.md")).unwrap();
    let tests = in_repository("tests");
    let named: Vec<_> = named(&text).into_iter().filter(|(file, _)| !matches!(*file, "file" | "formats")).collect();
    assert!(named.len() > 40, "{}", named.len());
    let missing: Vec<_> = named.iter().filter(|(file, function)| !exists(&tests, file, function)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(!exists(&tests, "cells", "every_transformer_agrees"), "the check can fail");
}
