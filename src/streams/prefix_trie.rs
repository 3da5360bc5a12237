//! A trie of token sequences with a number at the end of each.

use std::collections::BTreeMap;

use super::recency::Recency;

/// Token sequences, those with the same beginning on the same way from the root, and the number of a state at the end of each.
#[derive(Debug)]
pub(crate) struct PrefixTrie {
    nodes: Vec<PrefixNode>,
    free: Vec<u32>,
    /// Nodes with a state, by their last use.
    order: Recency,
    /// Tokens of all edges.
    tokens: usize,
}

#[derive(Debug, Default)]
struct PrefixNode {
    parent: u32,
    /// What leads here from the parent.
    edge: Vec<u32>,
    /// By the first token of their edges.
    children: BTreeMap<u32, u32>,
    state: Option<u32>,
}

const ROOT: u32 = 0;

impl Default for PrefixTrie {
    fn default() -> Self {
        Self { nodes: vec![PrefixNode::default()], free: Vec::new(), order: Recency::default(), tokens: 0 }
    }
}

impl PrefixTrie {
    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Bytes of the states, of `width` numbers each, and of the tokens.
    pub fn bytes(&self, width: usize) -> u64 {
        ((self.len() * width + self.tokens) * size_of::<u32>()) as u64
    }

    /// Most bytes that a sequence can add.
    pub fn most_bytes(tokens: &[u32], width: usize) -> u64 {
        ((width + tokens.len()) * size_of::<u32>()) as u64
    }

    /// The longest of the sequences that `tokens` begin with: its length and its state. It is used with that.
    pub fn longest(&mut self, tokens: &[u32]) -> Option<(usize, u32)> {
        let (mut at, mut length, mut found) = (ROOT, 0, None);
        while let Some(&child) = tokens.get(length).and_then(|first| self.node(at).children.get(first)) {
            let PrefixNode { edge, state, .. } = self.node(child);
            if !tokens[length..].starts_with(edge) {
                break;
            }
            (at, length) = (child, length + edge.len());
            found = state.map(|state| (child, length, state)).or(found);
        }
        let (node, length, state) = found?;
        self.order.remove(node);
        self.order.push(node);
        Some((length, state))
    }

    /// Adds a sequence of at least one token that is not there.
    pub fn insert(&mut self, tokens: &[u32], state: u32) {
        let (mut at, mut rest) = (ROOT, tokens);
        while let Some(&first) = rest.first() {
            let next = match self.node(at).children.get(&first) {
                Some(&child) => self.split(child, rest),
                None => self.add(at, rest),
            };
            (at, rest) = (next, &rest[self.node(next).edge.len()..]);
        }
        self.nodes[at as usize].state = Some(state);
        self.order.push(at);
    }

    /// Removes the sequence that was used longest ago and returns its state.
    pub fn remove_oldest(&mut self) -> Option<u32> {
        let node = self.order.oldest()?;
        self.order.remove(node);
        let state = self.nodes[node as usize].state.take();
        self.shorten(node);
        state
    }

    fn node(&self, node: u32) -> &PrefixNode {
        &self.nodes[node as usize]
    }

    /// A new child.
    fn add(&mut self, parent: u32, edge: &[u32]) -> u32 {
        self.tokens += edge.len();
        let node = PrefixNode { parent, edge: edge.to_vec(), ..PrefixNode::default() };
        let number = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(PrefixNode::default());
            u32::try_from(self.nodes.len() - 1).unwrap_or(u32::MAX)
        });
        self.nodes[number as usize] = node;
        self.nodes[parent as usize].children.insert(edge[0], number);
        number
    }

    /// The child itself if `tokens` begin with its edge; else a new node between it and its parent, where they part.
    fn split(&mut self, child: u32, tokens: &[u32]) -> u32 {
        let PrefixNode { parent, edge, .. } = self.node(child);
        let (parent, common) = (*parent, edge.iter().zip(tokens).take_while(|(a, b)| a == b).count());
        if common == edge.len() {
            return child;
        }
        let (edge, first) = (edge.clone(), edge[common]);
        self.tokens -= common;
        let between = self.add(parent, &edge[..common]);
        self.nodes[between as usize].children.insert(first, child);
        let below = &mut self.nodes[child as usize];
        (below.parent, below.edge) = (between, edge[common..].to_vec());
        between
    }

    /// Removes a node that has lost its state or a child, and those above it, as far as nothing needs them.
    fn shorten(&mut self, node: u32) {
        let PrefixNode { parent, edge, children, state } = self.node(node);
        let parent = *parent;
        if node == ROOT || state.is_some() || children.len() > 1 {
            return;
        }
        let only = children.values().next().copied();
        let edge = edge.clone();
        self.nodes[node as usize] = PrefixNode::default();
        self.free.push(node);
        match only {
            Some(child) => {
                self.nodes[parent as usize].children.insert(edge[0], child);
                let below = &mut self.nodes[child as usize];
                (below.parent, below.edge) = (parent, [edge, std::mem::take(&mut below.edge)].concat());
            }
            None => {
                self.tokens -= edge.len();
                self.nodes[parent as usize].children.remove(&edge[0]);
                self.shorten(parent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a list of sequences that is searched.
    #[test]
    fn the_longest_known_beginning_is_found() {
        let mut rng = fastrand::Rng::with_seed(2);
        let (mut trie, mut plain) = (PrefixTrie::default(), Vec::<(Vec<u32>, u32)>::new());
        for state in 0..4000 {
            let tokens: Vec<u32> = (0..rng.usize(1..9)).map(|_| rng.u32(0..3)).collect();
            let known = |plain: &[(Vec<u32>, u32)]| {
                let beginnings = (0..plain.len()).filter(|&at| tokens.starts_with(&plain[at].0));
                beginnings.max_by_key(|&at| plain[at].0.len())
            };
            let found = known(&plain).map(|at| {
                let used = plain.remove(at);
                plain.push(used.clone());
                (used.0.len(), used.1)
            });
            assert_eq!(trie.longest(&tokens), found);
            if found.is_none_or(|(length, _)| length < tokens.len()) {
                trie.insert(&tokens, state);
                plain.push((tokens, state));
            }
            if plain.len() > 40 {
                assert_eq!(trie.remove_oldest(), Some(plain.remove(0).1));
            }
            assert_eq!(trie.len(), plain.len());
            let most: usize = plain.iter().map(|(tokens, _)| tokens.len()).sum();
            assert!(trie.tokens <= most);
        }
        while let Some(state) = trie.remove_oldest() {
            assert_eq!(state, plain.remove(0).1);
        }
        assert_eq!((trie.tokens, trie.nodes.len() - trie.free.len(), plain.len()), (0, 1, 0));
    }
}
