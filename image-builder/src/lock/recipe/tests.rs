use super::*;

const SIM: &str = include_str!("../../../recipes/sim.yaml");

/// The committed recipe with `from` replaced, and the error expected of it.
fn check(from: &str, to: &str, expected: &str) {
    assert!(SIM.contains(from), "the case needs `{from}`");
    let error = Recipe::parse(&SIM.replacen(from, to, 1)).expect_err(to);
    assert!(
        error.to_string().contains(expected),
        "{from} -> {to}: {error}"
    );
}

#[test]
fn a_shell_is_in_images_for_developers_that_say_so_and_in_no_other() {
    const CPU: &str = include_str!("../../../recipes/cpu.yaml");
    const DEV: &str = include_str!("../../../recipes/dev.yaml");
    let good = |text: &str| Recipe::parse(text).map(|recipe| recipe.profile);
    assert_eq!(good(CPU).as_deref(), Ok("cpu"));
    assert_eq!(good(DEV).as_deref(), Ok("dev"));
    let refused = |text: &str, from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        let error = good(&text.replacen(from, to, 1)).expect_err(to);
        assert!(error.to_string().contains("stage0-dev"), "{error}");
    };
    refused(DEV, "profile: dev", "profile: cpu");
    refused(DEV, "init: stage0-dev", "init: stage0");
    refused(DEV, "  - chrysalis.insecure\n", "");
    refused(CPU, "init: stage0\n", "init: stage0-dev\n");
    refused(CPU, "cmdline:\n", "cmdline:\n  - chrysalis.insecure\n");
    // A production image has no console, and no package of Debian's user space.
    let cpu = Recipe::parse(CPU).expect("committed");
    assert!(cpu.cmdline.iter().any(|word| word == "console=null"));
    assert_eq!(
        cpu.cmdline
            .iter()
            .filter(|word| word.starts_with("console"))
            .count(),
        1
    );
    assert_eq!(cpu.root.expect("it has one").packages, []);
}

#[test]
fn the_committed_recipe_parses() {
    let recipe = Recipe::parse(SIM).expect("committed");
    assert_eq!(recipe.profile, "sim");
    let run: Vec<_> = recipe.tools.run.iter().map(Choice::to_string).collect();
    assert_eq!(run, ["qemu-system-x86", "swtpm", "systemd-boot-efi"]);
    let trixie = recipe.debian.suite("trixie").expect("listed");
    assert_eq!(trixie.keys.len(), 2);
    assert_eq!(recipe.vhost_device_vsock.as_deref(), Some("0.3.0"));
    assert_eq!(
        recipe.lock_path(Path::new("a/sim.yaml")),
        Path::new("a/sim.lock.json")
    );
}

#[test]
fn a_recipe_may_do_without_root_and_vsock() {
    let start = SIM.find("# The root:").expect("there");
    let end = SIM.find("# docs/image.md").expect("there");
    let text = [&SIM[..start], &SIM[end..]]
        .concat()
        .replace("vhost_device_vsock: 0.3.0\n", "");
    let recipe = Recipe::parse(&text).expect("a smaller recipe");
    assert_eq!((recipe.root, recipe.vhost_device_vsock), (None, None));
}

#[test]
fn a_recipe_says_which_roads_there_are_or_there_are_both() {
    let outputs = |line: &str| {
        let text = format!("{SIM}\n{line}\n");
        Recipe::parse(&text).map(|recipe| recipe.outputs().to_vec())
    };
    use Output::{Disk, Uki};
    assert_eq!(outputs(""), Ok(vec![Uki, Disk]));
    assert_eq!(outputs("outputs: [uki, disk]"), Ok(vec![Uki, Disk]));
    assert_eq!(outputs("outputs: [uki]"), Ok(vec![Uki]));
    assert_eq!(outputs("outputs: []"), Ok(Vec::new()));
    for bad in ["[disk]", "[disk, uki]", "[uki, uki]", "[uki, disk, disk]"] {
        let error = outputs(&format!("outputs: {bad}")).expect_err(bad);
        assert!(error.to_string().contains("[uki, disk]"), "{error}");
    }
    assert!(outputs("outputs: [iso]").is_err());
    let text = SIM.replace(", systemd-boot-efi", "");
    let error = Recipe::parse(&format!("{text}\noutputs: [uki]\n")).expect_err("no stub");
    let error = error.to_string();
    assert!(error.contains("without systemd-boot-efi"), "{error}");
    assert_eq!(Recipe::parse(&text).expect("a recipe").outputs(), []);
    let stream = include_str!("../../../recipes/stream.yaml");
    let recipe = Recipe::parse(stream).expect("committed");
    assert_eq!(recipe.outputs(), []);
    let error = Recipe::parse(&format!("{stream}\noutputs: [uki]\n")).expect_err("no root");
    assert!(error.to_string().contains("without a root"), "{error}");
}

#[test]
fn a_bad_recipe_is_refused_with_its_reason() {
    check("version: 2", "version: 1", "version 1; this program reads");
    check("version: 2", "version: 2\nextra: 1", "unknown field");
    check("vcpus: 2", "vcpus: 2, numa: 1", "unknown field");
    check("profile: sim", "profile: ../sim", "sim, cpu, h100 or dev");
    check("profile: sim", "profile: gpu", "sim, cpu, h100 or dev");
    check("profile: sim", "profile: cpu", "agent of its profile");
    check(
        "agent: guest-agent-sim",
        "agent: guest-agent",
        "agent of its profile",
    );
    check(
        "agent: guest-agent-sim",
        "agent: guest-agent-sim\n  programs: [gpu-worker]",
        "none for another profile",
    );
    check("lock: sim.lock.json", "lock: a/b", "plain name");
    check("http://deb", "ftp://deb", "http or https");
    check("name: trixie", "name: tri/xie", "plain name");
    check("components: [main]", "components: []", "from 1 to");
    check("snapshot: https", "snapshot: ftp", "http or https");
    check(
        "keys/debian-archive",
        "../debian-archive",
        "plain relative path",
    );
    check(
        "{file: keys/debian-archive",
        "{path: a, file: keys/debian-archive",
        "unknown field",
    );
    check("print: 04B5", "print: 4B5", "which has 40 hex digits");
    check("print: 04B5", "print: X4B5", "which has 40 hex digits");
    check(
        "41587F7DB8C774BCCF131416762F67A0B2C39DE4",
        "04B54C3CDCA79751B16BC6B5225629DF75B188BD",
        "twice",
    );
    let (keys, end) = (
        SIM.find("      keys:").expect("there"),
        SIM.find("# Files of").expect("there"),
    );
    check(&SIM[keys..end], "      keys: []\n\n", "keys has 0 entries");
    check(&SIM[keys..end], "\n", "missing field `keys`");
    check("  suites:", "  suites: []\n  was:", "unknown field");
    check("package: ovmf", "package: OVMF", "Debian package");
    check("package: ovmf", "package: o", "Debian package");
    check("package: ovmf", "package: -ovmf", "Debian package");
    check("file: usr", "file: /usr", "relative path");
    check("file: usr/share", "file: usr/../share", "relative path");
    check(
        "OVMF.fd}",
        "OVMF.fd, edk2: \"202505\"}",
        "the release 202502",
    );
    check(
        "[qemu-system-x86, swtpm, systemd-boot-efi]",
        "[swtpm, swtpm]",
        "twice",
    );
    check("vsock: 0.3.0", "vsock: 0.3", "version like");
    check("vsock: 0.3.0", "vsock: 0.3.+1", "version like");
    check("init: stage0", "init: a b", "plain name");
    check("[virtio_blk,", "[../virtio_blk,", "plain name");
    check("- panic=-1", "- panic=-1 init=/bin/sh", "printable ASCII");
    check("- panic=-1", "- 'a\"b'", "printable ASCII");
    check("- panic=-1", "- ''", "printable ASCII");
    check("- panic=-1", "- \u{e9}", "printable ASCII");
    check("vcpus: 2", "vcpus: 0", "from 1 to 512");
    check("vcpus: 2", "vcpus: -1", "does not parse");
    check("memory_mib: 2048", "memory_mib: 1", "from 64");
    let long = format!("- {}", "a".repeat(CMDLINE_BYTES_MAX));
    check("- panic=-1", &long, "short enough");
}

#[test]
fn a_recipe_with_any_byte_changed_is_an_error_or_a_recipe() {
    for at in 0..SIM.len() {
        let mut bytes = SIM.as_bytes().to_vec();
        bytes[at] ^= 1;
        if let Ok(text) = std::str::from_utf8(&bytes) {
            let _ = Recipe::parse(text);
        }
    }
    let padded = format!("{SIM}#{}", " ".repeat(RECIPE_BYTES_MAX as usize));
    let long = Recipe::parse(&padded).expect_err("too long");
    assert!(long.to_string().contains("longer than 65536 bytes"));
}

#[test]
fn a_package_may_name_its_suite_and_it_has_to_be_one_of_the_recipe() {
    let with = |to: &str| Recipe::parse(&SIM.replacen("package: ovmf", to, 1));
    let recipe = with("package: ovmf/trixie").expect("its suite");
    assert_eq!(recipe.firmware.package.name, "ovmf");
    assert_eq!(recipe.firmware.package.suite.as_deref(), Some("trixie"));
    check("package: ovmf", "package: ovmf/sid", "among debian.suites");
    check("[gcc, ", "[gcc/sid, ", "among debian.suites");
    check("[gcc, ", "[gcc, gcc/trixie, ", "`gcc` twice");
    check("package: ovmf", "package: ovmf/", "with or without /SUITE");
    check(
        "package: ovmf",
        "package: ovmf/a/b",
        "with or without /SUITE",
    );
    check(
        "package: ovmf",
        "package: ovmf/..",
        "with or without /SUITE",
    );
}

/// The committed recipe with inputs.
fn with_inputs(inputs: &str) -> Result<Recipe, Error> {
    Recipe::parse(&SIM.replacen("# The initrd:", &format!("inputs:\n{inputs}\n#"), 1))
}

#[test]
fn inputs_are_wheels_urls_and_paths() {
    let zeros = "0".repeat(64);
    let recipe = with_inputs(&format!(
        "  - {{name: nvrtc, pypi: nvidia-cuda-nvrtc-cu12, version: 12.4.127}}\n  - {{name: sources, url: \
         \"https://a.example/b/c.tar.gz\", sha256: \"{zeros}\", bytes: 7}}\n  - {{name: local, path: some/directory}}"
    ))
    .expect("three inputs");
    assert_eq!(
        recipe.input("nvrtc").expect("listed").source,
        Source::Pypi {
            project: "nvidia-cuda-nvrtc-cu12".into(),
            version: "12.4.127".into(),
            file: None
        }
    );
    let path = "some/directory".into();
    assert_eq!(
        recipe.input("local").expect("listed").source,
        Source::Path { path }
    );
    assert_eq!(recipe.input("other"), None);
}

#[test]
fn a_bad_input_is_refused_with_its_reason() {
    let zeros = "0".repeat(64);
    let url = format!("url: \"https://a.example/c\", sha256: \"{zeros}\", bytes: 7");
    for (input, expected) in [
        ("name: a", "is none of"),
        ("name: a, path: b, pypi: c, version: \"1\"", "is none of"),
        ("name: a, path: b, version: \"1\"", "is none of"),
        ("name: a, pypi: c", "has no version"),
        ("name: a, pypi: c, version: \">=1\"", "one exact version"),
        ("name: a, pypi: ../c, version: \"1\"", "project on PyPI"),
        ("name: a, pypi: c-, version: \"1\"", "project on PyPI"),
        (
            "name: a, pypi: c, version: \"1\", file: c.tar.gz",
            "file name of a wheel",
        ),
        (
            "name: a, pypi: c, version: \"1\", file: d/c.whl",
            "file name of a wheel",
        ),
        (
            "name: a, url: \"https://a.example/c\"",
            "lacks bytes or sha256",
        ),
        (
            &format!("name: a, {}", url.replace("/c", "/")),
            "plain name",
        ),
        (
            &format!("name: a, {}", url.replace("https", "file")),
            "http or https",
        ),
        (
            &format!("name: a, {}", url.replace(": 7", ": 0")),
            "sizes are from 1",
        ),
        (&format!("name: a, version: \"1\", {url}"), "is none of"),
        ("name: a, path: /b", "plain relative path"),
        ("name: a, path: ../b", "plain relative path"),
        ("name: a/b, path: b", "plain name"),
        ("name: a, path: b, mode: 1", "unknown field"),
        ("path: b", "missing field `name`"),
    ] {
        let error = with_inputs(&format!("  - {{{input}}}")).expect_err(input);
        assert!(error.to_string().contains(expected), "{input}: {error}");
    }
    let error = with_inputs("  - {name: a, path: b}\n  - {name: a, path: c}").expect_err("twice");
    assert!(error.to_string().contains("`a` twice"), "{error}");
}

#[test]
fn files_of_the_root_come_from_inputs() {
    let with = |files: &str| {
        let text = SIM.replacen("  models: [all", &format!("{files}\n  models: [all"), 1);
        Recipe::parse(&text.replacen("# The initrd:", "inputs: [{name: a, path: b}]\n#", 1))
    };
    let good = with("  packages: [libc6]\n  files: [{input: a, from: x/y, to: usr/lib/y}]");
    let root = good.expect("good").root.expect("a root");
    assert_eq!((root.packages.len(), root.files.len()), (1, 1));
    for (files, expected) in [
        ("{input: b, from: x, to: y}", "among its inputs"),
        ("{input: a, from: ../x, to: y}", "plain relative path"),
        ("{input: a, from: x, to: /y}", "plain relative path"),
        (
            "{input: a, from: x, to: y}, {input: a, from: z, to: y}",
            "`y` twice",
        ),
    ] {
        let error = with(&format!("  files: [{files}]")).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn projects_and_wheels_are_compared_by_their_normal_names() {
    use extras::{file_of, is_wheel_of, normalised};
    assert_eq!(normalised("A_b.-C"), "a-b-c");
    let wheel = "nvidia_cuda_nvrtc_cu12-12.4.127-py3-none-manylinux2014_x86_64.whl";
    assert!(is_wheel_of(wheel, "nvidia-cuda-nvrtc-cu12", "12.4.127"));
    assert!(!is_wheel_of(wheel, "nvidia-cuda-nvrtc-cu12", "12.4.12"));
    assert!(!is_wheel_of(wheel, "nvidia-cuda-nvrtc", "12.4.127"));
    assert!(!is_wheel_of("a-1.whl", "a", "1"));
    assert_eq!(file_of("https://a.example/b/c.tar.gz"), Some("c.tar.gz"));
    assert_eq!(file_of("https://a.example"), None);
    assert_eq!(file_of("https://a.example/b/c?d"), None);
}

/// The committed recipe with compiled modules.
fn with_modules(modules: &str) -> Result<Recipe, Error> {
    let text = SIM.replacen("  run: [qemu", "  modules: [make]\n  run: [qemu", 1);
    Recipe::parse(&text.replacen(
        "# The initrd:",
        &format!(
            "inputs: [{{name: source, deb: nv-dkms/trixie}}, {{name: local, path: b}}]\nmodules: {{{modules}}}\n#"
        ),
        1,
    ))
}

#[test]
fn compiled_modules_come_from_a_package_that_is_taken_alone() {
    let good = "input: source, directory: usr/src/nv-1, names: [nv]";
    let recipe = with_modules(good).expect("good");
    let alone: Vec<_> = recipe.package_inputs().map(Choice::to_string).collect();
    assert_eq!(alone, ["nv-dkms/trixie"]);
    assert_eq!(recipe.modules.expect("there").names, ["nv"]);
    let all = "objects: [a.o_binary], make: [ARCH=x86_64, CONFIG_X=], edits: [{file: a/b.c, from: \"f(a)\", to: \"f(a, 0)\"}]";
    with_modules(&format!("{good}, {all}")).expect("with everything");
    let edit = |edit: &str| format!("{good}, edits: [{edit}]");
    let make = |word: &str| format!("{good}, make: [\"{word}\"]");
    for (modules, expected) in [
        (
            good.replace("input: source", "input: local"),
            "a Debian package among its inputs",
        ),
        (
            good.replace("input: source", "input: nobody"),
            "a Debian package among its inputs",
        ),
        (good.replace("usr/src", "../src"), "plain relative path"),
        (good.replace("[nv]", "[]"), "names has 0 entries"),
        (good.replace("[nv]", "[a/b]"), "plain name"),
        (good.replace("[nv]", "[nv], source: x"), "unknown field"),
        (make("-f"), "a setting NAME=VALUE"),
        (make("modules"), "a setting NAME=VALUE"),
        (make("A=$(shell id)"), "a setting NAME=VALUE"),
        (make("A=a;b"), "a setting NAME=VALUE"),
        (edit("{file: /a, from: x, to: y}"), "plain relative path"),
        (edit("{file: a, from: \"\", to: y}"), "not empty"),
        (edit("{file: a, from: x}"), "missing field `to`"),
        (
            edit("{file: a, from: x, to: y}, {file: b, from: x, to: z}"),
            "`x` twice",
        ),
    ] {
        let error = with_modules(&modules).expect_err(expected);
        assert!(error.to_string().contains(expected), "{modules}: {error}");
    }
    check(
        "  run: [qemu",
        "  modules: [make]\n  run: [qemu",
        "the recipe has no modules",
    );
}

#[test]
fn a_package_among_the_inputs_has_a_name_and_nothing_else() {
    let package: Choice = "libcuda1".to_owned().try_into().expect("a name");
    let recipe = with_inputs("  - {name: a, deb: libcuda1}").expect("one");
    assert_eq!(
        recipe.input("a").expect("listed").source,
        Source::Deb { package }
    );
    for (input, expected) in [
        ("name: a, deb: libcuda1, version: \"1\"", "is none of"),
        ("name: a, deb: libcuda1, path: b", "is none of"),
        ("name: a, deb: LIB", "not the name of a Debian package"),
        ("name: a, deb: libcuda1/sid", "among debian.suites"),
    ] {
        let error = with_inputs(&format!("  - {{{input}}}")).expect_err(input);
        assert!(error.to_string().contains(expected), "{input}: {error}");
    }
    let error = with_inputs("  - {name: a, deb: b1}\n  - {name: b, deb: b1/trixie}");
    let error = error.expect_err("twice").to_string();
    assert!(error.contains("`b1` twice"), "{error}");
}

#[test]
fn kernels_of_a_gpu_are_a_programs_and_are_compiled_by_a_wheel() {
    let text = include_str!("../../../recipes/h100.yaml");
    let wanted = Recipe::parse(text).expect("committed").root;
    let wanted = wanted.and_then(|root| root.cubins).expect("it has kernels");
    assert_eq!(
        (&*wanted.compiler, &*wanted.program),
        ("nvrtc", "gpu-worker")
    );
    for (from, to, expected) in [
        (
            "compiler: nvrtc,",
            "compiler: libcuda,",
            "a wheel among its inputs",
        ),
        (
            "compiler: nvrtc,",
            "compiler: nobody,",
            "a wheel among its inputs",
        ),
        (
            "program: gpu-worker,",
            "program: stage0,",
            "among its programs",
        ),
        ("names: [attention", "names: [../attention", "a plain name"),
        ("names: [attention", "names: [layer", "`layer` twice"),
        (
            "names: [attention, layer, product, sample]",
            "names: []",
            "names has 0 entries",
        ),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        let error = Recipe::parse(&changed).expect_err(expected).to_string();
        assert!(error.contains(expected), "{to}: {error}");
    }
}
