//! Coding agents: each is asked for a file, makes it with a tool of its own, and says so. The script only decides what is
//! said; the agent's program runs the tool.

use super::{Fetched, Script, Served, run};
use crate::world::SCRIPTED;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

const TASK: &str = "Create the file hello.txt with the word hello in it.";
/// What the tool answers: 42 stands nowhere before it ran.
const COMMAND: &str = "printf hello > hello.txt && echo answer-$((40+2))";

/// Calls this tool with these arguments until its output came back.
fn script(tool: &str, arguments: &serde_json::Value) -> Script {
    let call = json!({"name": tool, "arguments": arguments});
    Script::of(&[
        ("answer-42", "The file hello.txt is there."),
        (TASK, &format!("I write it.<tool_call>{call}</tool_call>")),
        // An agent may ask for a title of the conversation, too.
        ("", "A file with hello"),
    ])
}

/// Runs an agent in an empty directory and looks for the file it should make.
async fn check(served: &Served, command: &mut std::process::Command, directory: &Path) {
    // Some agents believe the variable rather than the system.
    let said = run(command.current_dir(directory).env("PWD", directory));
    let made = std::fs::read_to_string(directory.join("hello.txt"));
    let prompts = served.world.guest.prompts();
    assert!(made.is_ok(), "{said}\n{}", prompts.concat());
    assert_eq!(made.unwrap(), "hello");
    assert!(said.contains("The file hello.txt is there."), "{said}");
    // The tool's output went back to the model under the seal.
    assert!(prompts.iter().any(|prompt| prompt.contains("answer-42")));
    // A job that the agent does not wait for may still be on its way.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let jobs = served.jobs().await;
    assert!(jobs >= 2, "{jobs} jobs");
    eprintln!(
        "{jobs} jobs; the longest prompt has {} characters",
        prompts.iter().map(String::len).max().unwrap_or(0)
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it fetches packages from npm"]
async fn codex_makes_a_file_over_the_responses_api() {
    let arguments = json!({"cmd": COMMAND});
    let served = Served::start(script("exec_command", &arguments)).await;
    let fetched = Fetched::open();
    let codex = fetched
        .node(&["@openai/codex"])
        .join("node_modules/.bin/codex");
    let (home, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = format!(
        "model = \"{SCRIPTED}\"\nmodel_provider = \"chrysalis\"\nweb_search = \"disabled\"\n\
         model_context_window = 65536\nfeatures.multi_agent = false\n\
         [model_providers.chrysalis]\nname = \"Chrysalis\"\nbase_url = \"{}\"\nenv_key = \"CHRYSALIS_KEY\"\n\
         wire_api = \"responses\"\n",
        served.url
    );
    std::fs::write(home.path().join("config.toml"), config).unwrap();
    let mut command = served.command(codex);
    command.env("CODEX_HOME", home.path()).args([
        "exec",
        "--skip-git-repo-check",
        "--dangerously-bypass-approvals-and-sandbox",
        TASK,
    ]);
    check(&served, &mut command, work.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it fetches packages from npm"]
async fn opencode_makes_a_file_over_chat_completions() {
    let arguments = json!({"command": COMMAND, "description": "Writes the file"});
    let served = Served::start(script("bash", &arguments)).await;
    let fetched = Fetched::open();
    let directory = fetched.node(&["opencode-ai", "@ai-sdk/openai-compatible"]);
    let opencode = directory.join("node_modules/.bin/opencode");
    let (home, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let limit = json!({"context": 65536, "output": 1024});
    let config = json!({
        "model": format!("chrysalis/{SCRIPTED}"), "small_model": format!("chrysalis/{SCRIPTED}"),
        "autoupdate": false, "enabled_providers": ["chrysalis"], "share": "disabled", "permission": {"bash": "allow", "edit": "allow"},
        "provider": {"chrysalis": {
            "npm": "@ai-sdk/openai-compatible",
            "options": {"baseURL": served.url, "apiKey": served.key},
            "models": {SCRIPTED: {"name": "Scripted", "limit": limit, "tool_call": true}},
        }},
    });
    let model = format!("chrysalis/{SCRIPTED}");
    let mut command = served.command(opencode);
    command
        .env("HOME", home.path())
        .env("OPENCODE_CONFIG_CONTENT", config.to_string())
        .env("OPENCODE_DISABLE_MODELS_FETCH", "1")
        .args(["run", "--model", &model, TASK]);
    for variable in [
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_CACHE_HOME",
        "XDG_STATE_HOME",
    ] {
        command.env(variable, home.path().join(variable));
    }
    check(&served, &mut command, work.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it fetches packages from npm"]
async fn claude_code_makes_a_file_over_messages() {
    let arguments = json!({"command": COMMAND, "description": "Writes the file"});
    let served = Served::start(script("Bash", &arguments)).await;
    let fetched = Fetched::open();
    let claude = fetched
        .node(&["@anthropic-ai/claude-code"])
        .join("node_modules/.bin/claude");
    let (home, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut command = served.command(claude);
    command
        .env("HOME", home.path())
        .env("ANTHROPIC_BASE_URL", served.url.trim_end_matches("/v1"))
        .env("ANTHROPIC_API_KEY", &served.key)
        .env("ANTHROPIC_DEFAULT_HAIKU_MODEL", SCRIPTED)
        .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
        .env("DISABLE_AUTOUPDATER", "1")
        .args(["-p", TASK, "--model", SCRIPTED, "--allowedTools", "Bash"]);
    check(&served, &mut command, work.path()).await;
}
