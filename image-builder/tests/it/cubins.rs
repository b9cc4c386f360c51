//! Kernels for an H100, compiled with the locked NVRTC: needs no GPU.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use image_builder::compile::{Compiler, cubins, workspace_around};
use image_builder::lock::{PackageLock, Recipe, Role};
use image_builder::sandbox::Sandbox;
use image_builder::store::inputs::{self, InputSources};
use image_builder::store::{Store, ensure_tree};

use crate::host_sandbox::IMAGE_BUILDER;

/// The recipe's compiler: NVRTC, and a sandbox with a C compiler.
struct Lab {
    recipe: Recipe,
    nvrtc: PathBuf,
    sandbox: Sandbox,
}

impl Lab {
    fn new() -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/h100.yaml");
        let recipe = Recipe::read(&file).expect("a recipe");
        let lock = PackageLock::read(&recipe.lock_path(&file)).expect("a lock");
        let store = Store::from_environment().expect("a home directory, or CHRYSALIS_STORE");
        let places = InputSources {
            store: &store,
            directory: Path::new(""),
            pypi_files_url: None,
        };
        let nvrtc = inputs::open(places, &recipe, &lock, "nvrtc", &mut |_| ()).expect("fetched");
        let tree = ensure_tree(&store, &lock, &lock.closure(Role::Build), &mut |_| ());
        Self {
            recipe,
            nvrtc: nvrtc.directory,
            sandbox: Sandbox::new(tree.expect("fetched")).launcher(IMAGE_BUILDER),
        }
    }

    /// Each kernel's bytes by its name, compiled into a new store.
    fn compile(
        &self,
        sources: &BTreeMap<String, Vec<u8>>,
        names: &[String],
    ) -> Result<Vec<(String, Vec<u8>)>, String> {
        let directory = tempfile::tempdir().expect("a directory");
        let job = cubins::Job {
            store: &Store::at(directory.path()),
            sources: sources.clone(),
            names,
            nvrtc: &self.nvrtc,
            sandbox: self.sandbox.clone(),
        };
        let made = cubins::ensure(&job, &mut || ()).map_err(|error| error.to_string())?;
        let read = |(name, path)| (name, fs::read(path).expect("it was made"));
        Ok(made.into_iter().map(read).collect())
    }

    fn refused(&self, name: &str, text: &str) -> String {
        let sources = BTreeMap::from([(format!("{name}.cu"), text.as_bytes().to_vec())]);
        self.compile(&sources, &[name.into()]).expect_err(text)
    }
}

#[test]
#[ignore = "long tier: fetches NVRTC, and compiles the kernels with it twice"]
fn the_workers_kernels_compile_to_the_same_bytes_twice() {
    let lab = Lab::new();
    let store = Store::from_environment().expect("a home directory, or CHRYSALIS_STORE");
    let sources = workspace_around(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("a workspace");
    let compiler = Compiler::new(&store, lab.sandbox.clone(), &sources).expect("a toolchain");
    let sources = compiler.kernels("gpu-worker").expect("it has kernels");
    let cubins = lab
        .recipe
        .root
        .as_ref()
        .and_then(|root| root.cubins.as_ref());
    let names = &cubins.expect("the recipe has kernels").names;
    // Each source of a kernel is in the image, and the headers are none.
    let files = sources.keys().filter_map(|file| file.strip_suffix(".cu"));
    assert_eq!(&files.map(str::to_owned).collect::<Vec<_>>(), names);
    let once = lab.compile(&sources, names).expect("they compile");
    assert_eq!(once, lab.compile(&sources, names).expect("they compile"));
    for (name, bytes) in once {
        let path = b"/kernels";
        let names_a_path = bytes.windows(path.len()).any(|window| window == path);
        assert!(
            !names_a_path,
            "{name} names the directory it was compiled in"
        );
    }
}

#[test]
#[ignore = "long tier: fetches NVRTC"]
fn a_kernel_that_does_not_compile_is_refused_with_its_file_and_line() {
    let lab = Lab::new();
    let refused = lab.refused("spoilt", "__global__ void f(float *x) {\n  x[0] = y;\n}\n");
    for words in ["spoilt.cu does not compile", "spoilt.cu(2): error", "\"y\""] {
        assert!(refused.contains(words), "{refused}");
    }
    let refused = lab.refused("alone", "#include \"device.cuh\"\n");
    assert!(refused.contains("alone.cu(1)"), "{refused}");
    // A recipe that names what is not there.
    let missing = lab.compile(&BTreeMap::new(), &["absent".into()]);
    let missing = missing.expect_err("no source");
    assert_eq!(missing, "there is no absent.cu among the kernels");
}
