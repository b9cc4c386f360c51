//! Threads that stay: a call hands out chunks of its output and returns when all are written.
//!
//! A worker looks for work for a bounded time ([`SPINS`]), then sleeps until there is some. Which thread computes a chunk changes
//! nothing: a chunk is a rectangle of the output, and nothing is summed across chunks.
//!
//! ```text
//! caller:  publish job -> take chunks until none is left -> withdraw the job -> wait until no worker is inside
//! worker:  wait for a job -> enter (only while it is published) -> take chunks until none is left -> leave
//! ```

#![expect(
    unsafe_code,
    reason = "threads that stay run a job that borrows, and write tiles of one slice"
)]

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;

use crate::error::KernelError;

/// The most threads of a pool.
pub const THREADS_MAX: usize = 256;
/// How often a thread looks before it sleeps: some tens of microseconds, the time between two products of a decoder.
const SPINS: usize = 4_000;

type Work<'a> = dyn Fn(usize) + Sync + 'a;

/// The caller and `threads - 1` workers.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    /// Held by the caller whose job is published; others compute alone.
    turn: Mutex<()>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    published: Condvar,
    left: Condvar,
    /// Jobs published so far, so that a worker can look without the lock.
    generation: AtomicUsize,
    /// Workers inside the job.
    inside: AtomicUsize,
    /// The next chunk.
    next: AtomicUsize,
    closing: AtomicBool,
}

struct State {
    job: Option<Job>,
    asleep: usize,
}

#[derive(Clone, Copy)]
struct Job {
    work: &'static Work<'static>,
    count: usize,
}

impl Pool {
    /// A pool of `threads`, the caller included.
    ///
    /// # Errors
    /// A number out of range, or the system refuses a thread.
    pub fn new(threads: usize) -> Result<Self, KernelError> {
        if !(1..=THREADS_MAX).contains(&threads) {
            return Err(KernelError::Threads(threads));
        }
        let mut pool = Pool {
            shared: Arc::new(Shared::new()),
            turn: Mutex::new(()),
            workers: Vec::new(),
        };
        for number in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let worker = std::thread::Builder::new()
                .name(format!("kernels-{number}"))
                .spawn(move || shared.serve());
            // Dropping the pool ends the workers that did start.
            let worker = worker.map_err(|_| KernelError::ThreadRefused)?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// Threads, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work` with each number below `count`, on any thread, and returns when all calls have returned.
    pub fn chunks(&self, count: usize, work: &Work<'_>) {
        let alone = self.workers.is_empty() || count < 2;
        let turn = match self.turn.try_lock() {
            Ok(turn) if !alone => turn,
            // A job that panicked was withdrawn before its turn ended.
            Err(TryLockError::Poisoned(turn)) if !alone => turn.into_inner(),
            _ => return (0..count).for_each(work),
        };
        // Leaving this scope, also by a panic, waits for the workers: none of them sees `work` afterwards.
        let withdrawal = self.shared.publish(work, count);
        self.shared.take_chunks(work, count);
        drop(withdrawal);
        drop(turn);
    }

    /// Cuts `values`, rows of `stride`, into tiles of at most `height` rows and `width` columns, and calls `work` for each.
    pub fn tiles<T: Send>(
        &self,
        values: &mut [T],
        stride: usize,
        (height, width): (usize, usize),
        work: impl Fn(Tile<'_, T>) + Sync,
    ) {
        if stride == 0 || height == 0 || width == 0 {
            return;
        }
        let rows = values.len() / stride;
        let across = stride.div_ceil(width);
        let base = Base(values.as_mut_ptr());
        self.chunks(across * rows.div_ceil(height), &|chunk| {
            let (top, left) = (chunk / across * height, chunk % across * width);
            let tile = Tile {
                base: base.pointer(),
                stride,
                top,
                left,
                height: height.min(rows - top),
                width: width.min(stride - left),
                values: PhantomData,
            };
            work(tile);
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.shared.generation.fetch_add(1, Ordering::SeqCst);
        drop(self.shared.lock());
        self.shared.published.notify_all();
        for worker in self.workers.drain(..) {
            // A worker that panicked has told so already.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn new() -> Self {
        Shared {
            state: Mutex::new(State {
                job: None,
                asleep: 0,
            }),
            published: Condvar::new(),
            left: Condvar::new(),
            generation: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish<'a>(&'a self, work: &'a Work<'a>, count: usize) -> Withdrawal<'a> {
        let mut state = self.lock();
        self.next.store(0, Ordering::SeqCst);
        state.job = Some(Job {
            work: forever(work),
            count,
        });
        self.generation.fetch_add(1, Ordering::SeqCst);
        if state.asleep > 0 {
            self.published.notify_all();
        }
        Withdrawal(self)
    }

    fn take_chunks(&self, work: &Work<'_>, count: usize) {
        loop {
            let chunk = self.next.fetch_add(1, Ordering::Relaxed);
            if chunk >= count {
                return;
            }
            work(chunk);
        }
    }

    /// A worker's life.
    fn serve(&self) {
        let mut seen = 0;
        while !self.closing.load(Ordering::SeqCst) {
            seen = self.wait(seen);
            let job = {
                let state = self.lock();
                if state.job.is_some() {
                    self.inside.fetch_add(1, Ordering::SeqCst);
                }
                state.job
            };
            if let Some(job) = job {
                let _presence = Presence(self);
                self.take_chunks(job.work, job.count);
            }
        }
    }

    /// Waits until a job was published after the one numbered `seen`; its number.
    fn wait(&self, seen: usize) -> usize {
        for _ in 0..SPINS {
            let now = self.generation.load(Ordering::Acquire);
            if now != seen {
                return now;
            }
            std::hint::spin_loop();
        }
        let mut state = self.lock();
        state.asleep += 1;
        loop {
            let now = self.generation.load(Ordering::Acquire);
            if now != seen {
                state.asleep -= 1;
                return now;
            }
            state = self
                .published
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Dropped by the caller: no worker enters any more, and those inside have left.
struct Withdrawal<'a>(&'a Shared);

impl Drop for Withdrawal<'_> {
    fn drop(&mut self) {
        let shared = self.0;
        let mut state = shared.lock();
        state.job = None;
        drop(state);
        for _ in 0..SPINS {
            if shared.inside.load(Ordering::Acquire) == 0 {
                return;
            }
            std::hint::spin_loop();
        }
        state = shared.lock();
        while shared.inside.load(Ordering::Acquire) > 0 {
            state = shared
                .left
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Dropped by a worker that leaves a job, also by a panic.
struct Presence<'a>(&'a Shared);

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        if self.0.inside.fetch_sub(1, Ordering::AcqRel) == 1 {
            drop(self.0.lock());
            self.0.left.notify_all();
        }
    }
}

/// A job without its lifetime, for the workers.
fn forever(work: &Work<'_>) -> &'static Work<'static> {
    // SAFETY: `Pool::chunks` is the only caller and does not return, nor unwind, before `Withdrawal` has seen that no worker is
    // inside the job and that none can enter; the reference is not used after that.
    unsafe { std::mem::transmute::<&Work<'_>, &'static Work<'static>>(work) }
}

struct Base<T>(*mut T);

impl<T> Base<T> {
    fn pointer(&self) -> *mut T {
        self.0
    }
}

// SAFETY: the pointer is only used to make tiles, which do not overlap, of elements that may be sent between threads.
unsafe impl<T: Send> Sync for Base<T> {}

/// A rectangle of rows and columns that one thread writes.
pub(crate) struct Tile<'a, T> {
    base: *mut T,
    stride: usize,
    /// Its first row.
    pub top: usize,
    /// Its first column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    values: PhantomData<&'a mut [T]>,
}

impl<T> Tile<'_, T> {
    /// Its part of the row `top + row`.
    ///
    /// # Panics
    /// `row` is not below `height`: an error of this crate.
    pub fn row(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.height, "a row of another tile");
        let start = (self.top + row) * self.stride + self.left;
        // SAFETY: `Pool::tiles` makes tiles within the slice that it borrows alone, of different rows or columns for different
        // chunks, each chunk once; so this range is in bounds and nobody else has it while the tile is borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(start), self.width) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tile_is_written_once() {
        for threads in [1, 2, 4] {
            let pool = Pool::new(threads).expect("threads");
            for (rows, stride, tile) in [
                (1, 1, (1, 1)),
                (7, 13, (2, 5)),
                (16, 64, (16, 16)),
                (3, 5, (9, 9)),
            ] {
                let mut values = vec![0u32; rows * stride];
                for _ in 0..50 {
                    pool.tiles(&mut values, stride, tile, |mut tile| {
                        for row in 0..tile.height {
                            tile.row(row).iter_mut().for_each(|value| *value += 1);
                        }
                    });
                }
                assert_eq!(values, vec![50; rows * stride]);
            }
        }
    }

    #[test]
    fn callers_at_the_same_time_all_finish() {
        let pool = Pool::new(3).expect("threads");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for count in 0..200 {
                        let sum = AtomicUsize::new(0);
                        pool.chunks(count, &|chunk| {
                            sum.fetch_add(chunk, Ordering::Relaxed);
                        });
                        assert_eq!(sum.into_inner(), count * count.saturating_sub(1) / 2);
                    }
                });
            }
        });
    }

    #[test]
    fn sleeping_workers_wake() {
        let pool = Pool::new(2).expect("threads");
        for _ in 0..5 {
            std::thread::sleep(std::time::Duration::from_millis(3));
            let both = std::sync::Barrier::new(2);
            pool.chunks(2, &|_| {
                both.wait();
            });
        }
    }

    #[test]
    fn a_panic_in_a_chunk_reaches_the_caller_and_leaves_the_pool_usable() {
        let pool = Pool::new(2).expect("threads");
        let panicking = std::panic::AssertUnwindSafe(|| {
            pool.chunks(4, &|chunk| assert!(chunk != 3, "on purpose"))
        });
        assert!(std::panic::catch_unwind(panicking).is_err());
        let sum = AtomicUsize::new(0);
        pool.chunks(10, &|chunk| {
            sum.fetch_add(chunk, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 45);
    }

    #[test]
    fn threads_out_of_range_are_refused() {
        for threads in [0, THREADS_MAX + 1, usize::MAX] {
            assert_eq!(
                Pool::new(threads).err(),
                Some(KernelError::Threads(threads))
            );
        }
    }
}
