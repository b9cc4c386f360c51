//! A model's weights packed ahead of time: loading is then one copy.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use engine::decoder::{Options, PACKED_FILE, blocks_for};
use kernels::KvKind;
use model::File as ModelFile;

use crate::bench::kernels;
use crate::model::{Kind, Model};
use crate::progress::Progress;

/// Pack a model's weights ahead of time, so that loading them is one copy.
///
/// OUT becomes a directory with model.packed and the small files that the model needs: config.json, tokenizer.json,
/// tokenizer_config.json and chat templates, made from the metadata where the model is a GGUF file. model.packed names
/// this program's version and the digest of every file that it was made from, and ends with its own digest. The same
/// model, kind and version give the same bytes.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A GGUF file, or a directory as Hugging Face lays it out.
    model: PathBuf,
    /// A directory that does not exist.
    out: PathBuf,
    /// How weights are kept; as the file has them where absent.
    #[arg(long, value_enum)]
    kind: Option<Kind>,
}

/// Packs.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.out.exists() {
        bail!(
            "{} exists; name a directory that does not",
            arguments.out.display()
        );
    }
    let progress = Progress::new("reading");
    let model = Model::open(&arguments.model, &progress)?;
    if model.is_packed() {
        bail!("{} is packed already", arguments.model.display());
    }
    let began = Instant::now();
    let options = Options {
        packing: model.packing(arguments.kind),
        blocks: blocks_for(1, 32),
        context_max: 32,
        rows_max: 1,
        scored_max: 1,
        cache: KvKind::F32,
    };
    let mut decoder = model.load(kernels(1, None)?, &options)?;
    // Written under another name until it is whole.
    let unfinished = arguments.out.with_extension("part");
    fs::create_dir_all(&unfinished).with_context(|| format!("making {}", unfinished.display()))?;
    for (name, content) in [
        ("config.json", Some(&model.config_json)),
        ("generation_config.json", model.generation_json.as_ref()),
        ("tokenizer.json", model.tokenizer_json.as_ref()),
        (
            "tokenizer_config.json",
            model.tokenizer_config_json.as_ref(),
        ),
        (ModelFile::ChatTemplate.name(), model.chat_template.as_ref()),
        (ModelFile::ToolTemplate.name(), model.tool_template.as_ref()),
    ] {
        if let Some(content) = content {
            let path = unfinished.join(name);
            let above = path.parent().unwrap_or(&unfinished);
            { fs::create_dir_all(above).and_then(|()| fs::write(&path, content)) }
                .with_context(|| format!("writing {name}"))?;
        }
    }
    let path = unfinished.join(PACKED_FILE);
    let file = BufWriter::with_capacity(
        1 << 20,
        File::create(&path).context("writing model.packed")?,
    );
    let digest = decoder.write_packed(format!("engine {}", env!("CHRYSALIS_VERSION")), file)?;
    let bytes = fs::metadata(&path)?.len();
    fs::rename(&unfinished, &arguments.out)
        .with_context(|| format!("making {}", arguments.out.display()))?;
    println!(
        "{}  {}",
        hex::encode(digest),
        arguments.out.join(PACKED_FILE).display()
    );
    eprintln!(
        "engine: {bytes} bytes in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    Ok(())
}
