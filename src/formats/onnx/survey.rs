//! Everything in a file that is not supported, not the first of it only.

use std::collections::BTreeSet;

use super::graph::OnnxGraph;
use super::walk::Walk;
use super::{OnnxOptions, operators, roles};
use crate::base::error::Result;
use crate::formats::Survey;

pub fn survey(graph: &OnnxGraph) -> Result<Survey> {
    let live = roles::live(graph);
    let mut best: Option<Survey> = None;
    for roles in roles::roles(graph, &live, &OnnxOptions::default())? {
        for reading in roles::readings(graph, &roles)? {
            let Ok(mut walk) = Walk::begin(graph, &roles, &live, &reading) else { continue };
            let found = of_reading(&mut walk, graph, &live);
            let found = match (found.refusals.is_empty(), walk) {
                (true, walk) => match walk.finish() {
                    Ok(_) => found,
                    Err(error) => Survey { refusals: vec![error.to_string()], ..found },
                },
                (false, _) => found,
            };
            if best.as_ref().is_none_or(|best| (found.read, best.refusals.len()) > (best.read, found.refusals.len())) {
                best = Some(found);
            }
        }
    }
    let mut best = best.unwrap_or_default();
    // Such a file is no valid model, whatever else it has.
    if let Err(error) = operators::check(&graph.main, &graph.types, &live)
        && !best.refusals.contains(&error.to_string())
    {
        best.refusals.insert(0, error.to_string());
    }
    Ok(best)
}

fn of_reading<'a>(walk: &mut Walk<'a>, graph: &'a OnnxGraph, live: &BTreeSet<&str>) -> Survey {
    let mut survey = Survey::default();
    let mut refused: BTreeSet<&str> = BTreeSet::new();
    let nodes = graph.main.nodes.iter().filter(|node| node.outputs.iter().any(|o| live.contains(o.as_str())));
    for node in nodes {
        survey.nodes += 1;
        let behind = node.inputs.iter().chain(&node.captures).any(|name| refused.contains(name.as_str()));
        if !behind {
            match walk.evaluate(node) {
                Ok(()) => {
                    survey.read += 1;
                    continue;
                }
                Err(error) => survey.refusals.push(error.to_string()),
            }
        } else if operators::is_known(&node.op) {
            survey.behind += 1;
        } else {
            survey.refusals.push(node.unsupported(format!("operator `{}`", node.op)).to_string());
        }
        refused.extend(node.outputs.iter().filter(|o| !o.is_empty()).map(String::as_str));
    }
    survey
}
