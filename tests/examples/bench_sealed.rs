//! What sealing, attestation, receipts and payment cost an application: `chrysalis serve` and the guest behind it, against the same
//! engine called over plain HTTP.
//!
//!     cargo run --release -p tests --example bench_sealed -- 5 10
//!
//! The first number is rounds, the second the milliseconds between two records of a sealed answer, a third the chats of a round's load
//! (24). With `apart` behind them the engine, in the guest or plain, has the first processor alone, and all others of both sides share
//! the rest: as where a client is another machine and a proxy has a host's processors. The plain side is part of this
//! benchmark and of nothing that is shipped: text in, text out, one thread for each connection, the guest's scheduler, models and
//! number of threads. Both answer the same requests in turns, and must give the same text. `SealedPath` is a stack of processes:
//! ledger here, simulator, guest, proxy and sidecar; all on this machine's processors, which only the sealed side has to share.

use anyhow::{Context, bail, ensure};
use demo::Guest;
use engine::scheduler::{Driver, Event, Limits, Tokens};
use engine::{
    Embedder, Kernels, Kind, Memory, Packing, Room, Served, kernels_of, sampling, weights,
};
use image_builder::lock::ModelLock;
use image_builder::store::{Store, ensure_models};
use model::text::{Message, Text};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use tests::report::Steps;
use tests::stack::{CHAT, EMBEDDER};
use tests::{Programs, Stack, StackOptions, scenario};

const TOKENS: u32 = 200;
/// Tokens of the chat model's context in a stack.
const CONTEXT: usize = 256;
/// Clients of the load.
const AT_ONCE: usize = 4;
/// Embeddings of a load for one of its chats.
const VECTORS: usize = 16;

fn main() -> anyhow::Result<()> {
    let number = |at: usize, usual: u16| -> anyhow::Result<u16> {
        let word = std::env::args().nth(at);
        word.map_or(Ok(usual), |word| word.parse().context("a number"))
    };
    let (rounds, interval_ms, chats) = (number(1, 5)?, number(2, 10)?, number(3, 24)?);
    let apart = std::env::args().nth(4).is_some_and(|word| word == "apart");
    let programs = Programs::beside_this_one()?;
    programs.build(Guest::Process)?;
    let models = ensure_models(
        &Store::from_environment().context("a home directory, or CHRYSALIS_STORE")?,
        &ModelLock::committed(),
        &mut |_| (),
    )?;
    if apart {
        // What starts now inherits it.
        sched_setaffinity(Pid::from_raw(0), &processors(0..1)?)?;
    }
    let plain = plain::start(&models)?;
    let runtime = tokio::runtime::Runtime::new()?;
    // A token is worth less here than elsewhere, so that one channel is enough.
    let options = StackOptions {
        measured: vec![
            ("/interval_ms", json!(interval_ms)),
            ("/price_step_nano", json!(16_000)),
            ("/models/0/prompt_nano", json!(1_000_000_000)),
            ("/models/1/prompt_nano", json!(1_000_000_000)),
            ("/models/1/completion_nano", json!(1_000_000_000)),
        ],
        ..StackOptions::default()
    };
    let stack = runtime.block_on(Stack::start(programs, &models, options))?;
    scenario::open_channel(&stack, &mut Steps::quiet())?;
    // And so little is set aside for a job that four fit.
    let config = std::fs::read_to_string(stack.client_config())?;
    let config = config.replace("cost_max_nano: 400000000", "cost_max_nano: 5000000");
    std::fs::write(stack.client_config(), config)?;
    if apart {
        move_away()?;
    }
    let mut sealed = SealedPath::start(&stack)?;
    let compared = compare(plain, sealed.address, rounds, chats.into());
    sealed.child.kill()?;
    sealed.child.wait()?;
    compared
}

fn processors(which: Range<usize>) -> anyhow::Result<CpuSet> {
    let mut set = CpuSet::new();
    which.into_iter().try_for_each(|one| set.set(one))?;
    Ok(set)
}

/// Gives this thread, from which the load starts, and all children but the guest the other processors. The plain side's threads stay.
fn move_away() -> anyhow::Result<()> {
    let all = std::fs::read_to_string("/proc/cpuinfo")?;
    let others = processors(1..all.matches("processor\t").count())?;
    sched_setaffinity(Pid::from_raw(0), &others)?;
    for process in own_processes()? {
        if process.id == std::process::id() || process.name.starts_with("guest-agent") {
            continue;
        }
        for thread in std::fs::read_dir(format!("/proc/{}/task", process.id))? {
            let id = thread?.file_name().to_string_lossy().parse()?;
            sched_setaffinity(Pid::from_raw(id), &others)?;
        }
    }
    Ok(())
}

/// This program, or a child of it.
struct Process {
    id: u32,
    name: String,
    /// What it has computed so far.
    processor_ms: f64,
}

fn own_processes() -> anyhow::Result<Vec<Process>> {
    let own = std::process::id();
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let id = entry.file_name().to_string_lossy().parse();
        let stat = std::fs::read_to_string(entry.path().join("stat"));
        // Others come and go.
        let (Ok(id), Ok(stat)) = (id, stat) else {
            continue;
        };
        let (before, fields) = stat.rsplit_once(") ").context("proc_pid_stat(5)")?;
        let (_, name) = before.split_once(" (").context("a name")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        if id == own || fields[1].parse() == Ok(own) {
            // utime and stime, in hundredths of a second.
            let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
            all.push(Process {
                id,
                name: name.to_owned(),
                processor_ms: 10.0 * ticks,
            });
        }
    }
    Ok(all)
}

/// The sidecar, which ends with this.
struct SealedPath {
    child: Child,
    address: SocketAddr,
}

impl SealedPath {
    fn start(stack: &Stack) -> anyhow::Result<Self> {
        let mut child = Command::new(stack.program("chrysalis"))
            .args(["serve", "--open", "--listen", "127.0.0.1:0"])
            .args(["--insecure-test-root", "sim/root.der"])
            .args(["--config", "client.yaml"])
            .current_dir(stack.dir.path())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("it is piped")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().trim_start_matches("http://");
        let address = address.trim_end_matches("/v1").parse();
        Ok(SealedPath {
            child,
            address: address.with_context(|| format!("the sidecar said {line}"))?,
        })
    }
}

/// What one answer took.
struct Timed {
    first_token: Duration,
    whole: Duration,
    body: String,
}

fn compare(plain: SocketAddr, sealed: SocketAddr, rounds: u16, chats: usize) -> anyhow::Result<()> {
    let sides = [plain, sealed];
    let chat = json!({"model": CHAT, "temperature": 0, "max_tokens": TOKENS, "stream": true,
        "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "Tell a very long story about a river and its town."}]});
    let sentence = "The orchestra tuned its violins before the concert in the old hall. ";
    let input: String = sentence.chars().cycle().take(1024).collect();
    let vector = json!({"model": EMBEDDER, "input": input});
    // Everything is warm afterwards, and both say the same.
    let [one, other] = sides.map(|side| ask(side, "/v1/chat/completions", &chat));
    ensure!(
        said(&one?.body)? == said(&other?.body)?,
        "the two answers differ"
    );
    let [one, other] = sides.map(|side| ask(side, "/v1/embeddings", &vector));
    ensure!(
        numbers(&one?.body)? == numbers(&other?.body)?,
        "the two vectors differ"
    );

    let mut table = [const { Vec::new() }; 4];
    let mut computed = [BTreeMap::new(), BTreeMap::new()];
    for round in 0..rounds {
        let mut figures = [[0.0; 4]; 2];
        // Every second round begins with the other side.
        for at in [round % 2, 1 - round % 2].map(usize::from) {
            figures[at] = measure(sides[at], &chat, &vector, chats, &mut computed[at])?;
        }
        let [plain, sealed] = figures;
        for (row, of) in table.iter_mut().enumerate() {
            of.push((plain[row], sealed[row]));
        }
    }
    println!(
        "| what | plain, median | sealed, median | sealed - plain | sealed / plain, of each round |"
    );
    println!("|---|---|---|---|---|");
    let rows = [
        "first token, ms",
        "chat, tokens/s, one by one",
        "chat, tokens/s, four at once",
        "embeddings of 1 KiB, /s, four at once",
    ];
    for (what, pairs) in rows.iter().zip(&table) {
        let median = |of: &dyn Fn(&(f64, f64)) -> f64| {
            let mut all: Vec<f64> = pairs.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            (all[0], all[all.len() / 2], all[all.len() - 1])
        };
        let (least, ratio, most) = median(&|(plain, sealed)| sealed / plain);
        println!(
            "| {what} | {:.2} | {:.2} | {:.2} | {ratio:.3} ({least:.3} to {most:.3}) |",
            median(&|pair| pair.0).1,
            median(&|pair| pair.1).1,
            median(&|(plain, sealed)| sealed - plain).1
        );
    }
    for (side, by_program) in ["plain", "sealed"].iter().zip(computed) {
        let jobs = f64::from(rounds) * (VECTORS * chats) as f64;
        let each = by_program.iter();
        let each = each.map(|(name, ms)| format!("{name} {:.2}", ms / jobs));
        let each: Vec<String> = each.collect();
        println!(
            "processor time of an embedding, {side}, in ms: {}",
            each.join(", ")
        );
    }
    Ok(())
}

/// Of one side: median of first tokens in ms, tokens a second alone and under load, embeddings a second under load; and what these
/// embeddings took of the processors.
fn measure(
    side: SocketAddr,
    chat: &Value,
    vector: &Value,
    chats: usize,
    computed: &mut BTreeMap<String, f64>,
) -> anyhow::Result<[f64; 4]> {
    let one_by_one = chats.div_ceil(2);
    let mut first = Vec::new();
    let began = Instant::now();
    for _ in 0..one_by_one {
        let timed = ask(side, "/v1/chat/completions", chat)?;
        ensure!(
            timed.whole > timed.first_token && timed.body.contains("[DONE]"),
            "a whole answer"
        );
        first.push(timed.first_token.as_secs_f64() * 1000.0);
    }
    first.sort_by(f64::total_cmp);
    let alone = f64::from(TOKENS) * one_by_one as f64 / began.elapsed().as_secs_f64();
    let loaded = f64::from(TOKENS) * load(side, "/v1/chat/completions", chat, chats)?;
    let before = own_processes()?;
    let vectors = load(side, "/v1/embeddings", vector, VECTORS * chats)?;
    for process in before {
        *computed.entry(process.name).or_default() -= process.processor_ms;
    }
    for process in own_processes()? {
        *computed.entry(process.name).or_default() += process.processor_ms;
    }
    Ok([first[one_by_one / 2], alone, loaded, vectors])
}

/// Answers a second, of [`AT_ONCE`] clients.
fn load(side: SocketAddr, path: &str, body: &Value, jobs: usize) -> anyhow::Result<f64> {
    let began = Instant::now();
    std::thread::scope(|threads| {
        let client = |_| {
            threads.spawn(|| (0..jobs / AT_ONCE).try_for_each(|_| ask(side, path, body).map(drop)))
        };
        let clients: Vec<_> = (0..AT_ONCE).map(client).collect();
        let mut ended = clients
            .into_iter()
            .map(|client| client.join().expect("no panic"));
        ended.try_for_each(|client| client)
    })?;
    Ok(jobs as f64 / began.elapsed().as_secs_f64())
}

/// One request over a connection of its own.
fn ask(side: SocketAddr, path: &str, body: &Value) -> anyhow::Result<Timed> {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {side}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let began = Instant::now();
    let mut stream = TcpStream::connect(side)?;
    stream.set_nodelay(true)?;
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut chunk, mut first_token) = (Vec::new(), [0; 16 * 1024], None);
    loop {
        let got = stream.read(&mut chunk)?;
        if got == 0 {
            break;
        }
        answer.extend_from_slice(&chunk[..got]);
        if first_token.is_none() && has_token(&answer) {
            first_token = Some(began.elapsed());
        }
    }
    let whole = began.elapsed();
    let body = String::from_utf8(answer).context("text")?;
    ensure!(body.starts_with("HTTP/1.1 200"), "{side}: {body}");
    Ok(Timed {
        first_token: first_token.unwrap_or(whole),
        whole,
        body,
    })
}

/// Whether some text of a stream is there.
fn has_token(answer: &[u8]) -> bool {
    const CONTENT: &[u8] = br#""content":""#;
    let texts = answer.windows(CONTENT.len() + 1);
    { texts }.any(|text| text.starts_with(CONTENT) && text.last() != Some(&b'"'))
}

/// The objects in a body, whatever lies between them: heads of chunks, `data: `, `[DONE]`.
fn objects(body: &str) -> impl Iterator<Item = Value> {
    let lines = body.lines().map(|line| line.trim_start_matches("data: "));
    lines.filter_map(|line| serde_json::from_str(line).ok())
}

/// A stream's text, of as many tokens as were asked for.
fn said(body: &str) -> anyhow::Result<String> {
    let (mut text, mut tokens) = (String::new(), Value::Null);
    for chunk in objects(body).filter(Value::is_object) {
        text += chunk["choices"][0]["delta"]["content"]
            .as_str()
            .unwrap_or_default();
        if chunk["usage"].is_object() {
            tokens = chunk["usage"]["completion_tokens"].clone();
        }
    }
    ensure!(tokens == TOKENS, "{tokens} tokens: {body}");
    Ok(text)
}

fn numbers(body: &str) -> anyhow::Result<Value> {
    let answer = objects(body).find(Value::is_object).context("an object")?;
    let numbers = answer["data"][0]["embedding"].clone();
    ensure!(numbers.is_array(), "{body}");
    Ok(numbers)
}

/// The plain side.
mod plain {
    use super::*;

    struct Plain {
        driver: Driver,
        tokens: Tokens,
        chat: Text,
        embedder: Embedder,
        embedded: Text,
    }

    /// Loads both models as the guest does, and serves.
    pub fn start(models: &Path) -> anyhow::Result<SocketAddr> {
        let kernels: Arc<Kernels> = Arc::new(kernels_of(None)?);
        let memory = Memory::available();
        let files = weights::read(&models.join(CHAT))?;
        let chat = Text::of_chat(&files)?;
        let room = Room {
            kv_bytes: None,
            context_max: CONTEXT,
            weights: None,
        };
        let served = Served::load(&files, kernels.clone(), &room, &memory)?;
        let files = weights::read(&models.join(EMBEDDER))?;
        let plain = Arc::new(Plain {
            tokens: served.tokens.clone(),
            driver: Driver::start(served.forward, served.tokens, Limits::default())?,
            chat,
            embedder: Embedder::load_on(&files, kernels, Packing::All(Kind::F32), &memory)?,
            embedded: Text::of_embedder(&files)?,
        });
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let plain = plain.clone();
                std::thread::spawn(move || {
                    if let Err(error) = plain.serve(stream) {
                        eprintln!("the plain side: {error:#}");
                    }
                });
            }
        });
        Ok(address)
    }

    impl Plain {
        fn serve(&self, stream: TcpStream) -> anyhow::Result<()> {
            stream.set_nodelay(true)?;
            let mut reader = BufReader::new(stream);
            let (mut path, mut length) = (String::new(), 0);
            for number in 0.. {
                let mut line = String::new();
                reader.read_line(&mut line)?;
                let line = line.trim();
                if number == 0 {
                    path = line.split(' ').nth(1).context("a path")?.to_owned();
                } else if let Some(of) = line.strip_prefix("content-length: ") {
                    length = of.parse()?;
                } else if line.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            let (body, mut stream) = (serde_json::from_slice(&body)?, reader.into_inner());
            match path.as_str() {
                "/v1/chat/completions" => self.chat(&body, &mut stream),
                "/v1/embeddings" => {
                    let input = body["input"].as_str().context("input")?;
                    let vector = self.embedder.embed(&self.embedded.to_embed(input)?)?;
                    let answer = json!({"data": [{"embedding": vector}]});
                    Ok(write!(
                        stream,
                        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{answer}"
                    )?)
                }
                other => bail!("no {other}"),
            }
        }

        fn chat(&self, body: &Value, stream: &mut TcpStream) -> anyhow::Result<()> {
            let content = body["messages"][0]["content"].as_str().context("content")?;
            let message = Message {
                role: "user",
                content,
            };
            let prompt = self.chat.prompt(&[message])?;
            let most = body["max_tokens"].as_u64().context("max_tokens")?;
            let sampling = sampling::Sampling::greedy(most.try_into()?);
            let job = self.tokens.job(prompt, sampling, Default::default())?;
            let (tell, events) = channel();
            let listener = Box::new(move |event| match tell.send(event) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            });
            self.driver.submit(job, None, listener)?;
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n"
            )?;
            let (mut detokeniser, mut tokens) = (self.chat.detokeniser()?, 0);
            let mut say = |text: String| {
                let chunk = json!({"choices": [{"delta": {"content": text}}]});
                write!(stream, "data: {chunk}\n\n")
            };
            for event in events {
                match event {
                    Event::Token { token, .. } => {
                        tokens += 1;
                        say(detokeniser.push(token))?;
                    }
                    Event::Ended(_) => break,
                    Event::Started { .. } => {}
                    other => bail!("{other:?}"),
                }
            }
            say(detokeniser.finish())?;
            let last = json!({"choices": [], "usage": {"completion_tokens": tokens}});
            Ok(write!(stream, "data: {last}\n\ndata: [DONE]\n\n")?)
        }
    }
}
