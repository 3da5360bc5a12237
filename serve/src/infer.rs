//! Inference: a run without state, a run over texts, or a step of sequences whose states are kept.

use std::collections::HashSet;
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use gatefold::network::InputKind;
use gatefold::streams::Chunk;
use gatefold::{Input, NamedInput, Network};

use crate::app::{App, BodyMemory};
use crate::failure::{Failure, Kind, Result};
use crate::model::{LENGTHS, Loaded, MASK, OUTPUT, SEQUENCE_END, SEQUENCE_ID, SEQUENCE_START, TEXT, VERSION};
use crate::request::{Request, checked_name};
use crate::response::{Computed, response};
use crate::sequences::{Sequence, UnderWay};
use crate::tensor::Tensor;

/// Answers an inference request.
pub async fn infer(
    app: &App,
    model: &Arc<Loaded>,
    headers: &HeaderMap,
    body: &Bytes,
    memory: BodyMemory,
) -> Result<Response> {
    let request = Request::parse(headers, body, app.limits.elements)?;
    for wanted in &request.outputs {
        if !model.outputs().any(|name| name == wanted.name) {
            let names: Vec<String> = model.outputs().map(|name| format!("`{name}`")).collect();
            return Err(Failure::bad(format!("outputs: expected some of {}, got `{}`", names.join(", "), wanted.name)));
        }
    }
    let outputs = if request.sequence.is_some() || optional(model, &request, SEQUENCE_ID).is_some() {
        advance(app, model, &request).await?
    } else if let Some(texts) = optional(model, &request, TEXT) {
        only(model, &request, &[TEXT])?;
        classify(app, model, texts, memory).await?
    } else {
        run(app, model, &request, memory).await?
    };
    Ok(response(&model.name, VERSION, &request, &outputs, &model.network().spec().labels))
}

/// An input that every model has beside its own, if the client sent it.
fn optional<'r>(model: &Loaded, request: &'r Request, name: &str) -> Option<&'r Tensor> {
    let own = model.network().inputs().iter().any(|input| input.name == name);
    if own { None } else { request.input(name) }
}

/// An error if there are other inputs than these.
fn only(model: &Loaded, request: &Request, known: &[&str]) -> Result<()> {
    match request.inputs.iter().find(|input| !known.contains(&input.name.as_str())) {
        None => Ok(()),
        Some(other) => {
            let names: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
            let expected = names.join(", ");
            Err(Failure::bad(format!("inputs of model `{}`: expected {expected}, got `{}`", model.name, other.name)))
        }
    }
}

/// The numbers of an input of the network.
enum Numbers {
    Tokens(Vec<u32>, [usize; 2]),
    Features(Vec<f32>, [usize; 3]),
    Rows(Vec<f32>, [usize; 2]),
}

/// Those of an input by its number. The engine checks sizes and token ids.
fn numbers(model: &Loaded, request: &Request, number: usize) -> Result<Numbers> {
    let input = &model.network().inputs()[number];
    let Some(tensor) = request.input(&input.name) else {
        let got: Vec<String> = request.inputs.iter().map(|input| format!("`{}`", input.name)).collect();
        let got = if got.is_empty() { "none".into() } else { got.join(", ") };
        return Err(Failure::bad(format!("inputs of model `{}`: expected `{}`, got {got}", model.name, input.name)));
    };
    match (input.kind, &tensor.shape[..]) {
        (InputKind::Tokens, &[outer, inner]) => Ok(Numbers::Tokens(tensor.whole()?, [outer, inner])),
        (InputKind::Sequence, &[outer, inner, width]) => Ok(Numbers::Features(tensor.floats()?, [outer, inner, width])),
        (InputKind::Row, &[batch, width]) => Ok(Numbers::Rows(tensor.floats()?, [batch, width])),
        _ => {
            let axes = gatefold::network::letters(model.network().axes_of_input(number));
            Err(tensor.wrong(&axes.replace('N', &input.width.to_string()), &format!("shape {:?}", tensor.shape)))
        }
    }
}

/// An error if the output for these inputs would be larger than a tensor may be.
fn check_output(app: &App, network: &Network, inputs: &[Numbers]) -> Result<()> {
    let rows = inputs.iter().map(|numbers| match *numbers {
        Numbers::Tokens(_, [a, b]) | Numbers::Features(_, [a, b, _]) => {
            a.saturating_mul(if network.output_is_sequence() { b } else { 1 })
        }
        Numbers::Rows(_, [batch, _]) => batch,
    });
    app.limits.check_output(rows.max().unwrap_or(0).saturating_mul(network.output_size()))
}

/// A run from the network's initial state; the state behind it is not kept.
async fn run(app: &App, model: &Arc<Loaded>, request: &Request, memory: BodyMemory) -> Result<Vec<Computed>> {
    let network = model.network();
    let mut known: Vec<&str> = network.inputs().iter().map(|input| input.name.as_str()).collect();
    known.extend([LENGTHS, MASK]);
    only(model, request, &known)?;
    let all: Vec<Numbers> =
        (0..network.inputs().len()).map(|number| numbers(model, request, number)).collect::<Result<_>>()?;
    let lengths = optional(model, request, LENGTHS).map(Tensor::whole).transpose()?;
    let lengths: Option<Vec<usize>> = lengths.map(|all| all.into_iter().map(|length| length as usize).collect());
    let mask = optional(model, request, MASK).map(Tensor::bools).transpose()?;
    check_output(app, network, &all)?;
    let model = model.clone();
    app.run(memory, move || {
        let network = model.network();
        let mut all = all.into_iter();
        let first = all.next();
        let others: Vec<NamedInput<'_>> = all
            .zip(&network.inputs()[1..])
            .map(|(numbers, input)| match numbers {
                Numbers::Tokens(ids, shape) => NamedInput::tokens(&input.name, ids, shape),
                Numbers::Features(values, shape) => NamedInput::features(&input.name, values, shape),
                Numbers::Rows(values, shape) => NamedInput::rows(&input.name, values, shape),
            })
            .collect();
        let mut input = match &first {
            Some(Numbers::Tokens(ids, shape)) => Input::tokens(ids, *shape),
            Some(Numbers::Features(values, shape)) => Input::features(values, *shape),
            Some(Numbers::Rows(values, shape)) => Input::rows(values, *shape),
            None => return Err(Failure::bad("inputs: expected one, got none")),
        };
        input = input.with_others(&others);
        if let Some(lengths) = &lengths {
            input = input.with_lengths(lengths);
        }
        if let Some(mask) = &mask {
            input = input.with_mask(mask);
        }
        let output = model.session.run(input, None)?;
        let mut computed = vec![Computed { name: OUTPUT.into(), shape: output.shape, values: output.values }];
        computed.extend(output.others.into_iter().map(|other| Computed {
            name: other.name,
            shape: other.shape,
            values: other.values,
        }));
        Ok(computed)
    })
    .await
}

/// Probabilities of the labels of texts.
async fn classify(app: &App, model: &Arc<Loaded>, texts: &Tensor, memory: BodyMemory) -> Result<Vec<Computed>> {
    if model.classifier.is_none() {
        let what = format!("model `{}`", model.name);
        return Err(Failure::bad(format!(
            "{what}: expected a model with a vocabulary and labels for `text`, got another"
        )));
    }
    let texts = texts.texts()?;
    if texts.is_empty() {
        return Err(Failure::bad("input `text`: expected at least one text, got none"));
    }
    let model = model.clone();
    app.run(memory, move || {
        let Some(classifier) = &model.classifier else { return Ok(Vec::new()) };
        let predictions = classifier.classify(&texts)?;
        let shape = vec![predictions.len(), classifier.labels().len()];
        let values = predictions.into_iter().flat_map(|prediction| prediction.probabilities).collect();
        Ok(vec![Computed { name: OUTPUT.into(), shape, values }])
    })
    .await
}

/// One row of a request of sequences.
struct Row {
    name: String,
    start: bool,
    end: bool,
}

/// The sequence of each batch row: one by parameters, or several by tensors.
fn rows(model: &Loaded, request: &Request) -> Result<Vec<Row>> {
    let flags = |name: &str, default: bool, count: usize| -> Result<Vec<bool>> {
        let Some(tensor) = optional(model, request, name) else { return Ok(vec![default; count]) };
        let flags = tensor.bools()?;
        if flags.len() == count {
            Ok(flags)
        } else {
            Err(tensor.wrong(&format!("{count} elements, one for each sequence"), &flags.len().to_string()))
        }
    };
    let names = match (&request.sequence, optional(model, request, SEQUENCE_ID)) {
        (Some(_), Some(_)) => {
            return Err(Failure::bad("sequence_id: expected a parameter or an input, got both"));
        }
        (Some(name), None) => vec![name.clone()],
        (None, Some(tensor)) => tensor.names()?.iter().map(|name| checked_name(name)).collect::<Result<_>>()?,
        (None, None) => Vec::new(),
    };
    let starts = flags(SEQUENCE_START, request.start, names.len())?;
    let ends = flags(SEQUENCE_END, request.end, names.len())?;
    let mut seen = HashSet::new();
    if let Some(twice) = names.iter().find(|name| !seen.insert(name.as_str())) {
        return Err(Failure::bad(format!(
            "sequence_id: expected each sequence once in a request, got `{twice}` twice"
        )));
    }
    let rows = names.into_iter().zip(starts).zip(ends).map(|((name, start), end)| Row { name, start, end });
    Ok(rows.collect())
}

/// Advances sequences, each from the state that it is in.
async fn advance(app: &App, model: &Arc<Loaded>, request: &Request) -> Result<Vec<Computed>> {
    let network = model.network();
    let streams = model.streams()?;
    let input = &network.inputs()[0].name;
    only(model, request, &[input, LENGTHS, SEQUENCE_ID, SEQUENCE_START, SEQUENCE_END])?;
    if let Some(wanted) = request.outputs.iter().find(|wanted| wanted.name != OUTPUT) {
        return Err(Failure::bad(format!("outputs of a sequence: expected `{OUTPUT}` alone, got `{}`", wanted.name)));
    }
    let rows = rows(model, request)?;
    let capacity = app.limits.queue.capacity;
    if rows.len() > capacity {
        // The queue never has room for it, so that a later try does not help.
        let message = format!("sequence_id: expected at most {capacity} sequences (--max-queue), got {}", rows.len());
        return Err(Failure::new(Kind::TooLarge, message));
    }
    let lengths = optional(model, request, LENGTHS).map(Tensor::whole).transpose()?;
    let numbers = [numbers(model, request, 0)?];
    check_output(app, network, &numbers)?;
    let [numbers] = numbers;
    let chunks = chunks(network, numbers, lengths.as_deref(), rows.len())?;
    for chunk in &chunks {
        chunk.check(network)?;
    }
    let steps: Vec<usize> = chunks.iter().map(|chunk| steps_of(network, chunk)).collect();
    if let Some(&most) = steps.iter().max().filter(|&&most| most > app.limits.steps) {
        let expected = format!("at most {} timesteps of a sequence in a request (--max-steps)", app.limits.steps);
        return Err(Failure::new(Kind::TooLarge, format!("input `{input}`: expected {expected}, got {most}")));
    }
    let mut sequences = Vec::with_capacity(rows.len());
    let starts = rows.iter().filter(|row| row.start).count();
    let mut opened = open(model, starts).await?.into_iter();
    for row in &rows {
        let sequence = if row.start { opened.next() } else { None };
        sequences.push(sequence.map_or_else(|| streams.sequences.find(&row.name), Ok)?);
    }
    let requests: Vec<_> = sequences.iter().map(|sequence| sequence.stream).zip(chunks).collect();
    let tickets = streams.queue.try_submit_all(requests)?;
    let mut under_way = Vec::with_capacity(rows.len());
    for (((row, sequence), ticket), steps) in rows.iter().zip(sequences).zip(tickets).zip(steps) {
        match (row.start, row.end) {
            (true, false) => streams.sequences.insert(&row.name, sequence.clone()),
            (false, true) => streams.sequences.remove(&row.name, &sequence),
            // Also ends a sequence that had this name.
            (true, true) => {
                streams.sequences.insert(&row.name, sequence.clone());
                streams.sequences.remove(&row.name, &sequence);
            }
            (false, false) => {}
        }
        under_way.push(UnderWay::new(sequence, ticket, steps));
    }
    let mut answers = Vec::with_capacity(under_way.len());
    for request in under_way {
        answers.push(request.answer().await?);
    }
    Ok(vec![merged(network, answers)])
}

/// New sequences in the network's initial state.
async fn open(model: &Arc<Loaded>, count: usize) -> Result<Vec<Arc<Sequence>>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let model = model.clone();
    crate::app::wait_for(move || {
        let sequences = &model.streams()?.sequences;
        (0..count).map(|_| sequences.open()).collect()
    })
    .await
}

fn steps_of(network: &Network, chunk: &Chunk) -> usize {
    match chunk {
        Chunk::Tokens(tokens) => tokens.len(),
        Chunk::Features(values) => values.len() / network.input_size().max(1),
    }
}

/// The new timesteps of each of `count` rows.
fn chunks(network: &Network, numbers: Numbers, lengths: Option<&[u32]>, count: usize) -> Result<Vec<Chunk>> {
    let name = &network.inputs()[0].name;
    let wrong = |expected: String, got: String| Failure::bad(format!("input `{name}`: expected {expected}, got {got}"));
    let (outer, inner, width) = match numbers {
        Numbers::Tokens(_, [a, b]) => (a, b, 1),
        Numbers::Features(_, [a, b, width]) => (a, b, width),
        Numbers::Rows(..) => return Err(wrong("timesteps".into(), "a vector for each row".into())),
    };
    let batch_first = network.batch_first();
    let (steps, batch) = if batch_first { (inner, outer) } else { (outer, inner) };
    let expected_width = network.inputs()[0].width;
    if batch != count {
        return Err(wrong(format!("B = {count}, a row for each sequence_id"), format!("B = {batch}")));
    }
    if steps == 0 || width != expected_width {
        return Err(wrong(format!("T at least 1 and vectors of {expected_width}"), format!("T = {steps} and {width}")));
    }
    if let Some(lengths) = lengths {
        let fits = lengths.len() == count && lengths.iter().all(|&length| length >= 1 && length as usize <= steps);
        if !fits {
            let expected = format!("{count} numbers from 1 to {steps}, one for each sequence");
            return Err(Failure::bad(format!("input `{LENGTHS}`: expected {expected}, got {lengths:?}")));
        }
    }
    // One row is in its order already.
    if count == 1 {
        let keep = lengths.map_or(steps, |lengths| lengths[0] as usize);
        return Ok(vec![match numbers {
            Numbers::Tokens(mut ids, _) => {
                ids.truncate(keep);
                Chunk::Tokens(ids)
            }
            Numbers::Features(mut values, _) | Numbers::Rows(mut values, _) => {
                values.truncate(keep * width);
                Chunk::Features(values)
            }
        }]);
    }
    let chunk = |row: usize| {
        let keep = lengths.map_or(steps, |lengths| lengths[row] as usize);
        let at = |step: usize| if batch_first { row * steps + step } else { step * batch + row };
        match &numbers {
            Numbers::Tokens(ids, _) => Chunk::Tokens((0..keep).map(|step| ids[at(step)]).collect()),
            Numbers::Features(values, _) | Numbers::Rows(values, _) => {
                let of = |step: usize| &values[at(step) * width..][..width];
                Chunk::Features((0..keep).flat_map(of).copied().collect())
            }
        }
    };
    Ok((0..count).map(chunk).collect())
}

/// The outputs of the rows as one tensor; what lies behind the end of a row is 0.
fn merged(network: &Network, mut answers: Vec<Vec<f32>>) -> Computed {
    let (width, batch) = (network.output_size().max(1), answers.len());
    let name = OUTPUT.to_owned();
    if !network.output_is_sequence() {
        return Computed { name, shape: vec![batch, width], values: answers.concat() };
    }
    let steps = answers.iter().map(|answer| answer.len() / width).max().unwrap_or(0);
    let batch_first = network.batch_first();
    let shape = if batch_first { vec![batch, steps, width] } else { vec![steps, batch, width] };
    if batch == 1 {
        return Computed { name, shape, values: answers.pop().unwrap_or_default() };
    }
    let mut values = vec![0.0; steps * batch * width];
    for (row, answer) in answers.iter().enumerate() {
        for (step, numbers) in answer.chunks_exact(width).enumerate() {
            let at = if batch_first { row * steps + step } else { step * batch + row };
            values[at * width..][..width].copy_from_slice(numbers);
        }
    }
    Computed { name, shape, values }
}
