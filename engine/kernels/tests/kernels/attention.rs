//! Attention against f64, and its bits over chunks of the prompt, batches, threads and what stands in unused places.

use kernels::{Attend, AttendShape, BLOCK_TOKENS, Kernels, KvCache, KvKind, KvShape};

use crate::{bits, kernels, numbers, paths, relative_error};

struct Sequence {
    shape: AttendShape,
    heads: usize,
    width: usize,
    length: usize,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Sequence {
    fn new(heads: usize, group: usize, width: usize, length: usize) -> Self {
        let mut numbers = numbers(13);
        let scale = (width as f32).sqrt().recip();
        Sequence {
            shape: AttendShape {
                heads: heads * group,
                scale,
                window: None,
                cap: None,
            },
            heads,
            width,
            length,
            queries: numbers
                .normal(length * heads * group * width)
                .iter()
                .map(|x| 2.0 * x)
                .collect(),
            keys: numbers.normal(length * heads * width),
            values: numbers.normal(length * heads * width),
        }
    }

    fn stride(&self) -> usize {
        self.shape.heads * self.width
    }

    /// The second layer of a cache whose blocks are in disorder, full of `garbage` where nothing was written.
    fn cache(&self, kind: KvKind, garbage: f32) -> (KvCache, Vec<u32>) {
        let count = self.length.div_ceil(BLOCK_TOKENS);
        let shape = KvShape {
            kind,
            layers: 2,
            heads: self.heads,
            width: self.width,
        };
        let mut cache = KvCache::zeroed(shape, count + 3).expect("small");
        let stride = self.heads * self.width;
        let garbage = vec![garbage; stride];
        for block in 0..count + 3 {
            for slot in 0..BLOCK_TOKENS {
                for layer in 0..2 {
                    cache
                        .write(layer, block as u32, slot, &garbage, &garbage)
                        .expect("fits");
                }
            }
        }
        let blocks: Vec<u32> = (0..count as u32).rev().map(|block| block + 2).collect();
        for token in 0..self.length {
            let part = token * stride..(token + 1) * stride;
            let (block, slot) = (blocks[token / BLOCK_TOKENS], token % BLOCK_TOKENS);
            cache
                .write(1, block, slot, &self.keys[part.clone()], &self.values[part])
                .expect("fits");
        }
        (cache, blocks)
    }

    /// The rows, `chunk` at a time.
    fn attend(&self, kernels: &Kernels, cache: &KvCache, blocks: &[u32], chunk: usize) -> Vec<f32> {
        let mut out = vec![0.0; self.queries.len()];
        let size = chunk * self.stride();
        for (index, (queries, out)) in self
            .queries
            .chunks(size)
            .zip(out.chunks_mut(size))
            .enumerate()
        {
            let job = Attend {
                blocks,
                position: index * chunk,
                rows: queries.len() / self.stride(),
            };
            kernels
                .attend(cache, 1, &self.shape, &[job], queries, out)
                .expect("fits");
        }
        out
    }

    /// In f64; `sees` gives the positions of a row.
    fn expected(&self, sees: impl Fn(usize) -> std::ops::Range<usize>) -> Vec<f64> {
        let (width, heads, group) = (self.width, self.shape.heads, self.shape.heads / self.heads);
        let mut out = Vec::new();
        for row in 0..self.length {
            for head in 0..heads {
                let query = &self.queries[(row * heads + head) * width..][..width];
                let at = |position: usize| (position * self.heads + head / group) * width;
                let dot = |key: &[f32]| -> f64 {
                    query
                        .iter()
                        .zip(key)
                        .map(|(q, k)| f64::from(*q) * f64::from(*k))
                        .sum()
                };
                let scores: Vec<f64> = sees(row)
                    .map(|position| {
                        dot(&self.keys[at(position)..][..width]) * f64::from(self.shape.scale)
                    })
                    .map(|score| {
                        self.shape.cap.map_or(score, |cap| {
                            f64::from(cap) * (score / f64::from(cap)).tanh()
                        })
                    })
                    .collect();
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> =
                    scores.iter().map(|score| (score - largest).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for element in 0..width {
                    let values =
                        sees(row).map(|position| f64::from(self.values[at(position) + element]));
                    out.push(
                        values
                            .zip(&weights)
                            .map(|(value, weight)| value * weight)
                            .sum::<f64>()
                            / sum,
                    );
                }
            }
        }
        out
    }
}

#[test]
fn attention_agrees_with_f64() {
    for path in paths() {
        for (heads, group, width, length) in [
            (1, 1, 8, 1),
            (3, 3, 64, 70),
            (2, 1, 40, 33),
            (1, 7, 128, 40),
            (1, 2, 16, 1100),
        ] {
            for (window, cap) in [(None, None), (Some(19), None), (None, Some(3.0))] {
                let mut sequence = Sequence::new(heads, group, width, length);
                (sequence.shape.window, sequence.shape.cap) = (window, cap);
                let expected = sequence
                    .expected(|row| (row + 1).saturating_sub(window.unwrap_or(row + 1))..row + 1);
                for (kind, most) in [(KvKind::F32, 2e-6), (KvKind::F16, 2e-3)] {
                    let (cache, blocks) = sequence.cache(kind, 0.0);
                    let got = sequence.attend(&kernels(path, 1), &cache, &blocks, 16);
                    let error = relative_error(&got, &expected);
                    assert!(
                        error < most,
                        "{} {kind:?} width {width} window {window:?} cap {cap:?}: {error:e}",
                        path.name()
                    );
                }
            }
        }
    }
}

#[test]
fn attention_in_both_directions_agrees_with_f64_and_does_not_see_neighbours() {
    for path in paths() {
        let sequences = [(1, 5), (2, 33), (3, 64)].map(|(seed, length)| {
            let mut sequence = Sequence::new(4, 1, 32, length);
            sequence.queries = numbers(seed).normal(length * 128);
            sequence
        });
        let joined = |of: fn(&Sequence) -> &[f32]| {
            sequences.iter().flat_map(of).copied().collect::<Vec<_>>()
        };
        let (queries, keys, values) = (
            joined(|s| &s.queries),
            joined(|s| &s.keys),
            joined(|s| &s.values),
        );
        let mut out = vec![0.0; queries.len()];
        let shape = &sequences[0].shape;
        kernels(path, 2)
            .attend_all(&queries, &keys, &values, &[5, 33, 64], shape, 32, &mut out)
            .expect("fits");
        let expected: Vec<f64> = sequences
            .iter()
            .flat_map(|s| s.expected(|_| 0..s.length))
            .collect();
        assert!(relative_error(&out, &expected) < 2e-6);
        let mut from = 0;
        for s in &sequences {
            let mut alone = vec![0.0; s.queries.len()];
            kernels(path, 1)
                .attend_all(
                    &s.queries,
                    &s.keys,
                    &s.values,
                    &[s.length],
                    shape,
                    32,
                    &mut alone,
                )
                .expect("fits");
            assert_eq!(bits(&alone), bits(&out[from..from + alone.len()]));
            from += alone.len();
        }
    }
}

#[test]
fn attention_has_the_same_bits_for_any_chunks_threads_and_unused_places() {
    for path in paths() {
        for kind in [KvKind::F32, KvKind::F16] {
            for window in [None, Some(100), Some(600)] {
                let mut sequence = Sequence::new(2, 3, 32, 700);
                sequence.shape.window = window;
                let (cache, blocks) = sequence.cache(kind, 0.0);
                let alone = bits(&sequence.attend(&kernels(path, 1), &cache, &blocks, 1));
                let (dirty, _) = sequence.cache(kind, f32::NAN);
                for (threads, chunk) in [(1, 7), (2, 64), (4, 512), (2, 700), (4, 1)] {
                    let got = sequence.attend(&kernels(path, threads), &dirty, &blocks, chunk);
                    assert!(
                        bits(&got) == alone,
                        "{} {kind:?} {window:?} threads {threads} chunk {chunk}",
                        path.name()
                    );
                }
            }
        }
    }
}

#[test]
fn attention_has_the_same_bits_beside_strangers() {
    for path in paths() {
        let sequence = Sequence::new(2, 2, 64, 300);
        let (cache, blocks) = sequence.cache(KvKind::F16, f32::INFINITY);
        let alone = sequence.attend(&kernels(path, 1), &cache, &blocks, 300);
        // Single rows of "sequences" of many lengths, in one call.
        let positions = [299, 0, 31, 32, 33, 250, 100, 7];
        let stride = sequence.stride();
        let of = |from: &[f32]| {
            positions
                .iter()
                .flat_map(|p| &from[p * stride..][..stride])
                .copied()
                .collect::<Vec<_>>()
        };
        let jobs = positions.map(|position| Attend {
            blocks: &blocks,
            position,
            rows: 1,
        });
        let mut out = vec![0.0; positions.len() * stride];
        for threads in [1, 2, 4] {
            let queries = of(&sequence.queries);
            kernels(path, threads)
                .attend(&cache, 1, &sequence.shape, &jobs, &queries, &mut out)
                .expect("fits");
            assert_eq!(bits(&out), bits(&of(&alone)));
        }
    }
}
