//! The usual causes, each recomputed: only what leads to exactly the quote's register is named.

use super::component::MACHINE;
use super::{Expected, Files, NamedManifest, Planned, Suspect, SuspectKind};
use crate::limits;
use predict::acpi::{Qemu, acpi_files};
use predict::{
    Boot, EventKind, KernelHeader, PageOrder,
    acpi::files::{TABLE_LOADER, allocated_by},
    direct, mrtd,
};
use predict::{
    image::ImageManifest,
    qemu::{MachineSize, guest_shape},
};
use registers::{Digest48, Register};

pub(super) struct Search<'a> {
    image: Option<&'a ImageManifest>,
    others: Vec<&'a NamedManifest>,
    files: Option<Files<'a>>,
    left: u32,
}

/// A machine with which RTMR0 may have been made.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Candidate {
    qemu: Qemu,
    tpm: bool,
    size: MachineSize,
}

impl<'a> Search<'a> {
    pub(super) fn new(expected: &Expected<'a>, files: Option<Files<'a>>) -> Search<'a> {
        Search {
            image: expected.image,
            others: expected.others.clone(),
            files,
            left: limits::EXPLAIN_RECOMPUTATIONS_MAX,
        }
    }

    pub(super) fn recomputations(&self) -> u32 {
        limits::EXPLAIN_RECOMPUTATIONS_MAX - self.left
    }

    pub(super) fn of(
        &mut self,
        register: Register,
        got: Digest48,
        planned: &[Planned<'_>],
    ) -> Vec<Suspect> {
        let mut found = self.of_other_manifests(register, got);
        found.extend(self.incomplete(register, got, planned));
        let special = match (self.image, register) {
            (None, _) | (_, Register::Rtmr3) => None,
            (Some(_), Register::Mrtd) => self.page_order(got),
            (Some(image), Register::Rtmr0) => self.machine(image, got, planned),
            (Some(image), Register::Rtmr1) => self.header(image, got),
            (Some(image), Register::Rtmr2) => self.boot_files(image, got, planned),
        };
        found.extend(special);
        found
    }

    /// Counts one recomputation.
    fn spend(&mut self) -> bool {
        let spent = self.left > 0;
        self.left = self.left.saturating_sub(1);
        spent
    }

    fn of_other_manifests(&self, register: Register, got: Digest48) -> Vec<Suspect> {
        let same = self
            .others
            .iter()
            .filter(|manifest| manifest.register(register) == Some(got));
        let suspect = |manifest: &&NamedManifest| Suspect {
            kind: SuspectKind::OtherManifest,
            what: format!("in the guest of {}", manifest.name),
            advice: "The quote may be of that guest: compare its other registers.",
        };
        same.map(suspect).collect()
    }

    fn incomplete(
        &mut self,
        register: Register,
        got: Digest48,
        planned: &[Planned<'_>],
    ) -> Option<Suspect> {
        let suspect = |what| {
            Some(Suspect {
                kind: SuspectKind::Incomplete,
                what,
                advice: "The guest has not got so far yet, or runs where nothing measures it: a process or another hypervisor.",
            })
        };
        if got == Digest48::ZERO {
            return suspect(format!("if nothing was measured into {register}"));
        }
        let mut value = Digest48::ZERO;
        let all = planned.len();
        for (index, event) in planned.iter().enumerate() {
            if !self.spend() {
                return None;
            }
            value = value.extended_by(&event.digest);
            if value == got {
                let next = planned.get(index + 1).map_or("", |event| event.what);
                return suspect(format!(
                    "after the first {} of {all} events, before {next:?}",
                    index + 1
                ));
            }
        }
        None
    }

    fn page_order(&mut self, got: Digest48) -> Option<Suspect> {
        let files = self.files?;
        let orders = [
            (
                PageOrder::SinglePass,
                "in one pass, as QEMU 9 and later does",
            ),
            (
                PageOrder::TwoPass,
                "in two passes, as the QEMU 8 builds of Canonical and Intel do",
            ),
        ];
        for (order, words) in orders {
            if self.spend() && mrtd(files.firmware, order) == Ok(got) {
                return Some(Suspect {
                    kind: SuspectKind::PageOrder,
                    what: format!("with this firmware, its pages added {words}"),
                    advice: "The firmware is the right one; the host's QEMU is of another generation. Predict MRTD with --page-order.",
                });
            }
        }
        None
    }

    /// One change of the machine before two, and memory, which needs the firmware, last.
    fn machine(
        &mut self,
        image: &ImageManifest,
        got: Digest48,
        planned: &[Planned<'_>],
    ) -> Option<Suspect> {
        let is_table = |event: &Planned<'_>| {
            event
                .event
                .is_some_and(|e| e.kind == EventKind::PlatformConfigFlags)
                && (event.what == TABLE_LOADER || ACPI_NAMES.contains(&event.what))
        };
        let start = planned.iter().position(is_table)?;
        let count = planned[start..].iter().take_while(|e| is_table(e)).count();
        let stated: Vec<Digest48> = planned.iter().map(|event| event.digest).collect();
        let (before, rest) = stated.split_at(start);
        let (tables, after) = rest.split_at(count);
        let stated_machine = known_machine(image.machine, tables);
        let candidates = candidates(image.machine, stated_machine, self.files.is_some());
        for candidate in candidates {
            if !self.spend() {
                return None;
            }
            let Some(made) = made_tables(candidate) else {
                continue;
            };
            let mut first = before.to_vec();
            if candidate.size.memory_mib != image.machine.memory_mib {
                let firmware = self.files?.firmware;
                let hob = predict::memory_digest(firmware, candidate.size.memory_mib);
                match (first.first_mut(), hob) {
                    (Some(place), Ok(hob)) => *place = hob,
                    _ => continue,
                }
            }
            let all = first.iter().chain(&made).chain(after);
            if all.fold(Digest48::ZERO, |value, digest| value.extended_by(digest)) == got {
                return Some(Suspect {
                    kind: SuspectKind::Machine,
                    what: in_words(candidate, image.machine, stated_machine),
                    advice: MACHINE,
                });
            }
        }
        None
    }

    fn header(&mut self, image: &ImageManifest, got: Digest48) -> Option<Suspect> {
        let files = self.files?;
        let sizes = [image.machine.memory_mib]
            .into_iter()
            .chain(HEADER_MEMORY_MIB);
        let patched = sizes.map(|memory_mib| KernelHeader::PatchedByQemu { memory_mib });
        for header in [KernelHeader::AsOnDisk].into_iter().chain(patched) {
            if !self.spend() {
                return None;
            }
            let boot = Boot::Direct {
                kernel: files.kernel,
                initrd: Some(files.initrd),
                cmdline: &image.cmdline,
                header,
            };
            let Ok(events) = boot.events() else { continue };
            if predict::replay(Register::Rtmr1, &events) == got {
                let what = match header {
                    KernelHeader::AsOnDisk => "with this kernel as it lies on disk".into(),
                    KernelHeader::PatchedByQemu { memory_mib } => {
                        format!(
                            "with this kernel and QEMU's changes to its header, for {memory_mib} MiB or memory with the same room for the initrd"
                        )
                    }
                };
                return Some(Suspect {
                    kind: SuspectKind::KernelHeader,
                    what,
                    advice: "The kernel is the right one; QEMU and firmware are of another generation, which docs/measurements.md lists.",
                });
            }
        }
        None
    }

    fn boot_files(
        &mut self,
        image: &ImageManifest,
        got: Digest48,
        planned: &[Planned<'_>],
    ) -> Option<Suspect> {
        let others = self
            .others
            .iter()
            .filter_map(|manifest| Some((manifest.name.clone(), manifest.image()?)));
        let others: Vec<(String, &ImageManifest)> = others.collect();
        let mut lines = vec![(
            "the manifest's command line".to_owned(),
            image.cmdline.as_str(),
        )];
        let mut initrds = vec![
            ("no initrd".to_owned(), None),
            ("an empty initrd".to_owned(), Some(Digest48::of(b""))),
        ];
        if let Some(initrd) = planned.get(1) {
            initrds.push(("the manifest's initrd".to_owned(), Some(initrd.digest)));
        }
        for (name, other) in &others {
            lines.push((
                format!("the command line of {name}"),
                other.cmdline.as_str(),
            ));
            let mut events = other
                .events
                .iter()
                .filter(|e| e.register == Register::Rtmr2);
            if let Some(initrd) = events.nth(1) {
                initrds.push((format!("the initrd of {name}"), Some(initrd.digest)));
            }
        }
        for (line_words, line) in &lines {
            for (suffix, suffix_words) in SUFFIXES {
                for (initrd_words, initrd) in &initrds {
                    if !self.spend() {
                        return None;
                    }
                    let options = direct::options(&format!("{line}{suffix}"));
                    let options = Digest48::ZERO.extended_by(&Digest48::of(&options));
                    let value = initrd.map_or(options, |initrd| options.extended_by(&initrd));
                    if value == got {
                        return Some(Suspect {
                            kind: SuspectKind::BootFiles,
                            what: format!("with {line_words}, {suffix_words}, and {initrd_words}"),
                            advice: "Whoever launched the guest combined its files otherwise; launch the manifest's files together.",
                        });
                    }
                }
            }
        }
        None
    }
}

/// The digests of a machine's ACPI files in the order of the script; none where the machine is not proven.
fn made_tables(candidate: Candidate) -> Option<Vec<Digest48>> {
    let shape = guest_shape(candidate.size, candidate.qemu, candidate.tpm);
    let files = acpi_files(&shape).ok()?;
    let loader = files.get(TABLE_LOADER)?;
    let names = allocated_by(loader).ok()?;
    let rest = names
        .iter()
        .map(|name| files.get(name).map(|bytes| Digest48::of(bytes)));
    [Some(Digest48::of(loader))]
        .into_iter()
        .chain(rest)
        .collect()
}

/// Which machine the manifest's own tables are of.
fn known_machine(size: MachineSize, tables: &[Digest48]) -> Option<Candidate> {
    let all = Qemu::ALL
        .into_iter()
        .flat_map(|qemu| [false, true].map(|tpm| Candidate { qemu, tpm, size }));
    let mut all = all;
    all.find(|candidate| made_tables(*candidate).is_some_and(|made| made == tables))
}

/// The nearest first.
fn candidates(size: MachineSize, stated: Option<Candidate>, with_memory: bool) -> Vec<Candidate> {
    let sort = [false, true];
    let versions = || {
        Qemu::ALL
            .into_iter()
            .flat_map(|qemu| sort.map(|tpm| (qemu, tpm)))
    };
    let of = |(qemu, tpm), vcpus, memory_mib| Candidate {
        qemu,
        tpm,
        size: MachineSize { vcpus, memory_mib },
    };
    let vcpus = || (1..=64).chain(VCPUS_MORE);
    let mut all: Vec<Candidate> = versions()
        .flat_map(|version| vcpus().map(move |vcpus| of(version, vcpus, size.memory_mib)))
        .collect();
    all.extend(versions().map(|version| of(version, size.vcpus, size.memory_mib)));
    if with_memory {
        let near = stated.map_or((Qemu::V10_0_13, false), |s| (s.qemu, s.tpm));
        for memory_mib in memory_sizes() {
            all.extend(versions().map(|version| of(version, size.vcpus, memory_mib)));
            all.extend(vcpus().map(|vcpus| of(near, vcpus, memory_mib)));
        }
    }
    let changes = |candidate: &Candidate| {
        let stated = stated.unwrap_or(*candidate);
        usize::from(candidate.qemu != stated.qemu)
            + usize::from(candidate.tpm != stated.tpm)
            + usize::from(candidate.size.vcpus != size.vcpus)
            + usize::from(candidate.size.memory_mib != size.memory_mib)
    };
    all.sort_by_key(changes);
    all
}

/// Powers of two from 512 MiB to 512 GiB, and what lies half way between them.
fn memory_sizes() -> impl Iterator<Item = u64> {
    let powers = (0..=10).map(|power| 512u64 << power);
    powers
        .flat_map(|size| [size, size / 2 * 3])
        .filter(|size| *size <= 512 * 1024)
        .chain(MEMORY_MORE_MIB)
}

fn in_words(candidate: Candidate, size: MachineSize, stated: Option<Candidate>) -> String {
    let mut words = Vec::new();
    let Candidate {
        qemu,
        tpm,
        size: got,
    } = candidate;
    match stated {
        Some(stated) if stated.qemu == qemu => {}
        Some(stated) => words.push(format!(
            "QEMU {} instead of {}",
            qemu.as_str(),
            stated.qemu.as_str()
        )),
        None => words.push(format!("the ACPI tables of QEMU {}", qemu.as_str())),
    }
    if got.vcpus != size.vcpus {
        words.push(format!("{} vCPUs instead of {}", got.vcpus, size.vcpus));
    }
    if got.memory_mib != size.memory_mib {
        words.push(format!(
            "{} MiB of memory instead of {}",
            got.memory_mib, size.memory_mib
        ));
    }
    match (stated.map(|stated| stated.tpm), tpm) {
        (Some(false) | None, true) => words.push("a TPM".into()),
        (Some(true), false) => words.push("no TPM".into()),
        _ => {}
    }
    format!("with {}", words.join(" and "))
}

const ACPI_NAMES: [&str; 3] = ["etc/acpi/rsdp", "etc/acpi/tables", "etc/tpm/log"];
const VCPUS_MORE: [u32; 10] = [72, 80, 96, 112, 120, 128, 144, 160, 192, 200];
/// Sizes that clouds sell beside those of [`memory_sizes`].
const MEMORY_MORE_MIB: [u64; 10] = [
    2560, 10_240, 20_480, 40_960, 61_440, 81_920, 122_880, 163_840, 229_376, 245_760,
];
/// Memory decides the header only below 2.75 GiB: there QEMU puts the initrd at its end.
const HEADER_MEMORY_MIB: [u64; 6] = [512, 1024, 1536, 2048, 2560, 4096];
const SUFFIXES: [(&str, &str); 2] = [
    (" initrd=initrd", "with the firmware's \" initrd=initrd\""),
    ("", "without \" initrd=initrd\""),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_never_in_the_way_of_a_machine() {
        for vcpus in [1, 64, 200, predict::limits::VCPUS_MAX] {
            let size = MachineSize {
                vcpus,
                memory_mib: 2048,
            };
            let all = candidates(size, None, true).len() as u32;
            // The rest of the registers takes the length of the manifest's events and a few.
            assert!(all + 512 < limits::EXPLAIN_RECOMPUTATIONS_MAX, "{all}");
        }
    }

    #[test]
    fn memory_and_vcpus_may_both_be_others_where_memory_can_be_tried() {
        let size = |vcpus, memory_mib| MachineSize { vcpus, memory_mib };
        let wanted = size(8, 16 * 1024);
        let has = |with_memory| {
            let all = candidates(size(2, 2048), None, with_memory);
            all.iter().any(|candidate| candidate.size == wanted)
        };
        assert!(has(true) && !has(false));
    }
}
