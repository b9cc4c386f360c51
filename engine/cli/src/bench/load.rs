//! How long the first token takes from a file of packed weights, against reading the file once.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use engine::decoder::{Decoder, Options};
use engine::forward::{BlockTable, Forward, Row};
use kernels::Kernels;
use model::decoder::Config;

use super::rows::{Effort, Line, paired};

/// Lines in GB of the file a second: with what vouches for the file elsewhere, and with its digest compared, each against reading
/// the file through one small buffer; and the first also against reading all of it into fresh memory.
pub fn lines(
    file: &Path,
    config: &Config,
    kernels: &Arc<Kernels>,
    options: &Options,
    effort: &Effort,
) -> anyhow::Result<Vec<Line>> {
    let bytes = file.metadata()?.len();
    let mut buffer = vec![0; 1 << 20];
    let mut lines = Vec::new();
    let through = "reading through a buffer";
    for (compared, whole) in [(false, false), (false, true), (true, false)] {
        let mut own = || {
            let began = Instant::now();
            let content = File::open(file)?;
            let load = match compared {
                true => Decoder::load_packed::<File>,
                false => Decoder::load_packed_verified_elsewhere,
            };
            let (mut decoder, _) = load(config, bytes, content, Arc::clone(kernels), options)?;
            let row = Row {
                sequence: 0,
                token: 1,
                position: 0,
                scored: true,
                keeps: false,
                kept: false,
            };
            decoder.forward(&[row], &[BlockTable(vec![0])], &mut Vec::new())?;
            Ok(bytes as f64 / 1e9 / began.elapsed().as_secs_f64())
        };
        let mut read = || {
            let began = Instant::now();
            if whole {
                std::hint::black_box(std::fs::read(file)?);
                return Ok(bytes as f64 / 1e9 / began.elapsed().as_secs_f64());
            }
            let mut content = File::open(file)?;
            while content.read(&mut buffer)? > 0 {}
            Ok(bytes as f64 / 1e9 / began.elapsed().as_secs_f64())
        };
        let how = if compared { ", digest compared" } else { "" };
        let what = format!("first token from {bytes} bytes{how}");
        lines.push(paired(
            what,
            "GB/s",
            effort.rounds,
            &mut own,
            Some((if whole { "std::fs::read" } else { through }, &mut read)),
        )?);
    }
    Ok(lines)
}
