//! Which token may follow which: a finite automaton over classes of tokens, made by the client and sealed in the request.
//!
//! A request carries it as words of 32 bits, little-endian as all of the request. Two numbers of 16 bits share a word, the first
//! in its low half; a half that is left over is zero.
//!
//! ```text
//!   word  bits                                              words
//!    0    low 16: states, 1 to 256; high 16: classes, 1 to 512
//!    1    low 16: the state before the first token; high 16: zeros
//!    2    the class of each token of the vocabulary         half the vocabulary, rounded up
//!    ..   state by state, class by class: the next state,   half of states * classes, rounded up
//!         or 0xffff where a token of the class may not follow
//! ```
//!
//! States and classes are as public as the length of the request that they are part of; everything else is secret. Each state
//! lets at least one token follow; where the completion may end, that is an end token, whose next state does not matter.

use std::fmt;

use crate::Path;
use crate::oblivious::mask::{declassify, equal, less};
use crate::oblivious::wide::{Block, LANES, Pass, Wide, pass};

/// States of an automaton.
pub const STATES_MAX: usize = 256;
/// Classes of tokens.
pub const CLASSES_MAX: usize = 512;
/// The next state of a token that may not follow.
pub const NEVER: u16 = u16::MAX;
/// The numbers of a state's row share words in pairs.
const ROW: usize = CLASSES_MAX / 2 / LANES;

type Row = [Block<u32>; ROW];

/// An automaton that has been checked against a vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub struct Automaton {
    start: u32,
    vocabulary: usize,
    /// Classes of 32 tokens in each block, those of the second sixteen in the high halves.
    classes: Vec<Block<u32>>,
    /// A row of 512 classes for each state.
    rows: Vec<Row>,
}

/// Why words are no automaton.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutomatonError {
    /// There are no states or more than 256.
    States(u32),
    /// There are no classes or more than 512.
    Classes(u32),
    /// There are more or fewer words than states, classes and vocabulary need.
    Words {
        /// As many as they need.
        expected: usize,
        /// As many as there are.
        found: usize,
    },
    /// A class or a state is out of range, a spare bit is set, or a state lets nothing follow. Which is secret.
    Contents,
}

impl fmt::Display for AutomatonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::States(states) => write!(f, "grammar: {states} states; 1 to 256 are supported"),
            Self::Classes(classes) => {
                write!(f, "grammar: {classes} classes; 1 to 512 are supported")
            }
            Self::Words { expected, found } => {
                write!(f, "grammar: {found} words instead of {expected}")
            }
            Self::Contents => write!(
                f,
                "grammar: a class or state is out of range or a state lets no token follow"
            ),
        }
    }
}

impl std::error::Error for AutomatonError {}

impl Automaton {
    /// Reads the words of a request, for a vocabulary of so many tokens.
    pub fn parse(path: Path, words: &[u32], vocabulary: usize) -> Result<Self, AutomatonError> {
        let (header, halves) = words.split_at_checked(2).ok_or(AutomatonError::Words {
            expected: 2,
            found: words.len(),
        })?;
        let (states, classes) = (header[0] & 0xffff, header[0] >> 16);
        if !(1..=STATES_MAX).contains(&(states as usize)) {
            return Err(AutomatonError::States(states));
        }
        if !(1..=CLASSES_MAX).contains(&(classes as usize)) {
            return Err(AutomatonError::Classes(classes));
        }
        let table = states as usize * classes as usize;
        let (tokens_words, table_words) = (vocabulary.div_ceil(2), table.div_ceil(2));
        if halves.len() != tokens_words + table_words {
            return Err(AutomatonError::Words {
                expected: 2 + tokens_words + table_words,
                found: words.len(),
            });
        }
        let (tokens, table_halves) = halves.split_at(tokens_words);
        let mut bad = !less(header[1].into(), states.into());
        bad |= spare(tokens, vocabulary) | spare(table_halves, table);
        let mut automaton = Automaton {
            start: header[1],
            vocabulary,
            classes: vec![Block([0; LANES]); vocabulary.div_ceil(2 * LANES)],
            rows: vec![[Block([u32::MAX; LANES]); ROW]; states as usize],
        };
        for (token, class) in (0..vocabulary).zip(unpacked(tokens)) {
            bad |= !less(class.into(), classes.into());
            let block = &mut automaton.classes[token / (2 * LANES)];
            block.0[token % LANES] |= class << (16 * (token / LANES % 2));
        }
        for (place, next) in (0..table).zip(unpacked(table_halves)) {
            bad |= !less(next.into(), states.into()) & !equal(next, NEVER.into());
            let (state, class) = (place / classes as usize, place % classes as usize);
            let (word, shift) = (class / 2, 16 * (class % 2));
            let slot = &mut automaton.rows[state][word / LANES].0[word % LANES];
            *slot = *slot & !(0xffff << shift) | (next << shift);
        }
        bad |= automaton.has_dead_state(path);
        if declassify(bad) {
            return Err(AutomatonError::Contents);
        }
        Ok(automaton)
    }

    /// The words of a request: the class of each token, the next state of each class for each state, and the first state.
    pub fn words(classes: &[u16], rows: &[Vec<u16>], start: u16) -> Vec<u32> {
        let width = rows.first().map_or(0, Vec::len) as u32;
        let mut words = vec![rows.len() as u32 | (width << 16), start.into()];
        let table: Vec<u16> = rows.concat();
        for halves in [classes, &table] {
            words.extend(halves.chunks(2).map(|pair| {
                let second = pair.get(1).copied().unwrap_or(0);
                u32::from(pair[0]) | (u32::from(second) << 16)
            }));
        }
        words
    }

    /// Tokens of the vocabulary.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// All ones if a state lets no token of the vocabulary follow, else zeros.
    fn has_dead_state(&self, path: Path) -> u32 {
        let mut used = [0; CLASSES_MAX];
        for (first, used) in (0u32..).step_by(LANES).zip(used.chunks_mut(LANES)) {
            let tokens = self.vocabulary as u32;
            let classes = &self.classes;
            used.copy_from_slice(&pass(
                path,
                Used {
                    classes,
                    tokens,
                    first,
                },
            ));
        }
        self.rows.iter().fold(0, |dead, row| {
            let follows = nexts(row).zip(used);
            let any = follows.fold(0, |any, (next, used)| {
                any | (!equal(next, NEVER.into()) & used)
            });
            dead | !any
        })
    }
}

/// Where a completion is in its automaton.
pub struct Place {
    automaton: Automaton,
    row: Row,
    bits: [u32; LANES],
}

impl Place {
    /// Before the first token.
    pub fn new(path: Path, automaton: Automaton) -> Self {
        let mut place = Place {
            row: [Block([0; LANES]); ROW],
            bits: [0; LANES],
            automaton,
        };
        place.enter(path, place.automaton.start);
        place
    }

    /// The tokens that may follow.
    pub fn allowed(&self) -> Allowed<'_> {
        Allowed {
            classes: &self.automaton.classes,
            bits: self.bits,
        }
    }

    /// Takes the next token, which may follow.
    pub fn push(&mut self, path: Path, token: u32) {
        let class = pass(path, Class(&self.automaton.classes, token));
        let next = (0u32..).zip(nexts(&self.row));
        let next = next.fold(0, |found, (number, next)| {
            found | (next & equal(number, class))
        });
        self.enter(path, next);
    }

    fn enter(&mut self, path: Path, state: u32) {
        self.row = pass(path, Fetch(&self.automaton.rows, state));
        self.bits = [0; LANES];
        for (class, next) in nexts(&self.row).enumerate() {
            self.bits[class / 32] |= (!equal(next, NEVER.into()) & 1) << (class % 32);
        }
    }
}

/// The tokens that may follow: the class of each, and a bit for each class.
#[derive(Clone, Copy)]
pub struct Allowed<'a> {
    classes: &'a [Block<u32>],
    bits: [u32; LANES],
}

impl<'a> Allowed<'a> {
    /// A bit for each class.
    pub fn bits(self) -> [u32; LANES] {
        self.bits
    }

    /// The classes of so many tokens.
    pub fn classes(self, tokens: usize) -> Vec<u16> {
        let halves = |shift: u32| move |word: u32| (word >> shift) as u16;
        let pairs = self.classes.iter().map(|block| block.0);
        let classes = pairs.flat_map(|pair| [pair.map(halves(0)), pair.map(halves(16))]);
        classes.flatten().take(tokens).collect()
    }

    /// The bits in a register.
    #[inline(always)]
    pub fn load<W: Wide>(self) -> AllowedWide<'a, W> {
        AllowedWide {
            classes: self.classes,
            bits: W::load(&self.bits),
        }
    }
}

/// As [`Allowed`].
pub struct AllowedWide<'a, W: Wide> {
    classes: &'a [Block<u32>],
    bits: W::Ints,
}

impl<W: Wide> AllowedWide<'_, W> {
    /// Which of the sixteen tokens of a block of scores may follow.
    #[inline(always)]
    pub fn block(&self, number: usize) -> W::Mask {
        let Some(pair) = self.classes.get(number / 2) else {
            return W::greater(W::splat(0), W::splat(0));
        };
        let class = half::<W>(W::load(&pair.0), number % 2);
        let word = W::look_up(self.bits, W::shift_right::<5>(class));
        let bit = W::shift_right_each(word, W::and(class, W::splat(31)));
        W::greater(W::and(bit, W::splat(1)), W::splat(0))
    }
}

/// The low halves or the high ones.
#[inline(always)]
fn half<W: Wide>(pair: W::Ints, number: usize) -> W::Ints {
    match number {
        0 => W::and(pair, W::splat(0xffff)),
        _ => W::shift_right::<16>(pair),
    }
}

/// The next states of a row, class by class.
fn nexts(row: &Row) -> impl Iterator<Item = u32> {
    let words = row.iter().flat_map(|block| block.0);
    words.flat_map(|word| [word & 0xffff, word >> 16])
}

fn unpacked(words: &[u32]) -> impl Iterator<Item = u32> {
    words.iter().flat_map(|word| [word & 0xffff, word >> 16])
}

/// Not zero if the half that is left over of `count` numbers is not zero.
fn spare(words: &[u32], count: usize) -> u32 {
    match words.last() {
        Some(last) if count % 2 == 1 => last >> 16,
        _ => 0,
    }
}

/// For sixteen classes from `first` on: all ones if a token has it, else zeros.
struct Used<'a> {
    classes: &'a [Block<u32>],
    tokens: u32,
    first: u32,
}

impl Pass for Used<'_> {
    type Output = [u32; LANES];

    #[inline(always)]
    fn run<W: Wide>(self) -> [u32; LANES] {
        let wanted: [_; LANES] = std::array::from_fn(|lane| W::splat(self.first + lane as u32));
        let (mut used, ones) = ([W::splat(0); LANES], W::splat(u32::MAX));
        let (mut at, end) = (W::count(), W::splat(self.tokens));
        for pair in self.classes {
            let pair = W::load(&pair.0);
            for number in 0..2 {
                let class = half::<W>(pair, number);
                let is_token = W::greater(end, at);
                for (used, wanted) in used.iter_mut().zip(wanted) {
                    let hit = W::both(is_token, W::equal(class, wanted));
                    *used = W::or(*used, W::keep(hit, ones));
                }
                at = W::add(at, W::splat(LANES as u32));
            }
        }
        used.map(|lanes| W::lanes(lanes).into_iter().fold(0, |any, lane| any | lane))
    }
}

/// The class of a token.
struct Class<'a>(&'a [Block<u32>], u32);

impl Pass for Class<'_> {
    type Output = u32;

    #[inline(always)]
    fn run<W: Wide>(self) -> u32 {
        let (mut at, token, mut found) = (W::count(), W::splat(self.1), W::splat(0));
        for pair in self.0 {
            let pair = W::load(&pair.0);
            for number in 0..2 {
                let kept = W::keep(W::equal(at, token), half::<W>(pair, number));
                found = W::or(found, kept);
                at = W::add(at, W::splat(LANES as u32));
            }
        }
        W::lanes(found).into_iter().fold(0, |any, lane| any | lane)
    }
}

/// The row of a state.
struct Fetch<'a>(&'a [Row], u32);

impl Pass for Fetch<'_> {
    type Output = Row;

    #[inline(always)]
    fn run<W: Wide>(self) -> Row {
        let mut found = [W::splat(0); ROW];
        for (number, row) in (0u32..).zip(self.0) {
            let mask = W::splat(equal(number, self.1));
            for (found, block) in found.iter_mut().zip(row) {
                *found = W::or(*found, W::and(mask, W::load(&block.0)));
            }
        }
        let mut row = [Block([0; LANES]); ROW];
        for (block, found) in row.iter_mut().zip(found) {
            W::store(found, &mut block.0);
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Digits (class 0), a comma (1), the end (2) and what is in no answer (3), for numbers with commas between.
    fn numbers() -> (Vec<u16>, Vec<Vec<u16>>) {
        let classes = (0..75u16).map(|token| {
            if token < 10 {
                0
            } else if token == 10 {
                1
            } else if token == 74 {
                2
            } else {
                3
            }
        });
        let rows = vec![vec![1, NEVER, NEVER, NEVER], vec![1, 0, 1, NEVER]];
        (classes.collect(), rows)
    }

    struct Which<'a>(Allowed<'a>, usize);

    impl Pass for Which<'_> {
        type Output = Vec<u32>;

        fn run<W: Wide>(self) -> Vec<u32> {
            let allowed = self.0.load::<W>();
            let lanes = (0..self.1)
                .flat_map(|number| W::lanes(W::keep(allowed.block(number), W::splat(1))));
            lanes.collect()
        }
    }

    #[test]
    fn the_tokens_that_may_follow_are_those_of_the_state() {
        let (classes, rows) = numbers();
        for path in Path::ALL.into_iter().filter(|path| path.is_here()) {
            let automaton =
                Automaton::parse(path, &Automaton::words(&classes, &rows, 0), 75).unwrap();
            let mut place = Place::new(path, automaton);
            let mut state = 0;
            for token in [4, 0, 10, 9, 74] {
                let allowed = pass(path, Which(place.allowed(), 5));
                for (class, allowed) in classes.iter().zip(allowed) {
                    assert_eq!(allowed == 1, rows[state][usize::from(*class)] != NEVER);
                }
                place.push(path, token);
                state = rows[state][usize::from(classes[token as usize])].into();
            }
        }
    }

    #[test]
    fn the_largest_automaton_is_read() {
        let classes: Vec<u16> = (0..1024).map(|token| token % 512).collect();
        let row: Vec<u16> = (0..512).map(|class| class % 256).collect();
        let rows = vec![row; 256];
        let words = Automaton::words(&classes, &rows, 255);
        let path = Path::detect();
        let mut place = Place::new(path, Automaton::parse(path, &words, 1024).unwrap());
        place.push(path, 1023);
        assert!(
            pass(path, Which(place.allowed(), 64))
                .iter()
                .all(|bit| *bit == 1)
        );
    }

    #[test]
    fn what_is_no_automaton_is_refused() {
        let (classes, rows) = numbers();
        let words = Automaton::words(&classes, &rows, 0);
        let check = |words: &[u32], expected| {
            assert_eq!(
                Automaton::parse(Path::detect(), words, 75).err(),
                Some(expected)
            );
        };
        let changed = |at: usize, word: u32| {
            let mut words = words.clone();
            words[at] = word;
            words
        };
        let count = words.len();
        let lengths = |found| AutomatonError::Words {
            expected: count,
            found,
        };
        check(
            &[],
            AutomatonError::Words {
                expected: 2,
                found: 0,
            },
        );
        check(&changed(0, 4 << 16), AutomatonError::States(0));
        check(&changed(0, 4 << 16 | 257), AutomatonError::States(257));
        check(&changed(0, 2), AutomatonError::Classes(0));
        check(&changed(0, 513 << 16 | 2), AutomatonError::Classes(513));
        check(&words[..count - 1], lengths(count - 1));
        check(&[&words[..], &[0]].concat(), lengths(count + 1));
        // The first state, a spare half, a class, a next state.
        check(&changed(1, 2), AutomatonError::Contents);
        check(&changed(2 + 37, 2 | 1 << 16), AutomatonError::Contents);
        check(&changed(2, 4), AutomatonError::Contents);
        check(&changed(count - 1, 2), AutomatonError::Contents);
        // A state that lets nothing follow, and one that lets a class of no token follow.
        let dead = vec![vec![NEVER; 4], rows[1].clone()];
        check(
            &Automaton::words(&classes, &dead, 1),
            AutomatonError::Contents,
        );
        let mut none = classes.clone();
        none.iter_mut().for_each(|class| *class = (*class).max(1));
        check(&Automaton::words(&none, &rows, 1), AutomatonError::Contents);
    }
}
