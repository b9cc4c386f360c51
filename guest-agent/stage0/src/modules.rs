//! Kernel modules: which are loaded, in which order, and on how many processors.
//!
//! The order of their names is the order in which they need each other, and that is enough to load them. It is not quick:
//! the kernel checks the signature of each before it looks at what the module needs, and does so on the processor that
//! asked. So each module is first asked for by a thread of its own, as soon as those that its `depends=` names are there.
//! Whatever did not load that way is loaded in order afterwards; only that second attempt decides.

use crate::failure::{Failure, errno_of};
use crate::limits::{MODULE_BYTES_MAX, MODULE_NAME_BYTES_MAX, MODULES_MAX};
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::sync::{Condvar, Mutex, PoisonError};

const MODULES: &str = "/modules";
const DEPENDS: [u8; 8] = *b"depends=";

/// Loads everything in `/modules`. `refused` decides about a module that does not load.
pub(crate) fn load_all(refused: fn(Failure) -> Result<(), Failure>) -> Result<(), Failure> {
    let names = names()?;
    let loaded = side_by_side(
        names.len(),
        |at| needs(&names, at),
        |at| load(&names[at]).is_ok(),
    );
    let missing = names.iter().zip(loaded).filter(|(_, loaded)| !loaded);
    for (name, _) in missing {
        load(name).or_else(refused)?;
    }
    Ok(())
}

fn names() -> Result<Vec<String>, Failure> {
    let doing = Failure::io("listing the modules");
    let names = std::fs::read_dir(MODULES).and_then(|entries| {
        // One more than allowed is enough to see that there are too many.
        let names = entries
            .take(MODULES_MAX + 1)
            .map(|entry| Ok(entry?.file_name()));
        names.collect::<std::io::Result<Vec<_>>>()
    });
    load_order(names.map_err(doing)?).ok_or(Failure::Modules)
}

/// The names of `/modules` in the order of their bytes, which is the order in which they need each other. `None` if there
/// are too many, or one is not the name of a module.
fn load_order(names: Vec<OsString>) -> Option<Vec<String>> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let module = |name: &String| {
        name.len() <= MODULE_NAME_BYTES_MAX && name.ends_with(".ko") && name.bytes().all(plain)
    };
    if names.len() > MODULES_MAX {
        return None;
    }
    let mut names: Vec<String> = names
        .into_iter()
        .map(|name| name.into_string().ok())
        .collect::<Option<_>>()?;
    names.sort_unstable();
    names.iter().all(module).then_some(names)
}

/// Which of the modules before number `at` it needs. A file that cannot be read needs nothing: loading it will say why.
fn needs(names: &[String], at: usize) -> Vec<usize> {
    let mut bytes = Vec::new();
    let read = File::open(format!("{MODULES}/{}", names[at]))
        .and_then(|file| file.take(MODULE_BYTES_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => positions(&names[..at], depends(&bytes)),
        Err(_) => Vec::new(),
    }
}

/// The value of `depends=` in a module's `.modinfo`, a list of NUL-terminated fields (`scripts/mod/modpost.c`).
fn depends(module: &[u8]) -> &str {
    // Arrays of eight bytes are compared as one number: a megabyte is searched before the first module loads.
    let at = module.array_windows().position(|w| *w == DEPENDS);
    let value = at.and_then(|at| module.get(at + DEPENDS.len()..));
    let value = value.and_then(|value| value.split(|byte| *byte == 0).next());
    value
        .and_then(|value| str::from_utf8(value).ok())
        .unwrap_or_default()
}

/// Where the modules of a comma-separated list are among files called `NN-NAME.ko`. The kernel takes `-` for `_`.
fn positions(files: &[String], list: &str) -> Vec<usize> {
    let same = |a: &str, b: &str| a.replace('-', "_") == b.replace('-', "_");
    let named = |file: &&str, name: &str| {
        let stem = file.strip_suffix(".ko").unwrap_or_default();
        let (_, stem) = stem.split_once('-').unwrap_or(("", stem));
        same(stem, name)
    };
    list.split(',')
        .filter_map(|name| files.iter().position(|file| named(&file.as_str(), name)))
        .collect()
}

/// Does `work` for each number below `count`, on a thread of its own, after the work of all numbers that it needs has ended.
fn side_by_side(
    count: usize,
    needs: impl Fn(usize) -> Vec<usize> + Sync,
    work: impl Fn(usize) -> bool + Sync,
) -> Vec<bool> {
    let (ended, changed) = (Mutex::new(vec![None; count]), Condvar::new());
    std::thread::scope(|scope| {
        for at in 0..count {
            let (ended, changed, needs, work) = (&ended, &changed, &needs, &work);
            scope.spawn(move || {
                let needs = needs(at);
                let waiting =
                    |ended: &mut Vec<Option<bool>>| needs.iter().any(|need| ended[*need].is_none());
                let guard = ended.lock().unwrap_or_else(PoisonError::into_inner);
                drop(changed.wait_while(guard, waiting));
                let done = work(at);
                ended.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(done);
                changed.notify_all();
            });
        }
    });
    let ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
    ended.into_iter().map(|done| done == Some(true)).collect()
}

fn load(name: &str) -> Result<(), Failure> {
    let failure = |errno: Errno| Failure::Module {
        name: name.into(),
        errno,
    };
    let file =
        File::open(format!("{MODULES}/{name}")).map_err(|error| failure(errno_of(&error)))?;
    finit_module(&file, c"", ModuleInitFlags::empty()).map_err(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str]) -> Option<Vec<String>> {
        load_order(names.iter().map(OsString::from).collect())
    }

    #[test]
    fn modules_load_in_the_order_of_their_names() {
        assert_eq!(check(&[]).unwrap(), [""; 0]);
        assert_eq!(
            check(&["10-dm-verity.ko", "02-dm_mod.ko", "01-virtio_blk.ko"]).unwrap(),
            ["01-virtio_blk.ko", "02-dm_mod.ko", "10-dm-verity.ko"]
        );
        for bad in [
            "01-virtio_blk.ko.xz",
            "readme",
            "a b.ko",
            "a\n.ko",
            "\u{e9}.ko",
        ] {
            assert_eq!(check(&["01-virtio_blk.ko", bad]), None, "{bad}");
        }
        assert_eq!(check(&[&format!("{}.ko", "a".repeat(62))]), None);
        assert!(check(&vec!["a.ko"; MODULES_MAX]).is_some());
        assert!(check(&vec!["a.ko"; MODULES_MAX + 1]).is_none());
    }

    #[test]
    fn what_a_module_needs_is_found_among_the_files_before_it() {
        let module = b"\x7fELF..license=GPL\0depends=dm-mod,dm_bufio\0name=dm_verity\0";
        assert_eq!(depends(module), "dm-mod,dm_bufio");
        assert_eq!(depends(b"depends=\0name=erofs\0"), "");
        for odd in [&b""[..], b"license=GPL\0", b"depends=\xff\0"] {
            assert_eq!(depends(odd), "");
        }
        let files = ["00-dm-bufio.ko", "01-dm-mod.ko", "02-vsock.ko"].map(String::from);
        assert_eq!(positions(&files, depends(module)), [1, 0]);
        assert_eq!(positions(&files[..1], "dm-mod,dm_bufio"), [0]);
        for none in ["", "erofs", "00-dm-bufio", "sock"] {
            assert_eq!(positions(&files, none), [0; 0], "{none}");
        }
    }

    #[test]
    fn each_is_done_once_and_after_what_it_needs() {
        let needs = [vec![], vec![0], vec![], vec![1, 2], vec![0, 3]];
        let order = Mutex::new(Vec::new());
        let needs_of = |at: usize| needs[at].clone();
        let done = side_by_side(needs.len(), needs_of, |at| {
            // The later, the sooner it would be through.
            std::thread::sleep(std::time::Duration::from_millis(20 / (at as u64 + 1)));
            order.lock().unwrap().push(at);
            at != 1
        });
        assert_eq!(done, [true, false, true, true, true]);
        let order = order.into_inner().unwrap();
        let place = |number| order.iter().position(|at| *at == number).unwrap();
        assert_eq!(order.len(), needs.len());
        for (at, needs) in needs.iter().enumerate() {
            assert!(
                needs.iter().all(|need| place(*need) < place(at)),
                "{order:?}"
            );
        }
        assert_eq!(side_by_side(0, |_| vec![], |_| true), [false; 0]);
    }
}
