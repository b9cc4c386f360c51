//! A package lock: what was accepted answers every question about itself.
#![no_main]

use image_builder::lock::{PackageLock, Role};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(lock) = PackageLock::parse(bytes) {
        for package in [lock.kernel(), lock.firmware()] {
            assert_eq!(lock.package(&package.name), Some(package));
            let mut urls = lock.urls(package).into_iter();
            assert!(urls.all(|url| url.ends_with(&package.path)));
        }
        for role in [Role::Build, Role::Run, Role::Root] {
            assert!(lock.closure(role).len() <= lock.packages().len());
        }
    }
});
