//! The ways to run a recurrence, by name.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use crate::error::{Error, Result};

/// How the recurrence is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strategy {
    /// One dispatch per timestep.
    Step,
}

impl Strategy {
    /// Every strategy there is.
    pub const ALL: &'static [Self] = &[Self::Step];
}

impl Display for Strategy {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Step => "step",
        })
    }
}

impl FromStr for Strategy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|strategy| strategy.to_string() == text.trim());
        found.copied().ok_or_else(|| Error::Malformed {
            what: "strategy".into(),
            expected: Self::ALL.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            got: format!("{text:?}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_strategy_goes_by_its_name() {
        for strategy in Strategy::ALL {
            assert_eq!(strategy.to_string().parse::<Strategy>().ok(), Some(*strategy));
        }
        let error = "stepp".parse::<Strategy>().expect_err("no such strategy").to_string();
        assert!(error.contains("step") && error.contains("\"stepp\""), "{error}");
    }
}
