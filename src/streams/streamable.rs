//! Which networks can be streamed.

use crate::base::error::{Error, Result};
use crate::network::Network;

/// An error that names the first layer whose output depends on more than its state and the steps so far.
pub(super) fn check(network: &Network) -> Result<()> {
    network.cut()?;
    if network.kept().is_empty() {
        return Err(Error::Unsupported {
            place: "network".into(),
            what: "a stream through a network whose layers keep nothing from step to step".into(),
        });
    }
    Ok(())
}
