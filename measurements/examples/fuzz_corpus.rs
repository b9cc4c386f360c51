//! Seeds for the fuzz targets of this crate: the vectors in the form that each target reads, and small made files where a
//! vector would be megabytes.
//!
//!     cargo run -p measurements --example fuzz_corpus -- ../shared/vectors fuzz/corpus

#[path = "../gpu/tests/it/made.rs"]
mod gpu;
#[path = "../predict/tests/it/made.rs"]
mod made;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};
use diagnose::bundle::{Bundle, VERSION};
use predict::acpi::{Qemu, Shape};
use serde_json::Value;

/// How a vector becomes what a target reads.
type Form = fn(&[u8]) -> anyhow::Result<Vec<Vec<u8>>>;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [vectors, corpus] = arguments.as_slice() else {
        bail!("usage: fuzz_corpus VECTORS CORPUS");
    };
    let mut written = 0;
    for (target, names, form) in FROM_VECTORS {
        for name in *names {
            let seeds =
                form(&read(&vectors.join(name))?).with_context(|| format!("using {name}"))?;
            written += write(corpus, target, &plain(name), &seeds)?;
        }
    }
    for (report, chain) in GPU_REPORTS {
        let report_bytes = read(&vectors.join(report))?;
        let [report_bytes] = hex_text(&report_bytes)?.try_into().expect("one seed");
        let chain_bytes = read(&vectors.join(chain))?;
        // As the target reads them: where the certificates begin, the report, the certificates.
        let start = u16::try_from(report_bytes.len())?.to_be_bytes();
        let seed = [&start[..], &report_bytes, &chain_bytes].concat();
        written += write(corpus, "measurements_spdm", &plain(report), &[seed])?;
    }
    let seed = bundle(vectors)?;
    written += write(corpus, "measurements_bundle", "tdx_quote", &[seed])?;
    let seed = variable_store()?;
    written += write(corpus, "measurements_variable_store", "boots", &[seed])?;
    for (target, seed) in made_seeds() {
        written += write(corpus, target, "made", &[seed])?;
    }
    println!("{written} seeds in {}", corpus.display());
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

/// A quote of real hardware and its collateral, as of a time when it held.
fn bundle(vectors: &Path) -> anyhow::Result<Vec<u8>> {
    let bundle = Bundle {
        version: VERSION,
        made_unix_s: 1_750_332_747,
        quote: read(&vectors.join("quotes/dcap-qvl/tdx_quote"))?,
        collateral: read(&vectors.join("quotes/dcap-qvl/tdx_quote_collateral.json"))?,
        manifest: None,
        event_logs: Vec::new(),
        gpus: None,
        report_data: None,
    };
    Ok(bundle.to_cbor()?)
}

/// With the keys that the tests boot with; unpacked by gzip, as the tests do.
fn variable_store() -> anyhow::Result<Vec<u8>> {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("predict/tests/vectors/rtmr0-boots/snakeoil-store.gz");
    let unpacked = Command::new("gzip")
        .args(["--decompress", "--stdout"])
        .arg(packed)
        .output()
        .context("running gzip")?;
    if !unpacked.status.success() {
        bail!("gzip does not unpack the variable store");
    }
    Ok(made::small_store(unpacked.stdout))
}

/// An answer about a made-up device's second certificate.
fn ocsp_answer() -> Vec<u8> {
    let device = gpu::Device::new();
    let [subject, issuer] = [&device.parties[1], &device.parties[2]];
    let mut maker = gpu::OcspMaker::good(&issuer.key);
    maker.nonce = Some(vec![7; 16]);
    maker.answer(subject, issuer)
}

fn plain(name: &str) -> String {
    name.replace('/', "-")
}

fn write(corpus: &Path, target: &str, name: &str, seeds: &[Vec<u8>]) -> anyhow::Result<usize> {
    let directory = corpus.join(target);
    fs::create_dir_all(&directory)?;
    for (index, seed) in seeds.iter().enumerate() {
        fs::write(directory.join(format!("{name}-{index}")), seed)?;
    }
    Ok(seeds.len())
}

/// The tables before the zeros that fill up their file.
fn without_zeros(bytes: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
    let used = bytes.len() - bytes.iter().rev().take_while(|b| **b == 0).count();
    Ok(vec![bytes[..used.next_multiple_of(4096)].to_vec()])
}

/// The runtime events of a dstack report: those of its fourth register.
fn runtime_events(bytes: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
    let report: Value = serde_json::from_slice(bytes)?;
    let log = report["event_log"].as_str().context("there is a log")?;
    let log: Vec<Value> = serde_json::from_str(log)?;
    let runtime: Vec<Value> = log.into_iter().filter(|event| event["imr"] == 3).collect();
    Ok(vec![serde_json::to_vec(&runtime)?])
}

fn as_it_is(bytes: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
    Ok(vec![bytes.to_vec()])
}

/// Text of hex digits.
fn hex_text(bytes: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
    let text: String = String::from_utf8(bytes.to_vec())?
        .split_whitespace()
        .collect();
    Ok(vec![hex::decode(text.trim_start_matches("0x"))?])
}

/// The command lines of a grid, one each.
fn lines(bytes: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
    let lines = bytes.split(|byte| *byte == b'\n');
    let commands = lines.filter(|line| line.windows(5).any(|word| word == b"-smp "));
    Ok(commands.map(<[u8]>::to_vec).collect())
}

/// Files of a few kilobytes in the formats whose real files have megabytes.
fn made_seeds() -> Vec<(&'static str, Vec<u8>)> {
    let loader = made::table_loader(&["etc/acpi/rsdp", "etc/acpi/tables"]);
    let policy = include_bytes!("../attest/policy.example.json").to_vec();
    let shape = Shape::new(Qemu::V11_1_3, 4, 4096).to_json();
    let uki = made::uki(&[(".linux", &made::kernel()), (".cmdline", b"panic=-1")]);
    // As the target reads them: where the image ends, the image, a partition table.
    let end = (uki.len() as u16).to_le_bytes();
    let uki = [&end[..], &uki, &made::partition_table()].concat();
    vec![
        ("measurements_policy", policy),
        ("measurements_ocsp", ocsp_answer()),
        ("measurements_machine_set", MACHINE_SET.into()),
        ("measurements_shape", shape),
        ("measurements_uki", uki),
        ("measurements_tdvf", made::firmware()),
        ("measurements_volumes", made::firmware()[0x1000..].to_vec()),
        ("measurements_pe", made::kernel()),
        ("measurements_table_loader", loader),
    ]
}

/// With registers that nobody has.
const MACHINE_SET: &str = concat!(
    r#"{"version":1,"image_sha256":"1111111111111111111111111111111111111111111111111111111111111111","#,
    r#""mrtd":"111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111","#,
    r#""rtmr1":"222222222222222222222222222222222222222222222222222222222222222222222222222222222222222222222222","#,
    r#""rtmr2":"333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333","#,
    r#""machines":[{"qemu":"11.1.3","vcpus":8,"memory_mib":16384,"devices":"guest-with-tpm","#,
    r#""rtmr0":"444444444444444444444444444444444444444444444444444444444444444444444444444444444444444444444444"}]}"#,
);

const FROM_VECTORS: &[(&str, &[&str], Form)] = &[
    (
        "measurements_quote",
        &[
            "quotes/dcap-qvl/tdx_quote",
            "quotes/dcap-qvl/tdx_quote_outdated",
            "ccel/gcp-cos-113/cos-113-tdx-quote.dat",
            "ccel/gcp-cos-113/quote_v5_sample.dat",
        ],
        as_it_is,
    ),
    (
        "measurements_quote",
        &[
            "quotes/dcap-qvl/tdx-quote.hex",
            "quotes/dcap-qvl/quote-from-tappd.hex",
        ],
        hex_text,
    ),
    (
        "measurements_collateral",
        &["quotes/dcap-qvl/tdx_quote_collateral.json"],
        as_it_is,
    ),
    (
        "measurements_event_log",
        &[
            "ccel/gcp-cos-113/ccel_data.dat",
            "tpm-log/direct/tpmlog.bin",
        ],
        as_it_is,
    ),
    (
        "measurements_qemu_command",
        &[
            "acpi/grid-qemu-10.0.13/index.txt",
            "acpi/grid-qemu-11.1.3/index.txt",
        ],
        lines,
    ),
    (
        "measurements_gpu_bundle",
        &[
            "nvidia/sdk/hopper_evidence.json",
            "nvidia/sdk/multi_gpu_hopper.json",
        ],
        as_it_is,
    ),
    (
        "measurements_rim",
        &[
            "nvidia/nvtrust/Driver_RIM_test_no_gpu.swidtag",
            "nvidia/nvtrust/1010_0200_882_96005E0001_PROD.swidtag",
            "nvidia/sdk/testdata/NV_GPU_DRIVER_GH100_550.144.03.xml",
        ],
        as_it_is,
    ),
    (
        "measurements_event_log_json",
        &["ccel/dstack/quote-report.json"],
        as_it_is,
    ),
    (
        "measurements_runtime",
        &["ccel/dstack/quote-report.json"],
        runtime_events,
    ),
    (
        "measurements_acpi_tables",
        &["acpi/q35-with-hpet/acpi_tables.bin"],
        without_zeros,
    ),
];

const GPU_REPORTS: &[(&str, &str)] = &[
    (
        "nvidia/nvtrust/hopperAttestationReport.txt",
        "nvidia/nvtrust/hopperCertChain.txt",
    ),
    (
        "nvidia/go-nvtrust/attestationReport.txt",
        "nvidia/go-nvtrust/gpuAkCertChain.txt",
    ),
];
