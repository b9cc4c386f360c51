//! What the tests over a whole stack share.

use image_builder::{ModelLock, Store, ensure_models};
use tests::image::Unreachable;
use tests::programs::Programs;
use tests::{Stack, StackOptions};

/// What a function makes of the programs, or `None` with a printed line where the archive cannot be reached.
#[allow(dead_code, reason = "not every test has a machine")]
pub async fn made<T: Send + 'static>(
    make: impl FnOnce(&Programs) -> anyhow::Result<T> + Send + 'static,
) -> Option<T> {
    let making = tokio::task::spawn_blocking(move || make(&Programs::build()?));
    match making.await.expect("building does not panic") {
        Ok(made) => Some(made),
        Err(error) if error.is::<Unreachable>() && std::env::var_os("CI").is_none() => {
            println!("skipped: the image cannot be built: {error:#}");
            None
        }
        Err(error) => panic!("{error:#}"),
    }
}

/// A running stack, or `None` with a printed line where the embeddings model is neither here nor to be had.
#[allow(dead_code, reason = "not every test has a stack")]
pub async fn stack(options: StackOptions) -> Option<Stack> {
    let models = tokio::task::spawn_blocking(|| {
        let store = Store::from_environment().expect("a home directory, or CHRYSALIS_STORE");
        ensure_models(&store, &ModelLock::committed(), &mut |_| ())
    });
    let models = match models.await.expect("fetching does not panic") {
        Ok(models) => models,
        Err(error) if std::env::var_os("CI").is_none() => {
            println!("skipped: the embeddings model cannot be fetched: {error}");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let programs = tokio::task::spawn_blocking(Programs::build)
        .await
        .expect("no panic")
        .expect("programs build");
    Some(
        Stack::start(programs, &models, options)
            .await
            .expect("the stack starts"),
    )
}
