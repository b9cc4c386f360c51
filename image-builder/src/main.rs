//! `image-builder`: see `image-builder --help`.

fn main() -> std::process::ExitCode {
    image_builder::cli::main()
}
