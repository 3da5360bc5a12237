//! Where the repository's files are.

use std::path::PathBuf;

/// Set where the tests run on another machine than the one that built them (`benches/gpu-run.sh`).
const REPOSITORY: &str = "GATEFOLD_REPOSITORY";

/// `<repository>/tests/goldens` and the like.
pub fn in_repository(path: &str) -> PathBuf {
    let root = std::env::var_os(REPOSITORY).map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    root.join(path)
}
