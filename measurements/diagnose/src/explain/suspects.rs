//! The usual causes, each recomputed: only what leads to exactly the quote's register is named.

use super::application::Applications;
use super::component::MACHINE;
use super::{Expected, Files, NamedConfig, NamedManifest, Planned, Question, Suspect, SuspectKind};
use crate::limits;
use predict::acpi::{Qemu, acpi_files};
use predict::{
    Boot, Edk2Release, EventKind, Firmware, FirmwareBuild, FirmwareError, KernelHeader, Layout,
    PageOrder, PredictedEvent,
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
    configs: &'a [NamedConfig],
    /// Whether the image's own firmware has no driver that measures.
    measures_nothing: bool,
    left: u32,
}

/// The events of RTMR0 as firmware of one layout measures them: around the ACPI files, if it measures those.
struct Around {
    /// None for the manifest's own.
    layout: Option<&'static Layout>,
    before: Vec<Digest48>,
    tables: Vec<Digest48>,
    after: Vec<Digest48>,
}

/// A machine with which RTMR0 may have been made.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Candidate {
    qemu: Qemu,
    tpm: bool,
    size: MachineSize,
}

impl<'a> Search<'a> {
    pub(super) fn new(expected: &Expected<'a>, question: &Question<'a>) -> Search<'a> {
        let files = question.files;
        let measures_nothing = files.is_some_and(|files| {
            let build = FirmwareBuild::known(files.firmware);
            let build = build.unwrap_or(FirmwareBuild::STABLE202502);
            Firmware::new(files.firmware, build).err() == Some(FirmwareError::MeasuresNothing)
        });
        Search {
            image: expected.image,
            others: expected.others.clone(),
            files,
            configs: question.configs,
            measures_nothing,
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
        if self.measures_nothing && !matches!(register, Register::Mrtd | Register::Rtmr3) {
            found.extend(measures_nothing(register, got));
            return found;
        }
        found.extend(self.incomplete(register, got, planned));
        let special = match (self.image, register) {
            // One that another manifest has is named already; with configurations at hand, their fields are.
            (_, Register::Rtmr3) if found.is_empty() || !self.configs.is_empty() => {
                self.application(got, planned)
            }
            (_, Register::Rtmr3) => None,
            (None, _) => None,
            (Some(_), Register::Mrtd) => self.page_order(got),
            (Some(image), Register::Rtmr0) => self.machine(image, got, planned),
            (Some(image), Register::Rtmr1) => self.kernel(image, got, planned),
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
                advice: "The guest has not got so far yet, or runs where nothing measures it: a process, another hypervisor, or firmware built without CC_MEASUREMENT_ENABLE.",
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

    /// The manifest's machine with firmware of another layout, then other machines: one change of it before two, and memory,
    /// which needs the firmware, last.
    fn machine(
        &mut self,
        image: &ImageManifest,
        got: Digest48,
        planned: &[Planned<'_>],
    ) -> Option<Suspect> {
        let around = around_tables(&events(planned))?;
        let stated = known_machine(image.machine, &around.first()?.tables);
        for around in &around[1..] {
            if self.spend() && around.value(None, &around.tables) == got {
                return Some(of_machine(None, image.machine, None, around.layout));
            }
        }
        for candidate in candidates(image.machine, stated, self.files.is_some()) {
            if !self.spend() {
                return None;
            }
            let Some(made) = made_tables(candidate) else {
                continue;
            };
            let mut hob = None;
            if candidate.size.memory_mib != image.machine.memory_mib {
                let firmware = self.files?.firmware;
                match predict::memory_digest(firmware, candidate.size.memory_mib) {
                    Ok(digest) => hob = Some(digest),
                    Err(_) => continue,
                }
            }
            let found = around.iter().find(|around| around.value(hob, &made) == got);
            if let Some(around) = found {
                let size = image.machine;
                return Some(of_machine(Some(candidate), size, stated, around.layout));
            }
        }
        None
    }

    /// Firmware of another layout, a kernel with QEMU's header or without, or both.
    fn kernel(
        &mut self,
        image: &ImageManifest,
        got: Digest48,
        planned: &[Planned<'_>],
    ) -> Option<Suspect> {
        let (register, stated) = (Register::Rtmr1, events(planned));
        for layout in Layout::ALL {
            let relaid = layout.relaid(register, &stated).unwrap_or_default();
            if relaid != stated && self.spend() && predict::replay(register, &relaid) == got {
                return Some(of_layout(layout, String::new()));
            }
        }
        let files = self.files?;
        let sizes = [image.machine.memory_mib]
            .into_iter()
            .chain(HEADER_MEMORY_MIB);
        let patched = sizes.map(|memory_mib| KernelHeader::PatchedByQemu { memory_mib });
        for header in [KernelHeader::AsOnDisk].into_iter().chain(patched) {
            let boot = Boot::Direct {
                kernel: files.kernel,
                initrd: Some(files.initrd),
                cmdline: &image.cmdline,
                header,
            };
            let Ok(events) = boot.events(Edk2Release::STABLE202502) else {
                continue;
            };
            for layout in Layout::ALL.iter().rev() {
                if !self.spend() {
                    return None;
                }
                let relaid = layout.relaid(register, &events).unwrap_or_default();
                if predict::replay(register, &relaid) != got {
                    continue;
                }
                let what = match header {
                    KernelHeader::AsOnDisk => "with this kernel as it lies on disk".into(),
                    KernelHeader::PatchedByQemu { memory_mib } => {
                        format!(
                            "with this kernel and QEMU's changes to its header, for {memory_mib} MiB or memory with the same room for the initrd"
                        )
                    }
                };
                if Layout::of(register, &stated) != Layout::of(register, &relaid) {
                    return Some(of_layout(layout, format!(", and {what}")));
                }
                return Some(Suspect {
                    kind: SuspectKind::KernelHeader,
                    what,
                    advice: "The kernel is the right one; QEMU and firmware are of another generation, which docs/measurements.md lists.",
                });
            }
        }
        None
    }

    fn application(&mut self, got: Digest48, planned: &[Planned<'_>]) -> Option<Suspect> {
        let applications = Applications::of(planned, &self.others, self.configs)?;
        for (agent, config, value) in applications.combinations() {
            if !self.spend() {
                return None;
            }
            if value == got {
                return Some(applications.suspect(agent, config, self.configs));
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

/// Of an image whose own firmware cannot have such registers, whatever its manifest says.
fn measures_nothing(register: Register, got: Digest48) -> Option<Suspect> {
    (got == Digest48::ZERO).then(|| Suspect {
        kind: SuspectKind::FirmwareMeasuresNothing,
        what: format!(
            "with this image's firmware, which has no driver that measures: nothing extends {register}"
        ),
        advice: "The manifest is wrong about its own firmware. Make the image with a firmware that measures, like Debian 13's.",
    })
}

fn of_layout(layout: &Layout, more: String) -> Suspect {
    Suspect {
        kind: SuspectKind::FirmwareGeneration,
        what: format!("with firmware of {layout}, which lays its events out otherwise{more}"),
        advice: "If MRTD is equal, the manifest was predicted for another release than its firmware's: predict it again (--edk2). If MRTD differs, the guest has another firmware.",
    }
}

/// The events as the manifest has them.
fn events(planned: &[Planned<'_>]) -> Vec<PredictedEvent> {
    let events = planned.iter().filter_map(|planned| planned.event);
    events.cloned().collect()
}

/// The manifest's events of RTMR0, then those of each other layout that follows from them.
fn around_tables(stated: &[PredictedEvent]) -> Option<Vec<Around>> {
    let is_table = |event: &PredictedEvent| {
        event.kind == EventKind::PlatformConfigFlags
            && (event.from == TABLE_LOADER || ACPI_NAMES.contains(&event.from.as_str()))
    };
    let split = |layout, events: &[PredictedEvent]| {
        let digests: Vec<Digest48> = events.iter().map(|event| event.digest).collect();
        let start = events.iter().position(is_table).unwrap_or(events.len());
        let count = events[start..].iter().take_while(|e| is_table(e)).count();
        let (before, rest) = digests.split_at(start);
        let (tables, after) = rest.split_at(count);
        Around {
            layout,
            before: before.to_vec(),
            tables: tables.to_vec(),
            after: after.to_vec(),
        }
    };
    stated.iter().position(is_table)?;
    let mut all = vec![split(None, stated)];
    for layout in Layout::ALL {
        let relaid = layout.relaid(Register::Rtmr0, stated);
        if let Some(relaid) = relaid.filter(|relaid| relaid != stated) {
            all.push(split(Some(layout), &relaid));
        }
    }
    Some(all)
}

impl Around {
    /// RTMR0 with other tables, if this layout measures tables, and another list of memory ranges, the first event.
    fn value(&self, hob: Option<Digest48>, tables: &[Digest48]) -> Digest48 {
        let first = hob.or(self.before.first().copied());
        let rest = self.before.iter().skip(1);
        let tables = tables.iter().filter(|_| !self.tables.is_empty());
        let all = first.iter().chain(rest).chain(tables).chain(&self.after);
        all.fold(Digest48::ZERO, |value, digest| value.extended_by(digest))
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

/// Another machine, or firmware of another layout, or both.
fn of_machine(
    candidate: Option<Candidate>,
    size: MachineSize,
    stated: Option<Candidate>,
    layout: Option<&Layout>,
) -> Suspect {
    let machine = candidate.map(|candidate| in_words(candidate, size, stated));
    let machine = machine.filter(|words| !words.is_empty());
    match (layout, machine) {
        (Some(layout), machine) => {
            let machine = machine.map_or(String::new(), |words| format!(", and with {words}"));
            of_layout(layout, machine)
        }
        (None, machine) => Suspect {
            kind: SuspectKind::Machine,
            what: format!("with {}", machine.unwrap_or_default()),
            advice: MACHINE,
        },
    }
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
    words.join(" and ")
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
