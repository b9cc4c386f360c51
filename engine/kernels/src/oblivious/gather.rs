//! One row of a packed table by its secret number: every panel is read in order, and each line is kept under a mask that is set in
//! the row's lane alone.

use super::embed::paired;
use super::mask::select;
use super::wide::{Block, LANES, Pass, Wide, pass};
use crate::Path;
use crate::packed::{Kind, Packed};

/// The lines of a panel as one row after another left them. The last row that was there counts, and of them its lane alone.
pub(super) struct Gathered(Vec<Block<u32>>);

impl Gathered {
    pub fn new(table: &Packed) -> Self {
        Gathered(vec![Block([0; LANES]); table.panel_lines()])
    }

    /// Looks for row `wanted` in the panels from number `first` to before `end`.
    #[inline(always)]
    pub fn look<W: Wide>(&mut self, table: &Packed, (first, end): (usize, usize), wanted: u32) {
        let (wanted, mut at) = (
            W::splat(wanted),
            W::add(W::count(), W::splat((first * LANES) as u32)),
        );
        for panel in first..end {
            let here = W::conceal(W::equal(at, wanted));
            let (panel, kept) = (table.panel(panel), &mut self.0[..]);
            match table.kind() {
                Kind::F32 | Kind::Bf16 => keep::<W>(here, panel, kept),
                Kind::Q8 | Kind::Q4 => {
                    let (_, unit) = table.kind().unit();
                    for (panel, kept) in panel.chunks_exact(unit).zip(kept.chunks_exact_mut(unit)) {
                        let scales = paired::<W>(W::load_bytes(&panel[0].0));
                        let scales = W::select(here, scales, W::load(&kept[0].0));
                        W::store(scales, &mut kept[0].0);
                        keep::<W>(here, &panel[1..], &mut kept[1..]);
                    }
                }
            }
            at = W::add(at, W::splat(LANES as u32));
        }
    }

    /// Row `wanted` as 32 bits of each line, into `words`, if `mask` is all ones and not zeros.
    pub fn take(&self, path: Path, wanted: u32, mask: u32, words: &mut [u32]) {
        let lines = &self.0[..];
        pass(
            path,
            Take {
                lines,
                wanted,
                mask,
                words,
            },
        );
    }
}

#[inline(always)]
fn keep<W: Wide>(here: W::Mask, lines: &[crate::memory::Line], kept: &mut [Block<u32>]) {
    for (line, kept) in lines.iter().zip(kept) {
        let line = W::select(here, W::load_bytes(&line.0), W::load(&kept.0));
        W::store(line, &mut kept.0);
    }
}

struct Take<'a> {
    lines: &'a [Block<u32>],
    wanted: u32,
    mask: u32,
    words: &'a mut [u32],
}

impl Pass for Take<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self) {
        let lane = W::equal(W::count(), W::splat(self.wanted % LANES as u32));
        let lane = W::conceal(lane);
        for (word, line) in self.words.iter_mut().zip(self.lines) {
            let lanes = W::lanes(W::keep(lane, W::load(&line.0)));
            let found = lanes.into_iter().fold(0, |any, lane| any | lane);
            *word = select(self.mask, found, *word);
        }
    }
}
