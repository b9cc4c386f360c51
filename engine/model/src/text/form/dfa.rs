//! The deterministic automaton of a form over bytes, with as few states as can be.

use std::collections::HashMap;

use super::FormFlaw;
use super::nfa::{Nfa, Part};
use crate::limits::{FORM_BYTE_STATES_MAX, FORM_STEPS_MAX};

/// From [`DEAD`] no text of the form is reached, and from every other state one is.
#[derive(Debug)]
pub(super) struct Dfa {
    /// The column of each byte.
    columns: Vec<u8>,
    rows: Vec<Vec<u32>>,
    accepting: Vec<bool>,
    pub start: u32,
}

pub(super) const DEAD: u32 = 0;

impl Dfa {
    /// Of what matches from the start of a part to its end. Refuses what takes too many states or too long.
    pub fn of(nfa: &Nfa, part: Part) -> Result<Self, FormFlaw> {
        let (columns, firsts) = columns(nfa);
        let mut subsets = Subsets::new(nfa, part.end);
        let mut rows = vec![vec![DEAD; firsts.len()]];
        let mut accepting = vec![false];
        // The dead state is the empty set.
        subsets.number(Vec::new())?;
        let start = subsets.closure(&[part.start])?;
        let start = subsets.number(start)?;
        let mut at = 1;
        while let Some(set) = subsets.sets.get(at).cloned() {
            accepting.push(set.binary_search(&part.end).is_ok());
            let mut targets: Vec<Vec<usize>> = vec![Vec::new(); firsts.len()];
            for node in &set {
                for (low, high, target) in &nfa.nodes[*node].bytes {
                    let (low, high) = (columns[usize::from(*low)], columns[usize::from(*high)]);
                    subsets.spend(1 + usize::from(high - low))?;
                    let columns = &mut targets[usize::from(low)..=usize::from(high)];
                    columns.iter_mut().for_each(|list| list.push(*target));
                }
            }
            let mut row = Vec::with_capacity(firsts.len());
            for list in targets {
                let set = subsets.closure(&list)?;
                row.push(subsets.number(set)?);
            }
            rows.push(row);
            at += 1;
        }
        let dfa = Dfa {
            columns,
            rows,
            accepting,
            start,
        };
        Ok(dfa.minimal())
    }

    /// Where a byte leads.
    pub fn next(&self, state: u32, byte: u8) -> u32 {
        self.rows[state as usize][usize::from(self.columns[usize::from(byte)])]
    }

    /// Whether a text may end here.
    pub fn accepts(&self, state: u32) -> bool {
        self.accepting[state as usize]
    }

    /// States, the dead one included.
    pub fn states(&self) -> usize {
        self.rows.len()
    }

    /// The one byte that may follow, where a text may not end and no other byte may follow.
    pub fn forced(&self, state: u32) -> Option<u8> {
        if self.accepts(state) {
            return None;
        }
        let mut live = (0..=u8::MAX).filter(|byte| self.next(state, *byte) != DEAD);
        let first = live.next()?;
        live.next().is_none().then_some(first)
    }

    /// The same for texts that lose a space at their beginning before anybody sees them.
    pub fn behind_a_space(mut self) -> Self {
        let (start, space) = (self.start, self.columns[usize::from(b' ')]);
        let mut own = usize::from(space);
        if self
            .columns
            .iter()
            .filter(|column| **column == space)
            .count()
            > 1
        {
            own = self.rows[0].len();
            self.columns[usize::from(b' ')] = own as u8;
            self.rows
                .iter_mut()
                .for_each(|row| row.push(row[usize::from(space)]));
        }
        let mut first = self.rows[start as usize].clone();
        first[own] = start;
        self.rows.push(first);
        self.accepting.push(self.accepting[start as usize]);
        self.start = self.rows.len() as u32 - 1;
        self
    }

    /// Merges states that no text tells apart (Hopcroft), and makes [`DEAD`] of all from which nothing is reached.
    fn minimal(self) -> Self {
        let blocks = partition(&self.rows, &self.accepting);
        let mut numbers: HashMap<u32, u32> = HashMap::from([(blocks[0], DEAD)]);
        let mut firsts = vec![0];
        for (state, block) in blocks.iter().enumerate() {
            numbers.entry(*block).or_insert_with(|| {
                firsts.push(state);
                firsts.len() as u32 - 1
            });
        }
        let number = |state: u32| numbers[&blocks[state as usize]];
        let row = |state: &usize| self.rows[*state].iter().map(|next| number(*next)).collect();
        Dfa {
            rows: firsts.iter().map(row).collect(),
            accepting: { firsts.iter() }
                .map(|state| self.accepting[*state])
                .collect(),
            start: number(self.start),
            columns: self.columns,
        }
    }
}

/// The column of each byte, and the first byte of each column: bytes that no edge tells apart share one.
fn columns(nfa: &Nfa) -> (Vec<u8>, Vec<u8>) {
    let mut begins = [false; 257];
    begins[0] = true;
    for (low, high, _) in nfa.nodes.iter().flat_map(|node| &node.bytes) {
        begins[usize::from(*low)] = true;
        begins[usize::from(*high) + 1] = true;
    }
    let firsts: Vec<u8> = (0..=u8::MAX)
        .filter(|byte| begins[usize::from(*byte)])
        .collect();
    let mut column = 0u8;
    let columns = (0..=u8::MAX).map(|byte| {
        column += u8::from(byte > 0 && begins[usize::from(byte)]);
        column
    });
    (columns.collect(), firsts)
}

/// Sets of nodes and their numbers.
struct Subsets<'a> {
    nfa: &'a Nfa,
    end: usize,
    sets: Vec<Vec<usize>>,
    numbers: HashMap<Vec<usize>, u32>,
    seen: Vec<u32>,
    turn: u32,
    steps: usize,
}

impl<'a> Subsets<'a> {
    fn new(nfa: &'a Nfa, end: usize) -> Self {
        Subsets {
            nfa,
            end,
            sets: Vec::new(),
            numbers: HashMap::new(),
            seen: vec![0; nfa.nodes.len()],
            turn: 0,
            steps: 0,
        }
    }

    fn spend(&mut self, steps: usize) -> Result<(), FormFlaw> {
        self.steps += steps;
        match self.steps <= FORM_STEPS_MAX {
            true => Ok(()),
            false => Err(FormFlaw::TooLarge),
        }
    }

    /// The nodes that are reached without a byte and matter: those with bytes, and the end.
    fn closure(&mut self, from: &[usize]) -> Result<Vec<usize>, FormFlaw> {
        self.turn += 1;
        let (mut waiting, mut reached) = (from.to_vec(), Vec::new());
        while let Some(node) = waiting.pop() {
            if std::mem::replace(&mut self.seen[node], self.turn) == self.turn {
                continue;
            }
            let empty = &self.nfa.nodes[node].empty;
            waiting.extend(empty);
            if node == self.end || !self.nfa.nodes[node].bytes.is_empty() {
                reached.push(node);
            }
            self.spend(1 + empty.len())?;
        }
        reached.sort_unstable();
        Ok(reached)
    }

    fn number(&mut self, set: Vec<usize>) -> Result<u32, FormFlaw> {
        if let Some(number) = self.numbers.get(&set) {
            return Ok(*number);
        }
        if self.sets.len() >= FORM_BYTE_STATES_MAX {
            return Err(FormFlaw::TooLarge);
        }
        self.spend(set.len())?;
        let number = self.sets.len() as u32;
        self.sets.push(set.clone());
        self.numbers.insert(set, number);
        Ok(number)
    }
}

/// The block of each state in the coarsest partition that keeps accepting states apart from others.
fn partition(rows: &[Vec<u32>], accepting: &[bool]) -> Vec<u32> {
    let (states, width) = (rows.len(), rows[0].len());
    let mut before: Vec<Vec<Vec<u32>>> = vec![vec![Vec::new(); states]; width];
    for (state, row) in rows.iter().enumerate() {
        for (column, next) in row.iter().enumerate() {
            before[column][*next as usize].push(state as u32);
        }
    }
    let mut blocks = Blocks::new(states);
    for (state, accepts) in accepting.iter().enumerate() {
        if *accepts {
            blocks.mark(state);
        }
    }
    blocks.split_marked();
    let mut waiting: Vec<(usize, usize)> = (0..blocks.bounds.len())
        .flat_map(|block| (0..width).map(move |column| (block, column)))
        .collect();
    while let Some((block, column)) = waiting.pop() {
        let (first, end, _) = blocks.bounds[block];
        // Marking moves members about.
        let members = blocks.members[first..end].to_vec();
        for state in members {
            for from in &before[column][state] {
                blocks.mark(*from as usize);
            }
        }
        // The smaller half of each is enough.
        for new in blocks.split_marked() {
            waiting.extend((0..width).map(|column| (new, column)));
        }
    }
    blocks.of
}

/// A partition that is refined: the members of each block lie side by side, the marked ones first.
struct Blocks {
    members: Vec<usize>,
    place: Vec<usize>,
    of: Vec<u32>,
    /// First member, end, and how many are marked.
    bounds: Vec<(usize, usize, usize)>,
    touched: Vec<usize>,
}

impl Blocks {
    fn new(states: usize) -> Self {
        Blocks {
            members: (0..states).collect(),
            place: (0..states).collect(),
            of: vec![0; states],
            bounds: vec![(0, states, 0)],
            touched: Vec::new(),
        }
    }

    fn mark(&mut self, state: usize) {
        let block = self.of[state] as usize;
        let (first, _, marked) = &mut self.bounds[block];
        let (place, target) = (self.place[state], *first + *marked);
        if place < target {
            return;
        }
        if *marked == 0 {
            self.touched.push(block);
        }
        *marked += 1;
        let other = self.members[target];
        self.members.swap(place, target);
        (self.place[state], self.place[other]) = (target, place);
    }

    /// Parts marked members from the others; the new blocks, each the smaller half.
    fn split_marked(&mut self) -> Vec<usize> {
        let mut made = Vec::new();
        for block in std::mem::take(&mut self.touched) {
            let (first, end, marked) = self.bounds[block];
            self.bounds[block].2 = 0;
            let middle = first + marked;
            if middle == end {
                continue;
            }
            let (kept, new) = match marked <= end - middle {
                true => ((middle, end), (first, middle)),
                false => ((first, middle), (middle, end)),
            };
            self.bounds[block] = (kept.0, kept.1, 0);
            let number = self.bounds.len();
            self.bounds.push((new.0, new.1, 0));
            for state in &self.members[new.0..new.1] {
                self.of[*state] = number as u32;
            }
            made.push(number);
        }
        made
    }
}
