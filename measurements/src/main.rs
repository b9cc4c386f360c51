//! The program `measurements`.

fn main() -> std::process::ExitCode {
    measurements::run()
}
