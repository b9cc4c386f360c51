//! `host-proxy`: see `host-proxy --help`.

fn main() -> std::process::ExitCode {
    host_proxy::cli::main()
}
