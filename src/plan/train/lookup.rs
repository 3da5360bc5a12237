//! Which steps read which rows of an embedding's table.

use super::super::tactic::narrow;

/// Most steps whose gradients one invocation adds.
const PIECE: usize = 64;

/// What `shaders/training/embedding_pieces.wgsl` and `embedding_rows.wgsl` read for `tokens` `[T, B]`, ids below
/// `num_embeddings`: the steps sorted by id, in their order where they are equal, and cut into pieces of one id each.
#[must_use]
pub fn lookup(tokens: &[u32], num_embeddings: usize) -> Vec<u32> {
    let steps = tokens.len();
    let mut counts = vec![0u32; num_embeddings + 1];
    tokens.iter().for_each(|&id| counts[id as usize + 1] += 1);
    let mut starts = Vec::with_capacity(steps + 1);
    let (mut rows, mut first_pieces) = (Vec::with_capacity(steps), Vec::with_capacity(steps + 1));
    let mut at = 0;
    for id in 0..num_embeddings {
        let end = at + counts[id + 1];
        if end > at {
            rows.push(narrow(id as u64));
            first_pieces.push(narrow(starts.len() as u64));
            starts.extend((at..end).step_by(PIECE));
        }
        // From here on where the next step of this id goes.
        counts[id] = at;
        at = end;
    }
    let mut order = vec![0u32; steps];
    for (step, &id) in tokens.iter().enumerate() {
        let place = &mut counts[id as usize];
        order[*place as usize] = narrow(step as u64);
        *place += 1;
    }
    let (pieces, distinct) = (starts.len(), rows.len());
    starts.resize(steps + 1, narrow(steps as u64));
    first_pieces.push(narrow(pieces as u64));
    first_pieces.resize(steps + 1, 0);
    rows.resize(steps, 0);
    [&[narrow(pieces as u64), narrow(distinct as u64)][..], &order, &starts, &rows, &first_pieces].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the two kernels do.
    fn sums(words: &[u32], tokens: usize, num_embeddings: usize, d: &[f32]) -> Vec<f32> {
        let (order, rest) = words[2..].split_at(tokens);
        let (starts, rest) = rest.split_at(tokens + 1);
        let (rows, first) = rest.split_at(tokens);
        let piece =
            |piece: usize| -> f32 { (starts[piece]..starts[piece + 1]).map(|at| d[order[at as usize] as usize]).sum() };
        let pieces: Vec<f32> = (0..words[0] as usize).map(piece).collect();
        let mut output = vec![0.0; num_embeddings];
        for row in 0..words[1] as usize {
            output[rows[row] as usize] = pieces[first[row] as usize..first[row + 1] as usize].iter().sum();
        }
        output
    }

    #[test]
    fn every_step_is_added_once() {
        let mut rng = fastrand::Rng::with_seed(1);
        for steps in [1, 5, 300] {
            let tokens: Vec<u32> = (0..steps).map(|at| if at % 2 == 0 { 3 } else { rng.u32(0..7) }).collect();
            let d: Vec<f32> = (0..steps).map(|_| f32::from(rng.u8(0..100))).collect();
            let mut expected = vec![0.0; 9];
            tokens.iter().zip(&d).for_each(|(&id, d)| expected[id as usize] += d);
            let words = lookup(&tokens, 9);
            assert_eq!(words.len(), 4 * (tokens.len() + 1));
            assert_eq!(sums(&words, tokens.len(), 9, &d), expected);
        }
    }
}
