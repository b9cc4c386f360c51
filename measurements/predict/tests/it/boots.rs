//! RTMR0 of the newer generation and of Secure Boot against TPM logs of real boots, and stores and SMBIOS from strangers.

use crate::common::{gunzip, made, vector};
use predict::{
    BiosInformation, Edk2Release, EventKind, Firmware, FirmwareBuild, FwCfg, Platform,
    PredictError, PredictedEvent, SmbiosError, StoreError,
    acpi::Qemu,
    rtmr0_around_acpi,
    smbios::{ProcessorId, SmbiosMachine, q35_of, smbios_tables},
};
use registers::Digest48;

#[test]
fn the_newer_generation_measures_what_a_tpm_logged_in_its_order() {
    let smbios = smbios();
    let firmware = made::firmware();
    let events = after_volumes(&platform(&firmware, false, &smbios));
    assert_eq!(without_settings(&events), logged("newer"));
}

/// These builds run their variables in SMM, which no trust domain has; there SMBIOS is measured last. All else is in order.
#[test]
fn secure_boot_measures_what_a_tpm_logged() {
    let smbios = smbios();
    let (with_keys, empty) = (store(), without_variables(store()));
    let signer = signer(&with_keys);
    for (boot, store, signer, newer) in [
        ("older-no-keys", &empty, None, false),
        ("newer-no-keys", &empty, None, true),
        ("newer-keys", &with_keys, Some(&signer[..]), true),
    ] {
        let firmware = made::firmware_with_store(store);
        let mut platform = platform(&firmware, true, &smbios);
        platform.signer = signer;
        if !newer {
            let build = FirmwareBuild::new(Edk2Release::STABLE202502, None, true).unwrap();
            platform.firmware = Firmware::new(&firmware, build).unwrap();
        }
        let mut events = without_settings(&after_volumes(&platform));
        let smbios = |(kind, _): &(u32, Digest48)| *kind == 0x8000_0009;
        events.sort_by_key(smbios);
        assert_eq!(events, logged(boot), "{boot}");
    }
}

/// These are in no TPM's log; the digests are those of another project's list, taken from a trust domain.
#[test]
fn settings_follow_the_configuration_volume() {
    let (smbios, firmware) = (smbios(), made::firmware());
    let mut platform = platform(&firmware, false, &smbios);
    let settings = |platform: &Platform| -> Vec<(String, Digest48)> {
        let [before, _] = rtmr0_around_acpi(platform).unwrap();
        let settings = before[2..].iter();
        settings
            .take_while(|event| event.kind == EventKind::PlatformConfigFlags)
            .map(|event| (event.from.clone(), event.digest))
            .collect()
    };
    let direct = settings(&platform);
    assert_eq!(direct.len(), 2);
    assert_eq!(direct[0].1, Digest48::of(&[0, 0]));
    assert!(
        direct[1]
            .1
            .to_string()
            .starts_with("53d3dbc00691328371e74c1b")
    );
    platform.fw_cfg = FwCfg {
        boot_order: b"",
        pci_mmio64_mib: Some("262144"),
    };
    let other = settings(&platform);
    assert_eq!(other[1].1, Digest48::of(b"262144"));
    assert_eq!(other.len(), 2, "an empty boot order is not measured");
    platform.firmware = Firmware::new(&firmware, FirmwareBuild::STABLE202502).unwrap();
    assert_eq!(settings(&platform), []);
}

#[test]
fn stores_whose_consequences_are_not_known_are_refused_by_name() {
    let (original, smbios) = (made::small_store(store()), smbios());
    let signer = signer(&original);
    let check = |edit: &dyn Fn(&mut Vec<u8>), signer: Option<&[u8]>, expected: StoreError| {
        let mut store = original.clone();
        edit(&mut store);
        let firmware = made::firmware_with_store(&store);
        let mut platform = platform(&firmware, true, &smbios);
        platform.signer = signer;
        let refusal = rtmr0_around_acpi(&platform).unwrap_err();
        assert_eq!(refusal, PredictError::VariableStore(expected));
    };
    let malformed = |what| StoreError::Malformed { what };
    let at_kek = |what| StoreError::Variable { at: 0x64, what };
    let put = |at: usize, bytes: &'static [u8]| {
        move |store: &mut Vec<u8>| store[at..at + bytes.len()].copy_from_slice(bytes)
    };
    check(&|_| {}, None, StoreError::SignerMissing);
    check(&|_| {}, Some(b"another"), StoreError::SignerNotInDb);
    let cleared = |store: &mut Vec<u8>| *store = without_variables(store.clone());
    check(&cleared, Some(&signer), StoreError::SignerUnused);
    check(
        &put(0x64 + 60 + 6, b"x"),
        None,
        at_kek("its name does not end as names do"),
    );
    check(
        &put(0x8fc + 60 + 2, b"t"),
        None,
        StoreError::Unpredicted { name: "dt".into() },
    );
    check(&put(0x64 + 2, &[0x3e]), None, at_kek("it is half deleted"));
    check(
        &put(0x64 + 2, &[0x15]),
        None,
        at_kek("it has no state that there is"),
    );
    check(&put(0x64 + 40, &[0xff; 4]), None, at_kek("it is cut off"));
    check(&put(0x64 + 36, &[0xff; 4]), None, at_kek("it is cut off"));
    check(
        &put(0, &[1]),
        None,
        malformed("its volume does not begin with zeros"),
    );
    check(
        &put(16, &[0]),
        None,
        malformed("its volume is of another kind"),
    );
    check(
        &put(32, &[1]),
        None,
        malformed("its volume has another length"),
    );
    check(
        &put(50, &[0]),
        None,
        malformed("the checksum of its volume is wrong"),
    );
    check(
        &put(0x48, &[0]),
        None,
        malformed("it holds no authenticated variables"),
    );
    check(
        &put(0x48 + 16, &[0xff; 4]),
        None,
        malformed("its list has another length"),
    );
    check(
        &put(0x48 + 20, &[0]),
        None,
        malformed("it is not formatted"),
    );
    check(
        &put(0xf00, &[0]),
        None,
        malformed("something that is no variable follows the variables"),
    );
}

#[test]
fn no_flip_or_cut_of_a_store_or_of_smbios_makes_it_panic() {
    let store = made::small_store(store());
    let (whole, signer) = (smbios(), signer(&store));
    let refusal_of = |store: &[u8]| {
        let firmware = made::firmware_with_store(store);
        let mut platform = platform(&firmware, true, &whole);
        platform.signer = Some(&signer);
        rtmr0_around_acpi(&platform).err()
    };
    assert!(refusal_of(&store).is_none());
    for at in (0..0x200).chain((0x200..store.len()).step_by(61)) {
        let mut flipped = store.clone();
        flipped[at] ^= 0xff;
        let _ = refusal_of(&flipped);
    }
    let firmware = made::firmware();
    for at in 0..whole.len() {
        let cut = rtmr0_around_acpi(&platform(&firmware, false, &whole[..at]));
        assert!(matches!(cut, Err(PredictError::Smbios(_))), "{at}");
        for mask in [1, 0xff] {
            let mut flipped = whole.clone();
            flipped[at] ^= mask;
            let _ = rtmr0_around_acpi(&platform(&firmware, false, &flipped));
        }
    }
}

#[test]
fn the_newer_generation_has_no_prediction_without_smbios() {
    let firmware = made::firmware();
    let mut platform = platform(&firmware, false, &[]);
    platform.smbios = None;
    let refusal = rtmr0_around_acpi(&platform).unwrap_err();
    assert_eq!(refusal, PredictError::Smbios(SmbiosError::Missing));
}

/// The two builds of the newer generation are not among the vectors; what they measure is held against their boots above.
#[test]
fn a_firmware_is_known_by_all_of_its_bytes() {
    let files = [
        "firmware/ovmf-2025.02-8+deb13u1.fd",
        "firmware/ovmf-2025.02-3ubuntu2.fd",
    ];
    for mut firmware in files.into_iter().filter_map(vector) {
        let build = FirmwareBuild::known(&firmware);
        assert_eq!(build, Some(FirmwareBuild::STABLE202502));
        let last = firmware.len() - 1;
        for at in [0, last] {
            firmware[at] ^= 1;
            assert_eq!(FirmwareBuild::known(&firmware), None);
            firmware[at] ^= 1;
        }
        assert_eq!(FirmwareBuild::known(&firmware[..last]), None);
    }
    assert_eq!(FirmwareBuild::known(&made::firmware()), None);
}

/// Debian's 2026.08+ds-2.
fn platform<'a>(firmware: &'a [u8], secure_boot: bool, smbios: &'a [u8]) -> Platform<'a> {
    let bios = BiosInformation {
        vendor: "Debian distribution of EDK II",
        version: "2026.08+ds-2",
        date: "09/26/2026",
    };
    let build = FirmwareBuild::new("202608".parse().unwrap(), Some(bios), secure_boot).unwrap();
    Platform {
        smbios: Some(smbios),
        ..Platform::new(Firmware::new(firmware, build).unwrap(), 1024)
    }
}

/// Of the machine that was booted.
fn smbios() -> Vec<u8> {
    smbios_tables(&SmbiosMachine {
        machine_type: q35_of(Qemu::V10_0_13),
        processor: ProcessorId {
            signature: 0x0005_0654,
            features: 0x078b_fbfd,
        },
        vcpus_max: 2,
        memory_mib: 1024,
    })
    .unwrap()
}

fn store() -> Vec<u8> {
    gunzip(include_bytes!("../vectors/rtmr0-boots/snakeoil-store.gz"))
}

fn without_variables(mut store: Vec<u8>) -> Vec<u8> {
    store[0x64..].fill(0xff);
    store
}

/// The one certificate of db: behind the variable's header and name, a list's header and an owner.
fn signer(store: &[u8]) -> Vec<u8> {
    let data = 0x8fc + 60 + 6;
    store[data + 28 + 16..data + 1031].to_vec()
}

fn after_volumes(platform: &Platform) -> Vec<PredictedEvent> {
    let [before, after] = rtmr0_around_acpi(platform).unwrap();
    before.into_iter().skip(2).chain(after).collect()
}

/// Without settings of fw_cfg, which only a trust domain measures.
fn without_settings(events: &[PredictedEvent]) -> Vec<(u32, Digest48)> {
    let measured = events
        .iter()
        .filter(|event| event.kind != EventKind::PlatformConfigFlags);
    measured
        .map(|event| (number(event.kind), event.digest))
        .collect()
}

fn number(kind: EventKind) -> u32 {
    match kind {
        EventKind::Separator => 4,
        EventKind::VariableDriverConfig => 0x8000_0001,
        EventKind::VariableBoot => 0x8000_0002,
        EventKind::HandoffTables => 0x8000_0009,
        EventKind::VariableAuthority => 0x8000_00e0,
        other => panic!("{other:?}"),
    }
}

fn logged(boot: &str) -> Vec<(u32, Digest48)> {
    let boots = include_str!("../vectors/rtmr0-boots/events.txt").split("\n== ");
    let mut boots = boots.filter_map(|text| text.split_once('\n'));
    let (_, events) = boots.find(|(name, _)| *name == boot).unwrap();
    let events = events.lines().map(|line| {
        let (kind, digest) = line.split_once(' ').unwrap();
        let kind = u32::from_str_radix(kind, 16).unwrap();
        (kind, digest.parse().unwrap())
    });
    events.collect()
}
