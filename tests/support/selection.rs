//! Which cases of a battery are run.

/// With N, a battery runs about one in N of its cases; all when unset. Set it on further adapters: what differs there is the
/// driver, not the kernels.
const TEST_ONE_IN: &str = "GATEFOLD_TEST_ONE_IN";

fn one_in() -> u64 {
    std::env::var(TEST_ONE_IN).map_or(1, |count| count.parse().expect("a number of cases"))
}

/// The cases of a battery that are run: all, or a fixed selection with the first.
pub fn selected<T>(cases: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
    let count = one_in();
    let is_run = move |index: u64| index == 0 || fastrand::Rng::with_seed(index).u64(..count) == 0;
    (0..).zip(cases).filter(move |&(index, _)| is_run(index)).map(|(_, case)| case)
}

/// Whether batteries run all of their cases, so that each kind of case must occur.
pub fn all_are_run() -> bool {
    one_in() == 1
}
