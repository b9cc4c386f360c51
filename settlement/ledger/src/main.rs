//! `chrysalis-ledger`: see `chrysalis-ledger --help`.

#[tokio::main]
async fn main() -> std::process::ExitCode {
    ledger::cli::main().await
}
