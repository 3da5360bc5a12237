//! Layers that an exporter applies to each timestep by itself, put together again.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::expression::Expression;
use super::value::Id;
use super::walk::Walk;
use crate::base::error::Result;

/// More expressions than any layer is taken apart into.
const MOST: usize = 4096;

/// A timestep of a sequence.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TakenStep {
    pub sequence: Id,
    /// Which, and of how many.
    pub at: usize,
    pub steps: usize,
}

impl Walk<'_> {
    /// The sequence whose timesteps `rows` are, where each is computed alike from a timestep of another sequence; rows that
    /// are all the same stand for themselves.
    pub fn lifted(&mut self, rows: &[Id]) -> Result<Option<Id>> {
        self.lift(rows, &mut BTreeMap::new())
    }

    /// As [`Walk::lifted`]; `known` is what came of rows before, since expressions share their parts.
    fn lift(&mut self, rows: &[Id], known: &mut BTreeMap<Vec<Id>, Option<Id>>) -> Result<Option<Id>> {
        if let Some(&found) = known.get(rows) {
            return Ok(found);
        }
        let found = if known.len() < MOST { self.lift_new(rows, known)? } else { None };
        known.insert(rows.to_vec(), found);
        Ok(found)
    }

    fn lift_new(&mut self, rows: &[Id], known: &mut BTreeMap<Vec<Id>, Option<Id>>) -> Result<Option<Id>> {
        let Some((&first, rest)) = rows.split_first() else { return Ok(None) };
        if rest.iter().all(|&id| id == first) {
            return Ok(Some(first));
        }
        if let Some(step) = self.taken.get(&first) {
            let is_next =
                |(at, id): (usize, &Id)| self.taken.get(id) == Some(&TakenStep { at, steps: rows.len(), ..*step });
            let whole = rows.iter().enumerate().all(is_next);
            return Ok(whole.then_some(step.sequence));
        }
        let facts = self.build.expressions.facts(first).clone();
        let all: Vec<Expression> = rows.iter().map(|&id| self.build.expressions.get(id).clone()).collect();
        // What the rows are but for what they read, and what that is.
        let mut read: Vec<Vec<Id>> = Vec::new();
        for expression in &all {
            let inputs = match (expression, &all[0]) {
                (Expression::Function(f, x), Expression::Function(g, _)) if f == g => vec![*x],
                (Expression::Affine { x, scale: a, offset: b }, Expression::Affine { scale: c, offset: d, .. })
                    if (a, b) == (c, d) =>
                {
                    vec![*x]
                }
                (Expression::Product(x, a), Expression::Product(_, b)) if Rc::ptr_eq(a, b) || a == b => vec![*x],
                (Expression::Channels { x, start, count }, Expression::Channels { start: s, count: c, .. })
                    if (start, count) == (s, c) =>
                {
                    vec![*x]
                }
                (Expression::Join(a, inputs), Expression::Join(b, others))
                    if a == b && inputs.len() == others.len() =>
                {
                    inputs.clone()
                }
                (Expression::Sub(a, b), Expression::Sub(..)) | (Expression::Div(a, b), Expression::Div(..)) => {
                    vec![*a, *b]
                }
                _ => return Ok(None),
            };
            read.push(inputs);
        }
        let mut inputs = Vec::new();
        for at in 0..read[0].len() {
            let column: Vec<Id> = read.iter().map(|inputs| inputs[at]).collect();
            let Some(id) = self.lift(&column, known)? else { return Ok(None) };
            inputs.push(id);
        }
        let expression = match (&all[0], &inputs[..]) {
            (Expression::Function(f, _), &[x]) => Expression::Function(*f, x),
            (Expression::Affine { scale, offset, .. }, &[x]) => {
                Expression::Affine { x, scale: scale.clone(), offset: offset.clone() }
            }
            (Expression::Product(_, matrix), &[x]) => Expression::Product(x, matrix.clone()),
            (Expression::Channels { start, count, .. }, &[x]) => {
                Expression::Channels { x, start: *start, count: *count }
            }
            (Expression::Sub(..), &[a, b]) => Expression::Sub(a, b),
            (Expression::Div(..), &[a, b]) => Expression::Div(a, b),
            (Expression::Join(join, _), inputs) => Expression::Join(*join, inputs.to_vec()),
            _ => return Ok(None),
        };
        let sequence = inputs.iter().any(|&id| self.build.expressions.facts(id).sequence);
        self.build.expressions.add(&facts.name, expression, facts.width, sequence).map(Some)
    }
}
