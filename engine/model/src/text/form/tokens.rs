//! From bytes to tokens: which token may follow which, for one vocabulary.
//!
//! In text that a form fixes, such as the name of a property, only the longest token that fits may follow, and those that go on
//! behind that text: a model writes it so, and the automaton needs a state for each token and not for each byte. Where texts
//! differ, any token may follow, cut as it likes; so every text of the form can be written in tokens. Where that takes too
//! many states, tokens that end within a character or an escape are left out, and where it takes too many classes, the rarest of those
//! tokens that could be written as several.

use std::collections::{HashMap, VecDeque};

use super::dfa::{DEAD, Dfa};
use super::{FormFlaw, Grammar};
use crate::limits::{GRAMMAR_CLASSES_MAX, GRAMMAR_STATES_MAX};

/// The next state of a token that may not follow.
pub(super) const NEVER: u16 = u16::MAX;
/// A mark of calls stands in a form as one of these bytes, which no text has.
pub(super) const MARK_MIN: u8 = 0xf8;

/// The tokens of a vocabulary by their bytes: a tree, each node before those below it.
pub(crate) struct Tokens {
    nodes: Vec<Node>,
    /// Tokens, in the order of the nodes that they belong to.
    tokens: Vec<u32>,
    /// One more than the largest id.
    size: usize,
    ends: Vec<u32>,
}

struct Node {
    byte: u8,
    /// The length of what leads here.
    depth: u16,
    /// Whether that is whole characters.
    whole: bool,
    /// Where the nodes below this one end.
    next: u32,
    /// The first of its tokens; the next node has the end.
    tokens: u32,
}

impl Tokens {
    /// Of the bytes of each token, the ids that end a completion, and one more than the largest id.
    pub fn new(mut spelled: Vec<(Vec<u8>, u32)>, ends: Vec<u32>, size: usize) -> Self {
        spelled.retain(|(bytes, _)| !bytes.is_empty() && bytes.len() < usize::from(u16::MAX));
        spelled.sort_unstable();
        let root = Node {
            byte: 0,
            depth: 0,
            whole: true,
            next: 0,
            tokens: 0,
        };
        let (mut nodes, mut open, mut tokens) = (vec![root], vec![0], Vec::new());
        let mut before: &[u8] = &[];
        for (bytes, token) in &spelled {
            let same = bytes.iter().zip(before).take_while(|(a, b)| a == b).count();
            close(&mut nodes, &mut open, same + 1);
            for (depth, byte) in bytes.iter().enumerate().skip(same) {
                open.push(nodes.len());
                nodes.push(Node {
                    byte: *byte,
                    depth: depth as u16 + 1,
                    whole: *byte >= MARK_MIN || std::str::from_utf8(&bytes[..=depth]).is_ok(),
                    next: 0,
                    tokens: tokens.len() as u32,
                });
            }
            tokens.push(*token);
            before = bytes;
        }
        close(&mut nodes, &mut open, 0);
        Tokens {
            nodes,
            tokens,
            size,
            ends,
        }
    }

    fn of_node(&self, node: usize) -> &[u32] {
        let end =
            { self.nodes.get(node + 1) }.map_or(self.tokens.len(), |node| node.tokens as usize);
        &self.tokens[self.nodes[node].tokens as usize..end]
    }
}

/// Ends the nodes that lie deeper than so many open ones.
fn close(nodes: &mut [Node], open: &mut Vec<usize>, kept: usize) {
    let next = nodes.len() as u32;
    for node in open.drain(kept.min(open.len())..) {
        nodes[node].next = next;
    }
}

/// An automaton over tokens that is being made of one over bytes.
pub(super) struct Maker<'a> {
    dfa: &'a Dfa,
    tokens: &'a Tokens,
    /// Whether tokens that end within a character or an escape are left out.
    whole: bool,
    forced: Vec<Option<u8>>,
    /// Whether no more may follow than the second character of an escape.
    escapes: Vec<bool>,
    /// Where the longest token leads that fits fixed text, by the state before it and its first byte, and that token.
    longest: HashMap<(u32, u8), Option<(u32, u32)>>,
    numbers: HashMap<u32, u16>,
    states: Vec<u32>,
    classes: Classes,
    /// To which states each state leads.
    follow: Vec<Vec<u16>>,
}

/// Where a token has come to.
#[derive(Clone, Copy)]
struct Step {
    state: u32,
    /// In fixed text, where it may end.
    land: u32,
}

impl<'a> Maker<'a> {
    pub fn new(dfa: &'a Dfa, tokens: &'a Tokens, whole: bool) -> Self {
        Maker {
            dfa,
            tokens,
            whole,
            forced: (0..dfa.states() as u32)
                .map(|state| dfa.forced(state))
                .collect(),
            escapes: (0..dfa.states() as u32)
                .map(|state| escapes(dfa, state))
                .collect(),
            longest: HashMap::new(),
            numbers: HashMap::new(),
            states: Vec::new(),
            classes: Classes::new(tokens.size),
            follow: Vec::new(),
        }
    }

    pub fn make(mut self) -> Result<Grammar, FormFlaw> {
        if self.tokens.ends.is_empty() {
            return Err(FormFlaw::Vocabulary);
        }
        self.number(self.dfa.start)?;
        let mut at = 0;
        while at < self.states.len() {
            self.walk(at)?;
            at += 1;
        }
        let alive = self.alive();
        if !alive[0] {
            return Err(FormFlaw::Vocabulary);
        }
        self.classes.mark_ends(&self.tokens.ends);
        let needed = self.needed();
        let dropped = self.classes.drop_rare(&needed)?;
        self.grammar(&alive, &dropped)
    }

    fn number(&mut self, state: u32) -> Result<u16, FormFlaw> {
        if let Some(number) = self.numbers.get(&state) {
            return Ok(*number);
        }
        if self.states.len() >= GRAMMAR_STATES_MAX {
            return Err(FormFlaw::States(GRAMMAR_STATES_MAX));
        }
        let number = self.states.len() as u16;
        self.states.push(state);
        self.numbers.insert(state, number);
        Ok(number)
    }

    /// Every token that may follow in a state.
    fn walk(&mut self, at: usize) -> Result<(), FormFlaw> {
        let (state, tokens) = (self.states[at], self.tokens);
        let nodes = &tokens.nodes;
        let mut path = vec![self.begin(state)];
        let (mut node, mut follow) = (1, Vec::new());
        self.classes.begin();
        while node < nodes.len() {
            let Node { byte, depth, .. } = nodes[node];
            path.truncate(usize::from(depth));
            let Some(step) = self.step(path[path.len() - 1], byte) else {
                node = nodes[node].next as usize;
                continue;
            };
            path.push(step);
            let ends = !tokens.of_node(node).is_empty();
            if ends && self.may_end(state, step, byte, nodes[node].whole) {
                let number = self.number(step.state)?;
                if follow.last() != Some(&number) {
                    follow.push(number);
                }
                for token in tokens.of_node(node) {
                    self.classes.refine(*token, number);
                }
            }
            node += 1;
        }
        follow.sort_unstable();
        follow.dedup();
        self.follow.push(follow);
        Ok(())
    }

    fn begin(&mut self, state: u32) -> Step {
        let land = match self.forced[state as usize] {
            Some(byte) => self.land(state, byte),
            None => state,
        };
        Step { state, land }
    }

    /// One byte further; `None` where it may not follow.
    fn step(&mut self, from: Step, byte: u8) -> Option<Step> {
        let state = self.dfa.next(from.state, byte);
        if state == DEAD {
            return None;
        }
        let land = match (
            self.forced[from.state as usize],
            self.forced[state as usize],
        ) {
            // Into fixed text.
            (None, Some(_)) => self.land(from.state, byte),
            _ => from.land,
        };
        Some(Step { state, land })
    }

    /// Whether a token may end here whose last byte is `last`, and which is whole characters or not.
    fn may_end(&self, from: u32, step: Step, last: u8, whole: bool) -> bool {
        let fixed = |state: u32| self.forced[state as usize].is_some();
        let whole = whole && !(last == b'\\' && self.escapes[step.state as usize]);
        match fixed(step.state) {
            true => step.state == step.land,
            false => whole || !self.whole || fixed(from),
        }
    }

    /// Where the longest token leads that begins in a state with this byte and is fixed text as far as it goes. [`DEAD`] if no token
    /// does.
    fn land(&mut self, state: u32, byte: u8) -> u32 {
        if let Some(known) = self.longest.get(&(state, byte)) {
            return known.map_or(DEAD, |(land, _)| land);
        }
        let tokens = self.tokens;
        let nodes = &tokens.nodes;
        let (mut node, mut found) = (1, None);
        let (mut at, mut wanted, mut depth) = (state, Some(byte), 1);
        while let (Some(byte), Some(here)) = (wanted, nodes.get(node)) {
            if here.depth < depth {
                break;
            }
            if here.byte != byte {
                node = here.next as usize;
                continue;
            }
            at = self.dfa.next(at, byte);
            if let Some(token) = tokens.of_node(node).first() {
                found = Some((at, *token));
            }
            (wanted, depth, node) = (self.forced[at as usize], depth + 1, node + 1);
        }
        self.longest.insert((state, byte), found);
        found.map_or(DEAD, |(land, _)| land)
    }

    /// From which states an end is reached.
    fn alive(&self) -> Vec<bool> {
        let mut before = vec![Vec::new(); self.states.len()];
        for (from, follow) in self.follow.iter().enumerate() {
            follow
                .iter()
                .for_each(|to| before[usize::from(*to)].push(from));
        }
        let mut alive = vec![false; self.states.len()];
        let ends = (0..self.states.len()).filter(|at| self.dfa.accepts(self.states[*at]));
        let mut waiting: VecDeque<usize> = ends.collect();
        while let Some(at) = waiting.pop_front() {
            if !std::mem::replace(&mut alive[at], true) {
                waiting.extend(&before[at]);
            }
        }
        alive
    }

    /// The tokens with which every text can be written: single bytes, and the longest in fixed text.
    fn needed(&self) -> Vec<u32> {
        let longest = self.longest.values().flatten().map(|(_, token)| *token);
        let nodes = &self.tokens.nodes;
        let bytes = (1..nodes.len()).filter(|node| nodes[*node].depth == 1);
        let bytes = bytes.flat_map(|node| self.tokens.of_node(node)).copied();
        longest
            .chain(bytes)
            .chain(self.tokens.ends.iter().copied())
            .collect()
    }

    /// The rows of the states from which an end is reached, by a token of each class.
    fn grammar(&mut self, alive: &[bool], dropped: &[bool]) -> Result<Grammar, FormFlaw> {
        let kept: Vec<usize> = (0..self.states.len()).filter(|at| alive[*at]).collect();
        let mut numbers = vec![NEVER; self.states.len()];
        for (number, at) in kept.iter().enumerate() {
            numbers[*at] = number as u16;
        }
        let (classes, examples) = self.classes.numbered(dropped);
        let spelled = self.spelled(&examples);
        let mut rows = Vec::with_capacity(kept.len());
        for at in &kept {
            let state = self.states[*at];
            let mut row = Vec::with_capacity(examples.len());
            for (example, (nodes, whole)) in examples.iter().zip(&spelled) {
                row.push(match example {
                    Some(token) if self.tokens.ends.contains(token) => {
                        match self.dfa.accepts(state) {
                            true => numbers[*at],
                            false => NEVER,
                        }
                    }
                    Some(_) => self.target(state, nodes, *whole, &numbers),
                    None => NEVER,
                });
            }
            rows.push(row);
        }
        let grammar = Grammar {
            classes,
            rows,
            start: numbers[0],
            ends: self.tokens.ends.clone(),
        };
        match grammar.has_dead_end() {
            true => Err(FormFlaw::Vocabulary),
            false => Ok(grammar),
        }
    }

    /// The bytes of some tokens, and whether they are whole characters.
    fn spelled(&self, wanted: &[Option<u32>]) -> Vec<(Vec<u8>, bool)> {
        let places: HashMap<u32, usize> = { wanted.iter().enumerate() }
            .filter_map(|(place, token)| Some(((*token)?, place)))
            .collect();
        let mut spelled = vec![(Vec::new(), true); wanted.len()];
        let mut path = Vec::new();
        for (node, here) in self.tokens.nodes.iter().enumerate().skip(1) {
            path.truncate(usize::from(here.depth) - 1);
            path.push(here.byte);
            for token in self.tokens.of_node(node) {
                if let Some(place) = places.get(token) {
                    spelled[*place] = (path.clone(), here.whole);
                }
            }
        }
        spelled
    }

    fn target(&mut self, state: u32, bytes: &[u8], whole: bool, numbers: &[u16]) -> u16 {
        let mut step = self.begin(state);
        for byte in bytes {
            let Some(next) = self.step(step, *byte) else {
                return NEVER;
            };
            step = next;
        }
        let last = bytes.last();
        match last.is_some_and(|last| self.may_end(state, step, *last, whole)) {
            true => { self.numbers.get(&step.state) }.map_or(NEVER, |at| numbers[usize::from(*at)]),
            false => NEVER,
        }
    }
}

fn escapes(dfa: &Dfa, state: u32) -> bool {
    let mut live = (0..=u8::MAX).filter(|byte| dfa.next(state, *byte) != DEAD);
    !dfa.accepts(state) && live.all(|byte| br#""\bfnrt"#.contains(&byte))
}

/// Tokens that no state so far tells apart share a class.
struct Classes {
    of: Vec<u32>,
    count: u32,
    /// In one state: the class of those that were of one class and lead to one state.
    split: HashMap<(u32, u16), u32>,
    last: ((u32, u16), u32),
}

impl Classes {
    fn new(size: usize) -> Self {
        Classes {
            of: vec![0; size],
            count: 1,
            split: HashMap::new(),
            last: ((u32::MAX, NEVER), 0),
        }
    }

    fn begin(&mut self) {
        self.split.clear();
        self.last = ((u32::MAX, NEVER), 0);
    }

    fn refine(&mut self, token: u32, target: u16) {
        let Some(class) = self.of.get_mut(token as usize) else {
            return;
        };
        let key = (*class, target);
        if self.last.0 != key {
            let count = &mut self.count;
            let new = *self.split.entry(key).or_insert_with(|| {
                *count += 1;
                *count - 1
            });
            self.last = (key, new);
        }
        *class = self.last.1;
    }

    /// Gives the tokens that end a completion a class of their own.
    fn mark_ends(&mut self, ends: &[u32]) {
        self.begin();
        ends.iter().for_each(|end| self.refine(*end, 0));
    }

    /// Which classes are left out so that the others are few enough: those with the fewest tokens, none of them needed.
    fn drop_rare(&self, needed: &[u32]) -> Result<Vec<bool>, FormFlaw> {
        let mut counts = vec![0u32; self.count as usize];
        self.of
            .iter()
            .for_each(|class| counts[*class as usize] += 1);
        let mut must = vec![false; self.count as usize];
        for token in needed {
            if let Some(class) = self.of.get(*token as usize) {
                must[*class as usize] = true;
            }
        }
        let mut may: Vec<u32> = (1..self.count)
            .filter(|class| counts[*class as usize] > 0 && !must[*class as usize])
            .collect();
        may.sort_by_key(|class| counts[*class as usize]);
        // What was never moved, and what is left out, is one class.
        let kept = 1 + { counts.iter().skip(1) }
            .filter(|count| **count > 0)
            .count();
        let excess = kept.saturating_sub(GRAMMAR_CLASSES_MAX);
        let mut dropped = vec![false; self.count as usize];
        let rare = may
            .get(..excess)
            .ok_or(FormFlaw::Classes(GRAMMAR_CLASSES_MAX))?;
        rare.iter()
            .for_each(|class| dropped[*class as usize] = true);
        Ok(dropped)
    }

    /// The class of each token, from 0 for those that never follow, and a token of each class.
    fn numbered(&self, dropped: &[bool]) -> (Vec<u16>, Vec<Option<u32>>) {
        let mut numbers = vec![None; self.count as usize];
        numbers[0] = Some(0);
        let mut examples = vec![None];
        let classes = (0u32..).zip(&self.of).map(|(token, class)| {
            let class = *class as usize;
            if dropped[class] {
                return 0;
            }
            *numbers[class].get_or_insert_with(|| {
                examples.push(Some(token));
                (examples.len() - 1) as u16
            })
        });
        (classes.collect(), examples)
    }
}
