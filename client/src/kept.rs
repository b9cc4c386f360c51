//! Jobs that may be checked later: transcripts in a directory of their own, where the owner wants that. What is in them is
//! content, so each is a file that nobody else may read, and goes after some days, or earlier where there are too many.

use crate::config::{ConfigError, KeepConfig, read_file};
use crate::files::{private_directory, refuse_if_readable, write_new};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use wire::limits::TRANSCRIPT_BYTES_MAX;
use wire::{ReceiptDigest, Transcript};

/// A directory with the transcripts of the newest jobs.
pub struct KeptJobs {
    directory: PathBuf,
    age_max: Duration,
    bytes_max: u64,
}

const EXTENSION: &str = "job";

impl KeptJobs {
    /// Makes the directory if it is absent, and refuses one that others may enter.
    pub(crate) fn open(config: KeepConfig) -> Result<Self, ConfigError> {
        private_directory(&config.directory)?;
        let kept = KeptJobs {
            directory: config.directory,
            age_max: Duration::from_secs(u64::from(config.days) * 86_400),
            bytes_max: u64::from(config.mib) << 20,
        };
        kept.sweep(SystemTime::now());
        Ok(kept)
    }

    /// Keeps the transcript of a paid job.
    pub(crate) fn put(
        &self,
        receipt: &ReceiptDigest,
        transcript: &Transcript,
    ) -> Result<(), ConfigError> {
        write_new(&self.path(receipt), &transcript.encode())?;
        self.sweep(SystemTime::now());
        Ok(())
    }

    /// The transcript of a job that is kept.
    pub(crate) fn take(&self, receipt: &ReceiptDigest) -> Result<Transcript, ConfigError> {
        let path = self.path(receipt);
        let refuse = |e: &dyn std::fmt::Display| ConfigError(format!("{}: {e}", path.display()));
        let entry = fs::metadata(&path).map_err(|_| {
            refuse(&"this job is not kept; `keep_jobs` keeps those that are made under it")
        })?;
        refuse_if_readable(&path, &entry)?;
        let bytes = read_file(&path, TRANSCRIPT_BYTES_MAX as u64)?;
        Transcript::decode(&bytes).map_err(|e| refuse(&e))
    }

    fn path(&self, receipt: &ReceiptDigest) -> PathBuf {
        self.directory.join(format!("{receipt}.{EXTENSION}"))
    }

    /// Removes what is too old, then the oldest until the rest is small enough. What cannot be removed stays for the next time.
    fn sweep(&self, now: SystemTime) {
        let entries = fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten();
        let mut kept: Vec<_> = entries
            .filter(|entry| entry.path().extension().is_some_and(|end| end == EXTENSION))
            .filter_map(|entry| {
                let data = entry.metadata().ok()?;
                Some((data.modified().ok()?, data.len(), entry.path()))
            })
            .collect();
        kept.sort();
        let mut bytes: u64 = kept.iter().map(|(_, length, _)| length).sum();
        for (modified, length, path) in kept {
            let age = now.duration_since(modified).unwrap_or_default();
            if (age > self.age_max || bytes > self.bytes_max) && fs::remove_file(path).is_ok() {
                bytes -= length;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn transcript(bytes: usize) -> Transcript {
        Transcript {
            version: 1,
            request: vec![1; 8],
            request_salt: [2; 32],
            response_salt: [3; 32],
            records: vec![4; bytes.next_multiple_of(512)],
        }
    }

    #[test]
    fn the_newest_jobs_are_kept_for_their_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let config = KeepConfig {
            directory: directory.path().join("jobs"),
            days: 1,
            mib: 1,
        };
        let kept = KeptJobs::open(config).unwrap();
        let id = |number| ReceiptDigest([number; 32]);
        let kept_ids = |kept: &KeptJobs| {
            let there = (0..5).filter(|number| kept.take(&id(*number)).is_ok());
            there.collect::<Vec<u8>>()
        };
        for number in 0..3 {
            kept.put(&id(number), &transcript(400_000)).unwrap();
            let later = SystemTime::now() + Duration::from_secs(number.into());
            let file = fs::File::open(kept.path(&id(number))).unwrap();
            file.set_modified(later).unwrap();
        }
        assert_eq!(kept_ids(&kept), [1, 2], "a MiB has room for two");
        assert!(
            kept.take(&id(1))
                .is_ok_and(|job| job == transcript(400_000))
        );
        let mode = fs::metadata(kept.path(&id(1)))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        // One that others can read is no secret any more.
        let open = fs::Permissions::from_mode(0o640);
        fs::set_permissions(kept.path(&id(1)), open).unwrap();
        let error = kept.take(&id(1)).err().unwrap().to_string();
        assert!(error.contains("0640"), "{error}");
        let error = kept.take(&id(9)).err().unwrap().to_string();
        assert!(error.contains("not kept"), "{error}");
        // A foreign file stays.
        fs::write(kept.directory.join("notes"), "mine").unwrap();
        kept.sweep(SystemTime::now() + Duration::from_secs(86_500));
        assert_eq!(kept_ids(&kept), Vec::<u8>::new());
        assert!(kept.directory.join("notes").exists());
    }
}
