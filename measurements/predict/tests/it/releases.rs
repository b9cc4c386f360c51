//! What each release of edk2 extends which register by, against logs of hardware, and how a release is written.

use std::fs;

use crate::common::{made, platform, vector, vectors};
use crate::rtmr0::{Logged, OVMF, in_register, parse_log, with_longer_temporary_section};
use predict::{
    Boot, BootMethod, Edk2Release, EventKind, Firmware, FirmwareBuild, FirmwareError, KernelHeader,
    Layout, Platform, PredictError, PredictedEvent, direct, rtmr0,
};
use registers::{Digest48, Register};

fn release(text: &str) -> Edk2Release {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_release_is_written_in_one_of_four_ways() {
    let check = |texts: &[&str], expected: &str| {
        for text in texts {
            assert_eq!(release(text).to_string(), expected, "{text}");
        }
    };
    check(
        &[
            "202508",
            "2025.08",
            "edk2-stable202508",
            "stable202508",
            "stable2025.08",
        ],
        "202508",
    );
    check(&["202211", "2022.11", "edk2-stable202211"], "202211");
    check(&["202408", "2024.08", "edk2-stable202408.01"], "202408");
    check(&["202608", "2026.08"], "202608");
    assert_eq!(release("2025.02"), Edk2Release::STABLE202502);
    for text in [
        "",
        "1",
        "foo",
        "202208",
        "202611",
        "202500",
        "202513",
        "202503",
        "2025.03",
        "2025.12",
        "2025.8",
        "2025.008",
        "25.08",
        "20250.8",
        "2025-08",
        "2025.08-1",
        "2025.02-8+deb13u1",
        "+02502",
        "2025.+8",
        " 202502",
        "202502 ",
        "2025.02.1",
        "stable",
        "edk2-202502",
        "edk2-stable",
        "EDK2-STABLE202502",
        "edk2-stable202502-rc1",
        "２０２５０２",
        "2025ä",
    ] {
        let refusal = text.parse::<Edk2Release>().unwrap_err();
        assert_eq!(refusal.got, text);
        let said = refusal.to_string();
        assert!(
            said.contains("February, May, August and November"),
            "{said}"
        );
        assert!(said.contains("202211") && said.contains("202608"), "{said}");
    }
    let long = "x".repeat(1000).parse::<Edk2Release>().unwrap_err();
    assert!(long.got.len() < 100);
}

/// Registers and kinds of events of a direct boot, in order.
fn kinds(release: Edk2Release) -> [Vec<EventKind>; 2] {
    let bytes = made::firmware();
    let build = FirmwareBuild::new(release, None, false).unwrap();
    let firmware = Firmware::new(&bytes, build).unwrap();
    let rtmr0 = rtmr0(&Platform::new(firmware, 2048), &made::acpi()).unwrap();
    let rtmr1 = direct::rtmr1(&made::kernel(), release).unwrap();
    let all = |events: Vec<PredictedEvent>, register| {
        assert!(events.iter().all(|event| event.register == register));
        events.iter().map(|event| event.kind).collect()
    };
    [all(rtmr0, Register::Rtmr0), all(rtmr1, Register::Rtmr1)]
}

#[test]
fn releases_lay_their_events_out_in_three_ways_before_they_measure_smbios() {
    use EventKind::*;
    let head = [
        &[HandoffTables2, FirmwareBlob2][..],
        &[VariableDriverConfig; 5],
        &[Separator],
    ]
    .concat();
    let acpi = [PlatformConfigFlags; 3];
    let boot = [VariableBoot; 2];
    let program = [BootServicesApplication];
    let ends = [Action; 2];
    let check = |releases: &[&str], rtmr0: &[&[EventKind]], rtmr1: &[&[EventKind]]| {
        for text in releases {
            let [got0, got1] = kinds(release(text));
            assert_eq!(got0, [&head, &rtmr0.concat()[..]].concat(), "{text}");
            assert_eq!(
                got1,
                [&program, &rtmr1.concat()[..], &ends].concat(),
                "{text}"
            );
        }
    };
    check(&["202211"], &[&[Separator]], &[&boot, &[Action]]);
    check(
        &["202302", "202305", "202402", "202408"],
        &[&acpi, &boot, &[Separator]],
        &[&[Action]],
    );
    check(
        &["202411", "202502"],
        &[&acpi, &boot],
        &[&[Action], &[Separator]],
    );
}

#[test]
fn a_unified_kernel_image_is_laid_out_like_a_kernel() {
    let sections: [(&str, &[u8]); 6] = [
        (".sdmagic", made::SDMAGIC),
        (".sbat", b"sbat,1"),
        (".osrel", b"ID=test\n"),
        (".cmdline", b"quiet"),
        (".initrd", b"an initrd"),
        (".linux", &made::modern_kernel()),
    ];
    let uki = made::uki(&sections);
    let over_kernel = |text| {
        let method = BootMethod::Kernel { append: None };
        let events = Boot::Uki { uki: &uki, method }
            .events(release(text))
            .unwrap();
        let kinds: Vec<_> = events
            .iter()
            .filter(|event| event.register == Register::Rtmr1)
            .map(|event| event.kind)
            .collect();
        kinds
    };
    use EventKind::*;
    let (program, ends) = ([BootServicesApplication], [Action; 2]);
    assert_eq!(
        over_kernel("202502"),
        [&program[..], &[Action, Separator], &program, &ends].concat()
    );
    assert_eq!(
        over_kernel("202408"),
        [&program[..], &[Action], &program, &ends].concat()
    );
    assert_eq!(
        over_kernel("202211"),
        [
            &program[..],
            &[VariableBoot, VariableBoot, Action],
            &program,
            &ends
        ]
        .concat()
    );
    let table = made::partition_table();
    let disk = BootMethod::Disk {
        table: &table,
        loader: None,
    };
    let from_disk = |text: &str| {
        Boot::Uki {
            uki: &uki,
            method: disk,
        }
        .events(release(text))
    };
    let separators = |text: &str| {
        let events = from_disk(text).unwrap();
        events
            .iter()
            .filter(|event| event.kind == Separator)
            .count()
    };
    assert_eq!((separators("202502"), separators("202408")), (1, 0));
    assert_eq!(from_disk("202211"), Err(PredictError::DiskOptions));
}

/// Two guests on hardware, of 2 and 8 GiB. The second has a firmware with Secure Boot built in and no keys; it had no initrd.
#[test]
fn firmware_before_stable202411_measured_so_on_hardware() {
    let Some(mut bytes) = vector(OVMF) else {
        return;
    };
    // A file that is not known, so that it may be said to be of another release.
    *bytes.last_mut().unwrap() ^= 1;
    for (name, memory_mib, secure_boot) in [
        ("CCEL_data_ovmf", 2048, false),
        ("CCEL_unpadded.data.bin", 8192, true),
    ] {
        let path = vectors().join("../cases/01-edk2-before-202411").join(name);
        let Ok(log) = fs::read(path) else {
            without::skip(
                "logs of older firmware",
                "there is no directory shared/cases beside the clone",
            );
            return;
        };
        let log = parse_log(&log);
        let longer = with_longer_temporary_section(bytes.clone());
        let compare = |text: &str| {
            let build = FirmwareBuild::new(release(text), None, secure_boot).unwrap();
            let firmware = Firmware::new(&longer, build).unwrap();
            let ours = rtmr0(&Platform::new(firmware, memory_mib), &made::acpi()).unwrap();
            let of_rtmr0 = same_but_acpi(&ours, &in_register(&log, 1));
            let ours = direct::rtmr1(&made::kernel(), release(text)).unwrap();
            // The first is the kernel, which is another.
            let of_rtmr1 = same_but_acpi(&ours[1..], &in_register(&log, 2)[1..]);
            (of_rtmr0, of_rtmr1)
        };
        for text in ["202302", "202402", "202408"] {
            assert_eq!(compare(text), (true, true), "{name}: {text}");
        }
        for text in ["202211", "202411", "202502"] {
            assert_eq!(compare(text), (false, false), "{name}: {text}");
        }
    }
}

fn same_but_acpi(ours: &[PredictedEvent], logged: &[Logged]) -> bool {
    let is_acpi = |event: &PredictedEvent| event.kind == EventKind::PlatformConfigFlags;
    let ours = ours.iter().map(|event| match is_acpi(event) {
        true => (10, None),
        false => (number(event.kind), Some(event.digest)),
    });
    let logged = logged.iter().map(|event| match event.kind {
        10 => (10, None),
        kind => (kind, Some(event.digest)),
    });
    ours.eq(logged)
}

/// TCG PC Client Platform Firmware Profile, section 10.4.1.
fn number(kind: EventKind) -> u32 {
    match kind {
        EventKind::Separator => 4,
        EventKind::VariableDriverConfig => 0x8000_0001,
        EventKind::VariableBoot => 0x8000_0002,
        EventKind::Action => 0x8000_0007,
        EventKind::FirmwareBlob2 => 0x8000_000a,
        EventKind::HandoffTables2 => 0x8000_000b,
        other => panic!("{other:?}"),
    }
}

/// From the events of one layout those of another follow, where it measures nothing more.
#[test]
fn events_are_laid_out_again_as_another_release_would_have() {
    let of = |text: &str| {
        let bytes = made::firmware();
        let build = FirmwareBuild::new(release(text), None, false).unwrap();
        let firmware = Firmware::new(&bytes, build).unwrap();
        [
            rtmr0(&Platform::new(firmware, 2048), &made::acpi()).unwrap(),
            direct::rtmr1(&made::kernel(), release(text)).unwrap(),
        ]
    };
    let all = ["202211", "202302", "202411"];
    for from in all {
        for to in all {
            for (register, from_events, to_events) in [
                (Register::Rtmr0, &of(from)[0], &of(to)[0]),
                (Register::Rtmr1, &of(from)[1], &of(to)[1]),
            ] {
                let relaid = release(to).layout().relaid(register, from_events);
                let possible = register == Register::Rtmr1 || from != "202211" || to == from;
                assert_eq!(
                    relaid.as_ref(),
                    possible.then_some(to_events),
                    "{from} {to} {register}"
                );
            }
        }
        let layout = Layout::of(Register::Rtmr0, &of(from)[0]);
        assert_eq!(layout, Some(release(from).layout()));
    }
    let [events, _] = of("202502");
    assert_eq!(
        release("202505").layout().relaid(Register::Rtmr0, &events),
        None
    );
    assert_eq!(
        Layout::of(Register::Rtmr0, &events[1..]),
        Some(release("202502").layout())
    );
    assert_eq!(Layout::of(Register::Rtmr0, &[]), None);
    assert_eq!(Layout::of(Register::Rtmr1, &[]), None);
    assert_eq!(
        release("202305").layout().to_string(),
        "edk2 stable202302 to stable202408"
    );
    assert_eq!(release("202211").layout().to_string(), "edk2 stable202211");
}

#[test]
fn a_known_file_is_called_nothing_else() {
    let Some(bytes) = vector(OVMF) else { return };
    assert!(Firmware::new(&bytes, FirmwareBuild::STABLE202502).is_ok());
    let known = FirmwareError::Known {
        release: Edk2Release::STABLE202502,
        secure_boot: false,
    };
    for (text, secure_boot) in [("202411", false), ("202408", false), ("202502", true)] {
        let build = FirmwareBuild::new(release(text), None, secure_boot).unwrap();
        assert_eq!(
            Firmware::new(&bytes, build).err(),
            Some(known.clone()),
            "{text}"
        );
    }
    let _ = platform(&bytes, 2048);
    let header = KernelHeader::of("10.0.13", release("2025.02"), true, 1);
    assert_eq!(header, Ok(KernelHeader::AsOnDisk));
    assert_ne!(Digest48::ZERO, Digest48::of(&bytes));
}
