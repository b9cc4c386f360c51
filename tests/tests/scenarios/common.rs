//! What the tests share: the programs, the image of `sim` and a running stack, each made once.

use demo::Guest;
use image_builder::lock::ModelLock;
use image_builder::store::{Store, ensure_models};
use memchr::memmem;
use std::sync::OnceLock;
use tests::image::Unreachable;
use tests::{Image, Programs, Stack, StackOptions};
use tokio::sync::OnceCell;

/// The programs, the agent among them.
pub fn programs() -> &'static Programs {
    static BUILT: OnceLock<Programs> = OnceLock::new();
    BUILT.get_or_init(|| {
        let programs = Programs::beside_this_one().expect("a test has a path");
        programs.build(Guest::Process).expect("the programs build");
        programs
    })
}

/// What a function makes of the programs, or `None` where the archive cannot be reached.
pub async fn made<T: Send + 'static>(
    make: impl FnOnce(&Programs) -> anyhow::Result<T> + Send + 'static,
) -> Option<T> {
    let making = tokio::task::spawn_blocking(move || make(programs()));
    match making.await.expect("building does not panic") {
        Ok(made) => Some(made),
        Err(error) if error.is::<Unreachable>() => {
            without::skip("the guest image", &format!("{error:#}"));
            None
        }
        Err(error) => panic!("{error:#}"),
    }
}

/// The image of recipe `sim`.
pub async fn sim() -> Option<Image> {
    static SIM: OnceCell<Option<Image>> = OnceCell::const_new();
    let build = || made(|programs| Image::build(programs, "sim", true));
    SIM.get_or_init(build).await.clone()
}

/// A running stack, or `None` where the embeddings model is neither here nor to be had.
pub async fn stack(options: StackOptions) -> Option<Stack> {
    let models = tokio::task::spawn_blocking(|| {
        programs();
        let store = Store::from_environment().expect("a home directory, or CHRYSALIS_STORE");
        ensure_models(&store, &ModelLock::committed(), &mut |_| ())
    });
    let models = match models.await.expect("fetching does not panic") {
        Ok(models) => models,
        Err(error) => {
            without::skip("the embeddings model", &error.to_string());
            return None;
        }
    };
    let stack = Stack::start(programs().clone(), &models, options).await;
    Some(stack.expect("the stack starts"))
}

/// How much of a secret in a row is too much.
pub const RUN_BYTES: usize = 16;

/// The first run of a secret that is in `haystack`.
pub fn find(haystack: &[u8], secret: impl AsRef<[u8]>) -> Option<String> {
    find_run(haystack, secret.as_ref(), RUN_BYTES)
}

/// The same for runs of another length: in hexadecimal a byte is two.
pub fn find_run(haystack: &[u8], secret: &[u8], run_bytes: usize) -> Option<String> {
    let mut runs = secret.windows(run_bytes);
    let found = runs.find(|run| memmem::find(haystack, run).is_some());
    found.map(|run| String::from_utf8_lossy(run).into_owned())
}
