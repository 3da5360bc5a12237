//! Results of the examples, compared with those of other programs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails panics")]

#[cfg(all(feature = "keras", feature = "onnx"))]
#[path = "../../examples/dtln/mod.rs"]
mod dtln;
#[path = "../support/repository.rs"]
mod repository;
#[path = "../../examples/silero/mod.rs"]
mod silero;
#[path = "../../examples/stories/mod.rs"]
mod stories;
#[path = "../../examples/support/mod.rs"]
#[allow(dead_code, reason = "of arguments and endings only the errors are tested")]
mod support;

#[cfg(all(feature = "keras", feature = "onnx"))]
mod denoise;
mod questions;
mod vad;

use std::path::PathBuf;

use repository::in_repository;

/// Set where absent data must fail the run.
const REQUIRE_DATA: &str = "GATEFOLD_REQUIRE_DATA";

/// A file of `../shared/data`, where the folder is there.
fn data(file: &str) -> Option<PathBuf> {
    let path = in_repository("../shared/data").join(file);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os(REQUIRE_DATA).is_none(), "{REQUIRE_DATA} is set, but there is no {}", path.display());
    eprintln!("NOT RUN, no {}", path.display());
    None
}
