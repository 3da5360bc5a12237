//! Checks the documents against the repository: links and paths exist, and the table of shader parts is right.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails panics")]

#[path = "support/repository.rs"]
mod repository;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use repository::in_repository;

/// Endings of repository paths in backticks; a folder ends with `/`.
const ENDINGS: [&str; 6] = [".rs", ".wgsl", ".md", ".sh", ".toml", "/"];
/// Keywords that define a name in WGSL.
const KINDS: [&str; 6] = ["fn", "alias", "struct", "const", "override", "var"];

/// The documents that are checked, as paths in the repository.
fn documents() -> Vec<String> {
    let mut documents: Vec<String> =
        ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "python/README.md", "shaders/README.md"]
            .map(Into::into)
            .into();
    for entry in fs::read_dir(in_repository("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            documents.push(format!("docs/{name}"));
        }
    }
    documents
}

/// `text` without its fenced blocks of code.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            lines.push(line);
        }
    }
    lines.join("\n")
}

/// Targets of markdown links that are no URL and no place in the same document, without their fragment.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let targets = targets.filter(|target| !target.contains("://") && !target.starts_with(['#', '<']));
    targets.map(|target| target.split('#').next().unwrap_or(target)).collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Words in backticks that are paths in the repository.
fn paths(text: &str) -> Vec<&str> {
    let plain = |word: &str| word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    let is_path = |word: &&str| {
        word.contains('/')
            && plain(word)
            && !word.starts_with(['/', '.'])
            && ENDINGS.iter().any(|end| word.ends_with(end))
    };
    quoted(text).filter(is_path).collect()
}

/// Links and paths in `text`, a document in `folder`, that lead nowhere.
fn missing(folder: &Path, text: &str) -> Vec<String> {
    let text = prose(text);
    let links = links(&text).into_iter().map(|link| (link, folder.join(link)));
    let paths = paths(&text).into_iter().map(|path| (path, in_repository(path)));
    links.chain(paths).filter(|(_, path)| !path.exists()).map(|(word, _)| word.to_owned()).collect()
}

#[test]
fn every_link_and_path_in_the_documents_exists() {
    let mut seen = 0;
    for document in documents() {
        let path = in_repository(&document);
        let text = fs::read_to_string(&path).unwrap();
        let folder = path.parent().unwrap();
        assert_eq!(missing(folder, &text), Vec::<String>::new(), "{document}");
        seen += links(&prose(&text)).len() + paths(&prose(&text)).len();
    }
    assert!(seen > 100, "{seen}");
    let wrong =
        "[here](docs/options.md#keras) [gone](docs/gone.md) `src/lib.rs` `src/gone.rs` `src/gone/` [x](https://x.y)";
    assert_eq!(missing(&in_repository(""), wrong), ["docs/gone.md", "src/gone.rs", "src/gone/"], "the check can fail");
}

/// Words and punctuation of WGSL, without comments.
fn tokens(source: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    for line in source.lines() {
        let mut rest = line.split("//").next().unwrap_or(line);
        while let Some(first) = rest.chars().next() {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let end = if word(first) { rest.find(|c| !word(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
            if !first.is_whitespace() {
                tokens.push(&rest[..end]);
            }
            rest = &rest[end..];
        }
    }
    tokens
}

/// `kind name` of everything that a part defines outside functions.
fn defined(source: &str) -> BTreeSet<String> {
    let tokens = tokens(source);
    let (mut names, mut depth) = (BTreeSet::new(), 0usize);
    for (at, &token) in tokens.iter().enumerate() {
        match token {
            "{" => depth += 1,
            "}" => depth -= 1,
            kind if depth == 0 && KINDS.contains(&kind) => {
                // `var<workgroup> name`.
                let mut after = tokens[at + 1..].iter();
                let mut name = after.next().unwrap();
                if *name == "<" {
                    name = after.by_ref().skip_while(|&&token| token != ">").nth(1).unwrap();
                }
                names.insert(format!("{kind} {name}"));
            }
            _ => {}
        }
    }
    names
}

/// Names that stand before a `(`.
fn called(source: &str) -> BTreeSet<&str> {
    tokens(source).windows(2).filter(|pair| pair[1] == "(").map(|pair| pair[0]).collect()
}

/// One row of the table: what a file gives and needs.
struct Row {
    gives: BTreeSet<String>,
    needs: BTreeSet<String>,
}

/// The rows of the tables, by file.
fn rows(text: &str) -> BTreeMap<String, Row> {
    let names = |cell: &str| {
        let named = |word: &&str| word.split_once(' ').is_some_and(|(kind, _)| KINDS.contains(&kind));
        quoted(cell).filter(named).map(Into::into).collect()
    };
    let lines = text.lines().filter(|line| line.starts_with("| [")).map(|line| line.split('|').collect::<Vec<_>>());
    lines.map(|cells| (links(cells[1])[0].to_owned(), Row { gives: names(cells[2]), needs: names(cells[3]) })).collect()
}

/// What is wrong with the table `rows` of the shader parts `sources`.
fn faults(rows: &BTreeMap<String, Row>, sources: &BTreeMap<String, String>) -> Vec<String> {
    let mut faults = Vec::new();
    let defined: BTreeMap<&String, BTreeSet<String>> =
        sources.iter().map(|(file, source)| (file, defined(source))).collect();
    faults.extend(sources.keys().filter(|file| !rows.contains_key(*file)).map(|file| format!("{file} has no row")));
    for (file, row) in rows {
        let (Some(source), Some(own)) = (sources.get(file), defined.get(file)) else {
            faults.push(format!("{file} does not exist"));
            continue;
        };
        let elsewhere: BTreeSet<&String> =
            defined.iter().filter(|(other, _)| **other != file).flat_map(|(_, names)| names).collect();
        faults.extend(row.gives.difference(own).map(|name| format!("{file} does not define `{name}`")));
        let unknown = row.needs.iter().filter(|name| !elsewhere.contains(name));
        faults.extend(unknown.map(|name| format!("{file} needs `{name}`, which no other part defines")));
        let calls = called(source).into_iter().map(|name| format!("fn {name}"));
        let unlisted =
            calls.filter(|name| elsewhere.contains(name) && !own.contains(name) && !row.needs.contains(name));
        faults.extend(unlisted.map(|name| format!("{file} calls `{name}`, which its row does not name")));
    }
    faults
}

/// Every `.wgsl` file under `folder`, by its path below `shaders/`.
fn parts(folder: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() {
            parts(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "wgsl") {
            let name = path.strip_prefix(in_repository("shaders")).unwrap().to_str().unwrap().replace('\\', "/");
            found.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn the_table_of_shader_parts_is_true() {
    let text = fs::read_to_string(in_repository("shaders/README.md")).unwrap();
    let mut sources = BTreeMap::new();
    parts(&in_repository("shaders"), &mut sources);
    let table = rows(&text);
    assert!(table.len() > 60 && table["cells/lstm.wgsl"].needs.contains("fn activate"), "{}", table.len());
    assert_eq!(faults(&table, &sources), Vec::<String>::new());

    // The check can fail.
    let control = |from: &str, to: &str, fault: &str| {
        assert!(text.contains(from), "{from}");
        let faults = faults(&rows(&text.replace(from, to)), &sources);
        assert!(faults.iter().any(|found| found.contains(fault)), "{fault}: {faults:?}");
    };
    control("`fn updated`", "`fn update`", "cells/lstm.wgsl does not define `fn update`");
    control("`fn bounded`", "`fn unbounded`", "which no other part defines");
    control("`fn activate`, ", "", "calls `fn activate`");
    control("| [cells/rnn.wgsl](cells/rnn.wgsl)", "| [cells/rnn.wgsl](cells/gone.wgsl)", "cells/rnn.wgsl has no row");
    control(
        "| [cells/rnn.wgsl](cells/rnn.wgsl)",
        "| [cells/rnn.wgsl](cells/gone.wgsl)",
        "cells/gone.wgsl does not exist",
    );
}
