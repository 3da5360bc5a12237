//! `src/` has no import cycle between its modules (folders and files directly in `src/`), and few places of it ask for the
//! feature `gpu`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails panics")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The modules that each module uses.
type Graph = BTreeMap<String, BTreeSet<String>>;

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

/// Code without comments and without what follows the unit tests' `#[cfg(test)]`, which ends a file.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// First names of all paths that begin with `crate::`, those of `crate::{a::b, c}` included.
fn used(code: &str) -> BTreeSet<String> {
    let name = |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut names = BTreeSet::new();
    for (at, lead) in code.match_indices("crate::") {
        let rest = &code[at + lead.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            names.insert(name(rest));
            continue;
        };
        let mut depth = 1;
        let mut start = true;
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => start = true,
                _ if start && !c.is_whitespace() => {
                    names.insert(name(&list[at..]));
                    start = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    names
}

/// Names that `lib.rs` gives to items of a module, such as `crate::Error`.
fn reexports(lib: &str, modules: &BTreeSet<String>) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for line in lib.split("pub use ").skip(1).map(|rest| rest.split(';').next().unwrap_or_default()) {
        let path = line.trim_start_matches("crate::");
        let module = path.split("::").next().unwrap_or_default();
        if modules.contains(module) {
            let items = path.rsplit("::").next().unwrap_or_default();
            let items = path.split_once('{').map_or(items, |(_, list)| list.trim_end_matches('}'));
            for item in items.split(',') {
                names.insert(item.trim().to_owned(), module.to_owned());
            }
        }
    }
    names
}

fn graph(files: &[(String, String)], lib: &str) -> Graph {
    let modules: BTreeSet<String> = files.iter().map(|(module, _)| module.clone()).collect();
    let names = reexports(lib, &modules);
    let mut graph = Graph::new();
    for (module, text) in files {
        let edges = graph.entry(module.clone()).or_default();
        for name in used(&code(text)) {
            let target = if modules.contains(&name) { Some(&name) } else { names.get(&name) };
            // A public facade of `lib.rs`, such as `tuning`, is for users; a macro has no module.
            if let Some(target) = target.filter(|&target| target != module) {
                edges.insert(target.clone());
            }
        }
    }
    graph
}

/// A cycle, its first module named again at the end; `None` if there is none.
fn cycle(graph: &Graph) -> Option<Vec<String>> {
    fn walk(graph: &Graph, module: &str, path: &mut Vec<String>, done: &mut BTreeSet<String>) -> Option<Vec<String>> {
        if let Some(at) = path.iter().position(|earlier| earlier == module) {
            return Some(path[at..].iter().cloned().chain([module.to_owned()]).collect());
        }
        if done.contains(module) {
            return None;
        }
        path.push(module.to_owned());
        let found = graph.get(module).and_then(|uses| uses.iter().find_map(|next| walk(graph, next, path, done)));
        path.pop();
        done.insert(module.to_owned());
        found
    }
    let mut done = BTreeSet::new();
    graph.keys().find_map(|module| walk(graph, module, &mut Vec::new(), &mut done))
}

fn src() -> (PathBuf, Vec<PathBuf>) {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    rust_files(&src, &mut paths);
    (src, paths)
}

fn src_graph() -> Graph {
    let (src, paths) = src();
    let mut files = Vec::new();
    for path in paths {
        let inside = path.strip_prefix(&src).expect("a file of src");
        let module = inside.components().next().expect("a name").as_os_str().to_string_lossy();
        let module = module.trim_end_matches(".rs").to_owned();
        if module != "lib" {
            files.push((module, std::fs::read_to_string(&path).expect("UTF-8")));
        }
    }
    graph(&files, &std::fs::read_to_string(src.join("lib.rs")).expect("UTF-8"))
}

#[test]
fn modules_have_no_import_cycle() {
    let graph = src_graph();
    let cycle = cycle(&graph).map(|cycle| cycle.join(" -> "));
    assert!(cycle.is_none(), "import cycle in src/: {}", cycle.unwrap_or_default());
    assert!(
        graph["session"].contains("device") && graph["plan"].contains("network"),
        "imports were not read: {graph:?}"
    );
}

/// The lower modules use no other modules than these.
#[test]
fn lower_modules_use_only_lower_modules() {
    let graph = src_graph();
    for (module, allowed) in [
        ("base", &[][..]),
        ("network", &["base"]),
        ("host", &["base", "data", "network", "reference"]),
        ("reference", &["base", "network"]),
        // Losses and optimizers are options that a plan for training reads.
        ("plan", &["base", "network", "reference"]),
    ] {
        let uses = graph.get(module).unwrap_or_else(|| panic!("there is no module `{module}`"));
        let extra: Vec<&String> = uses.iter().filter(|name| !allowed.contains(&name.as_str())).collect();
        assert!(extra.is_empty(), "`{module}` uses {extra:?}, allowed are {allowed:?}");
    }
}

/// The most places of `src/` that ask whether the feature `gpu` is on. All other code is the same in both builds, see
/// `src/gpu/stub.rs`.
const MOST_FORKS: usize = 20;

/// The number of places that ask for the feature `gpu`, in any form.
fn forks(text: &str) -> usize {
    text.lines().map(|line| line.replace(' ', "").matches("feature=\"gpu\"").count()).sum()
}

#[test]
fn few_places_ask_for_the_feature_gpu() {
    let all: Vec<(usize, PathBuf)> = src()
        .1
        .into_iter()
        .map(|path| (forks(&std::fs::read_to_string(&path).expect("UTF-8")), path))
        .filter(|(count, _)| *count > 0)
        .collect();
    let count: usize = all.iter().map(|(count, _)| count).sum();
    assert!((1..=MOST_FORKS).contains(&count), "{count} places ask for the feature `gpu`: {all:?}");
}

#[test]
fn made_up_forks_are_counted() {
    let text = "#[cfg(feature = \"gpu\")]\nmod a;\n#[cfg_attr(not(feature=\"gpu\"), path = \"x\")]\nmod b;\nlet gpu = \"gpu\";";
    assert_eq!(forks(text), 2);
    assert_eq!(forks("#[cfg(feature = \"keras\")]"), 0);
}

/// The check finds cycles: through `use`, through a path in an expression, and through a name of `lib.rs`.
#[test]
fn a_made_up_cycle_is_found() {
    let of = |files: &[(&str, &str)], lib: &str| {
        let files: Vec<_> = files.iter().map(|&(module, text)| (module.to_owned(), text.to_owned())).collect();
        cycle(&graph(&files, lib)).map(|cycle| cycle.join(" -> "))
    };
    let found =
        of(&[("a", "use crate::b::B;"), ("b", "use crate::{c, d::{x, y}};"), ("c", ""), ("d", "crate::a::f()")], "");
    assert_eq!(found.as_deref(), Some("a -> b -> d -> a"));
    let found = of(&[("a", "use crate::b::B;"), ("b", "use crate::A;")], "pub use a::{A, Other};");
    assert_eq!(found.as_deref(), Some("a -> b -> a"));
    let fine = [
        ("a", "use crate::b::B; // crate::c"),
        ("b", "use crate::c::C;"),
        ("c", "#[cfg(test)]\nmod tests {\nuse crate::a;"),
    ];
    assert_eq!(of(&fine, ""), None);
    assert_eq!(of(&[("a", "use crate::a::other;")], ""), None, "a module may use itself");
}
