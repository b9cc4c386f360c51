//! A nondeterministic automaton over bytes, put together from parts.

use super::FormFlaw;
use crate::limits::FORM_NODES_MAX;

/// An automaton that is being made.
#[derive(Default)]
pub(super) struct Nfa {
    pub nodes: Vec<Node>,
}

/// Where bytes lead from here, and where one goes without a byte.
#[derive(Default)]
pub(super) struct Node {
    pub bytes: Vec<(u8, u8, usize)>,
    pub empty: Vec<usize>,
}

/// What matches from one node to another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub start: usize,
    pub end: usize,
}

type Made<T> = Result<T, FormFlaw>;

impl Nfa {
    /// A new node.
    pub fn node(&mut self) -> Made<usize> {
        if self.nodes.len() >= FORM_NODES_MAX {
            return Err(FormFlaw::TooLarge);
        }
        self.nodes.push(Node::default());
        Ok(self.nodes.len() - 1)
    }

    /// Leads from one node to another without a byte.
    pub fn join(&mut self, from: usize, to: usize) {
        self.nodes[from].empty.push(to);
    }

    /// The empty text.
    pub fn nothing(&mut self) -> Made<Part> {
        let node = self.node()?;
        Ok(Part {
            start: node,
            end: node,
        })
    }

    /// No text at all.
    pub fn never(&mut self) -> Made<Part> {
        let (start, end) = (self.node()?, self.node()?);
        Ok(Part { start, end })
    }

    /// One byte of a range.
    pub fn range(&mut self, low: u8, high: u8) -> Made<Part> {
        let part = self.never()?;
        self.nodes[part.start].bytes.push((low, high, part.end));
        Ok(part)
    }

    /// One byte of any of these ranges.
    pub fn any_of(&mut self, ranges: &[(u8, u8)]) -> Made<Part> {
        let part = self.never()?;
        let edges = ranges.iter().map(|(low, high)| (*low, *high, part.end));
        self.nodes[part.start].bytes.extend(edges);
        Ok(part)
    }

    /// These bytes.
    pub fn literal(&mut self, bytes: &[u8]) -> Made<Part> {
        let start = self.node()?;
        let mut end = start;
        for byte in bytes {
            let next = self.node()?;
            self.nodes[end].bytes.push((*byte, *byte, next));
            end = next;
        }
        Ok(Part { start, end })
    }

    /// One after the other.
    pub fn then(&mut self, first: Part, second: Part) -> Part {
        self.join(first.end, second.start);
        Part {
            start: first.start,
            end: second.end,
        }
    }

    /// All of them, one after the other.
    pub fn sequence(&mut self, parts: &[Part]) -> Made<Part> {
        let nothing = self.nothing()?;
        Ok({ parts.iter() }.fold(nothing, |before, part| self.then(before, *part)))
    }

    /// Any of them; none is no text at all.
    pub fn either(&mut self, parts: &[Part]) -> Made<Part> {
        let whole = self.never()?;
        for part in parts {
            self.join(whole.start, part.start);
            self.join(part.end, whole.end);
        }
        Ok(whole)
    }

    /// The part or nothing.
    pub fn optional(&mut self, part: Part) -> Made<Part> {
        let nothing = self.nothing()?;
        self.either(&[part, nothing])
    }

    /// The part any number of times, also never.
    pub fn any_number(&mut self, part: Part) -> Made<Part> {
        let node = self.node()?;
        self.join(node, part.start);
        self.join(part.end, node);
        Ok(Part {
            start: node,
            end: node,
        })
    }

    /// What `make` makes, at least `min` and at most `max` times.
    pub fn repeat<E: From<FormFlaw>>(
        &mut self,
        min: usize,
        max: Option<usize>,
        mut make: impl FnMut(&mut Nfa) -> Result<Part, E>,
    ) -> Result<Part, E> {
        let start = self.node()?;
        let mut end = start;
        for _ in 0..min {
            let part = make(self)?;
            self.join(end, part.start);
            end = part.end;
        }
        let Some(max) = max else {
            let part = make(self)?;
            let more = self.any_number(part)?;
            self.join(end, more.start);
            return Ok(Part {
                start,
                end: more.end,
            });
        };
        let last = self.node()?;
        self.join(end, last);
        for _ in min..max {
            let part = make(self)?;
            self.join(end, part.start);
            end = part.end;
            self.join(end, last);
        }
        Ok(Part { start, end: last })
    }

    /// The parts that `make` makes, with `between` between two of them: at least `min`, at most `max`.
    pub fn list<E: From<FormFlaw>>(
        &mut self,
        min: usize,
        max: Option<usize>,
        between: &[u8],
        mut make: impl FnMut(&mut Nfa) -> Result<Part, E>,
    ) -> Result<Part, E> {
        if max == Some(0) {
            return Ok(self.nothing()?);
        }
        let first = make(self)?;
        let whole = match max {
            // One copy: what follows a part leads back before it.
            None if min <= 1 => {
                let between = self.literal(between)?;
                self.join(first.end, between.start);
                self.join(between.end, first.start);
                first
            }
            _ => {
                let more = |count: usize| count.saturating_sub(1);
                let rest = self.repeat(more(min), max.map(more), |nfa| {
                    let between = nfa.literal(between)?;
                    let part = make(nfa)?;
                    Ok::<_, E>(nfa.then(between, part))
                })?;
                self.then(first, rest)
            }
        };
        match min {
            0 => {
                let whole = Part {
                    start: whole.start,
                    end: whole.end,
                };
                Ok(self.optional(whole)?)
            }
            _ => Ok(whole),
        }
    }
}
