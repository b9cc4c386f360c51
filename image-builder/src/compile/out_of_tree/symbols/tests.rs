use super::*;

/// A relocatable ELF file with these sections and undefined symbols (name, whether weak), by the ELF-64 object file format.
fn module(sections: &[(&str, &[u8])], symbols: &[(&str, bool)]) -> Vec<u8> {
    let mut strings = vec![0];
    let mut symtab = vec![0; 24];
    for (name, weak) in symbols {
        symtab.extend((strings.len() as u32).to_le_bytes());
        symtab.extend([if *weak { 0x20 } else { 0x10 }, 0, 0, 0]);
        symtab.extend([0; 16]);
        strings.extend(name.bytes().chain([0]));
    }
    // Name, contents, type, link, entry size.
    let mut all: Vec<(&str, &[u8], u32, u32, u64)> = sections
        .iter()
        .map(|(name, data)| (*name, *data, 1, 0, 0))
        .collect();
    let at = all.len() as u32;
    all.push((".symtab", &symtab, 2, at + 2, 24));
    all.push((".strtab", &strings, 3, 0, 0));
    let names: String = all
        .iter()
        .map(|section| format!("{}\0", section.0))
        .collect();
    let names = format!("\0{names}.shstrtab\0");
    all.push((".shstrtab", names.as_bytes(), 3, 0, 0));
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(64, 0);
    let mut table = vec![0; 64];
    let mut name = 1u32;
    for (text, data, kind, link, size) in &all {
        table.extend([name.to_le_bytes(), kind.to_le_bytes()].concat());
        table.extend([0; 16]);
        table.extend((file.len() as u64).to_le_bytes());
        table.extend((data.len() as u64).to_le_bytes());
        // All symbols but the first one are global.
        table.extend([link.to_le_bytes(), 1u32.to_le_bytes()].concat());
        table.extend([1u64.to_le_bytes(), size.to_le_bytes()].concat());
        file.extend(*data);
        name += text.len() as u32 + 1;
    }
    file.resize(file.len().next_multiple_of(8), 0);
    let (table_at, count) = (file.len() as u64, all.len() as u16);
    file[16..20].copy_from_slice(&[1, 0, 62, 0]);
    file[20] = 1;
    file[40..48].copy_from_slice(&table_at.to_le_bytes());
    let halves = [64u16, 0, 0, 64, count + 1, count];
    for (index, half) in halves.into_iter().enumerate() {
        file[52 + 2 * index..54 + 2 * index].copy_from_slice(&half.to_le_bytes());
    }
    file.extend(table);
    file
}

fn entries(of: &[(&str, u64)]) -> Vec<u8> {
    let mut data = Vec::new();
    for (name, checksum) in of {
        let start = data.len();
        data.extend(checksum.to_le_bytes());
        data.extend(name.bytes());
        data.resize(start + 64, 0);
    }
    data
}

const MAGIC: &str = "6.12-test SMP mod_unload modversions ";
const KERNEL: &str = "0x00000001\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t\n0x1234abcd\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n";
const OTHER: &str = "0xffffffff\tnv_call\tnv\tEXPORT_SYMBOL_GPL\tNV\n";
const VERSIONS: [(&str, u64); 3] = [
    ("module_layout", 1),
    ("printk", 0x1234_abcd),
    ("nv_call", 0xffff_ffff),
];

fn good() -> Vec<u8> {
    let modinfo = format!("license=GPL\0depends=nv\0vermagic={MAGIC}\0");
    let versions = entries(&VERSIONS);
    let symbols = [("printk", false), ("nv_call", false), ("maybe", true)];
    module(
        &[(".modinfo", modinfo.as_bytes()), ("__versions", &versions)],
        &symbols,
    )
}

fn judge(module: &[u8], lists: &[&str]) -> Result<(), Misfit> {
    let lists: Vec<_> = lists
        .iter()
        .map(|text| Symvers::parse(text.as_bytes()).expect("a list"))
        .collect();
    check(module, MAGIC, &lists.iter().collect::<Vec<_>>())
}

#[test]
fn a_module_fits_the_kernel_whose_symbols_it_was_compiled_with() {
    assert_eq!(magic(&good()).as_deref(), Ok(MAGIC));
    assert_eq!(judge(&good(), &[KERNEL, OTHER]), Ok(()));
}

#[test]
fn a_kernel_without_versions_is_asked_for_names() {
    let magic = "7.3-test SMP preempt mod_unload ";
    let modinfo = format!("vermagic={magic}\0");
    let sections: [(&str, &[u8]); 1] = [(".modinfo", modinfo.as_bytes())];
    let kernel = Symvers::parse(b"0x00000000\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n").expect("a list");
    let judge = |symbols: &[(&str, bool)]| check(&module(&sections, symbols), magic, &[&kernel]);
    assert_eq!(judge(&[("printk", false), ("maybe", true)]), Ok(()));
    let symbol = "kmalloc".to_owned();
    assert_eq!(
        judge(&[("printk", false), ("kmalloc", false)]),
        Err(Misfit::Unknown { symbol })
    );
    let (got, expected) = (MAGIC.to_owned(), magic.to_owned());
    let other = check(&good(), magic, &[&kernel]);
    assert_eq!(other, Err(Misfit::Magic { got, expected }));
}

#[test]
fn a_driver_whose_spdm_was_left_out_is_refused() {
    let driver = |uses: &[&str]| {
        let symbols: Vec<_> = uses.iter().map(|symbol| (*symbol, false)).collect();
        module(&[], &symbols)
    };
    assert_eq!(check_uses("nvidia", &driver(&SPDM_USES)), Ok(()));
    for (index, lacking) in SPDM_USES.into_iter().enumerate() {
        let refused = check_uses("nvidia", &driver(&[SPDM_USES[1 - index], "printk"]));
        let named = matches!(refused, Err(Misfit::Lacks { symbol, .. }) if symbol == lacking);
        assert!(named, "{refused:?}");
        assert_eq!(check_uses("nvidia-uvm", &driver(&["printk"])), Ok(()));
    }
}

#[test]
fn a_module_of_another_kernel_is_refused() {
    let (got, expected) = (MAGIC.to_owned(), "6.13-test".to_owned());
    let lists = [
        Symvers::parse(KERNEL.as_bytes()).expect("a list"),
        Symvers::parse(OTHER.as_bytes()).expect("a list"),
    ];
    let other = check(&good(), &expected, &[&lists[0], &lists[1]]);
    assert_eq!(other, Err(Misfit::Magic { got, expected }));
    let symbol = "nv_call".to_owned();
    assert_eq!(judge(&good(), &[KERNEL]), Err(Misfit::Unknown { symbol }));
    let changed = KERNEL.replace("1234abcd", "1234abce");
    assert_eq!(
        judge(&good(), &[&changed, OTHER]),
        Err(Misfit::Version {
            symbol: "printk".into(),
            got: 0x1234_abcd,
            expected: 0x1234_abce
        })
    );
}

#[test]
fn a_symbol_without_its_version_is_refused() {
    let modinfo = format!("vermagic={MAGIC}\0");
    for (left_out, name) in VERSIONS.iter().map(|(name, _)| name).enumerate() {
        let mut some = VERSIONS.to_vec();
        some.remove(left_out);
        let sections = [
            (".modinfo", modinfo.as_bytes()),
            ("__versions", &entries(&some)),
        ];
        let module = module(&sections, &[("printk", false), ("nv_call", false)]);
        let symbol = (*name).to_owned();
        assert_eq!(
            judge(&module, &[KERNEL, OTHER]),
            Err(Misfit::Unversioned { symbol })
        );
    }
}

#[test]
fn a_broken_module_is_refused_and_none_panics() {
    let modinfo = format!("vermagic={MAGIC}\0");
    let versions = entries(&VERSIONS);
    let modinfo = (".modinfo", modinfo.as_bytes());
    let short = &versions[..100];
    let nameless = entries(&[("", 1)]);
    let twice = entries(&[("a", 1), ("a", 1)]);
    let large = entries(&[("a", 1 << 32)]);
    let endless = [&1u64.to_le_bytes()[..], &[b'a'; 56]].concat();
    let two = format!("vermagic={MAGIC}\0vermagic={MAGIC}\0");
    for (sections, expected) in [
        (vec![modinfo], "no __versions"),
        (vec![("__versions", &versions[..])], "no .modinfo"),
        (vec![(".modinfo", &b"a=b\0"[..])], "no vermagic"),
        (vec![(".modinfo", two.as_bytes())], "more than one vermagic"),
        (vec![modinfo, ("__versions", short)], "no list"),
        (vec![modinfo, ("__versions", &nameless)], "no list"),
        (vec![modinfo, ("__versions", &twice)], "no list"),
        (vec![modinfo, ("__versions", &large)], "no list"),
        (vec![modinfo, ("__versions", &endless)], "no list"),
    ] {
        let error = judge(&module(&sections, &[]), &[KERNEL]).expect_err(expected);
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
    let good = good();
    for at in 0..good.len() {
        assert!(judge(&good[..at], &[KERNEL, OTHER]).is_err(), "{at}");
        let mut flipped = good.clone();
        flipped[at] ^= 0x40;
        let _ = judge(&flipped, &[KERNEL, OTHER]);
    }
}

#[test]
fn a_list_of_symbols_is_read_whole_or_refused() {
    assert!(Symvers::parse(b"").is_ok());
    for (bad, expected) in [
        ("1\ta\tb\tc\t", "line 1"),
        ("0x1\ta\tb\tc\t\n0xg\tb\tc\td\t", "line 2"),
        ("0x100000000\ta\tb\tc\t", "line 1"),
        ("0x1\t\tb\tc\t", "line 1"),
        ("0x1", "line 1"),
        ("0x1\ta\n0x1\ta", "a twice"),
        ("\n", "line 1"),
    ] {
        let error = Symvers::parse(bad.as_bytes()).expect_err(bad);
        assert!(error.contains(expected), "{bad:?}: {error}");
    }
    assert!(Symvers::parse(b"\xff").is_err());
}
