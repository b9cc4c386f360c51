//! `chrysalis-simulator`: see `chrysalis-simulator --help`.

fn main() -> std::process::ExitCode {
    simulator::cli::main()
}
