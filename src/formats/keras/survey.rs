//! Everything in a model that is not supported, not the first of it only.

use std::collections::BTreeSet;

use super::activation::Version;
use super::graph::{self, KerasGraph};
use super::lower::KerasWalk;
use super::{attention, branched, join, layers, operations, recurrent, reductions, slices, text};
use crate::base::error::Result;
use crate::formats::Survey;

/// Reads the layers of `config` one by one and goes on behind those that are refused.
pub(super) fn of_configuration(config: &serde_json::Value, version: Version) -> Result<Survey> {
    let graph = match KerasGraph::new(config, version) {
        Ok(graph) => graph,
        Err(error) => {
            let mut refusals = graph::refused_layers(config, version);
            if refusals.is_empty() {
                return Err(error);
            }
            let first = error.to_string();
            if !refusals.contains(&first) {
                refusals.insert(0, first);
            }
            return Ok(Survey { refusals, ..Survey::default() });
        }
    };
    let mut survey = Survey::default();
    let mut walk = KerasWalk::new(&graph)?;
    let mut refused = BTreeSet::new();
    for index in graph.order()? {
        let node = &graph.nodes[index];
        survey.nodes += 1;
        let reads = node.inputs.iter().chain(&node.states).map(|tensor| tensor.node).chain(node.mask);
        if !reads.into_iter().any(|read| refused.contains(&read)) {
            match walk.node(index) {
                Ok(()) => {
                    survey.read += 1;
                    continue;
                }
                Err(error) => survey.refusals.push(error.to_string()),
            }
        } else if is_known(&node.item) {
            survey.behind += 1;
        } else {
            survey.refusals.push(node.item.unknown_class().to_string());
        }
        refused.insert(index);
    }
    if survey.refusals.is_empty()
        && let Err(error) = walk.finish()
    {
        survey.refusals.push(error.to_string());
    }
    Ok(survey)
}

/// Whether layers of this class are read, with some options and inputs.
fn is_known(item: &layers::Item<'_>) -> bool {
    item.class == "InputLayer"
        || slices::is_slice(item.class)
        || item.is_operation() && (item.is_mask_operation() || operations::is_known(item.class))
        || recurrent::is_recurrent(item)
        || text::is_text(item.class)
        || join::is_known(item.class)
        || attention::is_known(item.class)
        || branched::is_known(item.class)
        || reductions::is_normalization(item.class)
        || layers::is_known(item)
}
