//! A file that several threads read at once: what a long read takes is mostly the system's clearing of the memory that is read into,
//! which it does on the processor that touches it first.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::thread;

/// A file, read from its beginning on.
pub(crate) struct ParallelFile {
    file: File,
    at: u64,
    threads: usize,
}

/// A thread is worth starting for so many bytes.
const PART_BYTES: usize = 1 << 20;
/// Threads of one read: more do not make memory faster.
const THREADS_MAX: usize = 4;

impl ParallelFile {
    /// By as many threads as there are processors.
    pub fn new(file: File) -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        ParallelFile {
            file,
            at: 0,
            threads: processors.min(THREADS_MAX),
        }
    }
}

impl Read for ParallelFile {
    fn read(&mut self, place: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(place, self.at)?;
        self.at += read as u64;
        Ok(read)
    }

    fn read_exact(&mut self, place: &mut [u8]) -> io::Result<()> {
        let length = place.len();
        let part = length.div_ceil(self.threads).max(PART_BYTES);
        let starts = (self.at..).step_by(part);
        let mut parts = starts.zip(place.chunks_mut(part));
        let own = parts.next();
        let file = &self.file;
        let read = |(start, part): (u64, &mut [u8])| file.read_exact_at(part, start);
        thread::scope(|scope| {
            let others: Vec<_> = parts.map(|part| scope.spawn(move || read(part))).collect();
            let own = own.map_or(Ok(()), read);
            let others = others.into_iter().map(|other| {
                let panicked = |_| Err(io::Error::other("a thread that reads panicked"));
                other.join().unwrap_or_else(panicked)
            });
            others.fold(own, Result::and)
        })?;
        self.at += length as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_the_file_has_and_no_further() {
        let bytes: Vec<u8> = (0..5 * PART_BYTES + 17)
            .map(|n| (n * 31 / 7) as u8)
            .collect();
        let directory = tempfile::tempdir().expect("there is room for a directory");
        let path = directory.path().join("file");
        std::fs::write(&path, &bytes).expect("writes");
        for threads in [1, 2, 4] {
            let open = || File::open(&path).expect("opens");
            let mut file = ParallelFile {
                threads,
                ..ParallelFile::new(open())
            };
            let (mut start, mut middle, mut rest) =
                ([0; 10], vec![0; 4 * PART_BYTES + 1], Vec::new());
            file.read_exact(&mut start).expect("reads");
            file.read_exact(&mut middle).expect("reads");
            file.read_to_end(&mut rest).expect("reads");
            assert!(
                [&start[..], &middle, &rest].concat() == bytes,
                "{threads} threads"
            );
            let mut file = ParallelFile {
                threads,
                ..ParallelFile::new(open())
            };
            let mut more = vec![0; bytes.len() + 1];
            let error = file
                .read_exact(&mut more)
                .expect_err("there are fewer bytes");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
