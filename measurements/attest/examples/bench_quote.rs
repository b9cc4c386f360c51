//! What our part of a verification costs beside the verification library's own: paired runs on one real quote, in
//! alternating order. It decides nothing.
//!
//! ```text
//! cargo run --release -p attest --example bench_quote -- shared/vectors/quotes/dcap-qvl [PAIRS]
//! ```

use std::{
    fs,
    hint::black_box,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Context;
use attest::{Collateral, Policy, Quote, Root, verify};
use dcap_qvl::{QuoteCollateralV3, verify::QuoteVerifier};

/// One hour after the collateral beside the quote was issued.
const AT_UNIX_S: u64 = 1_750_332_747;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let directory = PathBuf::from(
        arguments
            .next()
            .context("name the directory of tdx_quote")?,
    );
    let pairs = match arguments.next() {
        Some(count) => count.to_string_lossy().parse().context("PAIRS")?,
        None => 300,
    };
    let read = |name: &str| {
        let path = Path::new(&directory).join(name);
        fs::read(&path).with_context(|| format!("reading {}", path.display()))
    };
    let (quote, json) = (read("tdx_quote")?, read("tdx_quote_collateral.json")?);
    let collateral = Collateral::from_json(&json)?;
    let bare_collateral: QuoteCollateralV3 = serde_json::from_slice(&json)?;
    let td = Quote::parse(&quote)?.td;
    let policy = Policy::exact(td.registers);
    let root = Root::intel();

    let ours = || {
        let peer = verify(
            &quote,
            &collateral,
            &td.report_data,
            &policy,
            &root,
            AT_UNIX_S,
        );
        black_box(peer).map(drop).map_err(anyhow::Error::from)
    };
    let bare = || {
        let report = QuoteVerifier::new_prod().verify(&quote, &bare_collateral, AT_UNIX_S);
        black_box(report).map(drop)
    };
    let seconds = |run: &dyn Fn() -> anyhow::Result<()>| {
        let start = Instant::now();
        run().map(|()| start.elapsed().as_secs_f64())
    };
    for _ in 0..10 {
        ours()?;
        bare()?;
    }
    let (mut of_ours, mut of_bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..pairs {
        // Alternating, so that neither always runs on the warmer machine.
        let (a, b) = if pair % 2 == 0 {
            let a = seconds(&ours)?;
            (a, seconds(&bare)?)
        } else {
            let b = seconds(&bare)?;
            (seconds(&ours)?, b)
        };
        of_ours.push(a * 1e3);
        of_bare.push(b * 1e3);
        ratios.push(a / b);
    }
    println!("{pairs} pairs        median     10th to 90th of a hundred");
    print("ours, ms      ", &mut of_ours);
    print("dcap-qvl, ms  ", &mut of_bare);
    print("ratio of pair ", &mut ratios);
    Ok(())
}

fn print(name: &str, values: &mut [f64]) {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = (values.len().saturating_sub(1)) as f64 * share;
        values.get(index as usize).copied().unwrap_or(f64::NAN)
    };
    println!(
        "{name} {:8.3}     {:.3} to {:.3}",
        at(0.5),
        at(0.1),
        at(0.9)
    );
}
