//! `chrysalis chat`: a conversation over the sealed path, line by line.
//!
//! A question and its answer join the conversation once the answer is verified and paid; what was cancelled or failed
//! leaves no trace in it. Standard output has the answers alone, so that it works in a pipe; everything else is told on
//! standard error. Ctrl-C cancels an answer, and pressed again it ends the program.

use super::{pick, prompt};
use crate::Endpoint;
use crate::client::{Answer, Client};
use crate::error::ClientError;
use crate::files::write_new;
use crate::limits::{CANCEL_GRACE, REQUEST_BYTES_MAX};
use crate::objects::{root_words, x_job};
use crate::trust::Platform;
use anyhow::Context;
use serde_json::{Value, json};
use settlement::Nano;
use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use wire::ReceiptDigest;

/// What `chat` is told on the command line.
pub(super) struct ChatOptions {
    pub(super) model: Option<String>,
    pub(super) system: Option<String>,
    pub(super) max_tokens: Option<u32>,
}

const HELP: &str = "\
/price        what this model costs, and what was spent here
/proof [FILE] write the proof of the last answer, for `chrysalis verify`
/new          forget the conversation
/quit         end (also Ctrl-D); Ctrl-C cancels an answer
//TEXT        say /TEXT";

/// All of standard input is one question; the answer is one JSON object.
pub(super) async fn once(client: &Client, options: ChatOptions) -> anyhow::Result<()> {
    let text = prompt()?;
    let talk = Conversation::begin(client, options).await?;
    let body = talk.body(text.trim_end_matches(['\r', '\n']));
    let answer = client.chat(&body, &mut |_| ()).await?;
    println!("{}", chat_object(&answer));
    talk.tell_cost(&answer);
    Ok(())
}

/// Each line of standard input is a question.
pub(super) async fn lines(client: &Client, options: ChatOptions) -> anyhow::Result<()> {
    let mut talk = Conversation::begin(client, options).await?;
    let at_terminal = std::io::stdin().is_terminal();
    if at_terminal {
        talk.introduce().await?;
    }
    let mut input = read_lines();
    let (mut asked, mut warned) = (false, false);
    loop {
        if at_terminal {
            eprint!("> ");
        }
        let line = tokio::select! {
            line = input.recv() => line,
            _ = tokio::signal::ctrl_c() => {
                if warned {
                    break;
                }
                warned = true;
                eprintln!("\nCtrl-C again ends; so does /quit");
                continue;
            }
        };
        let Some(line) = line else { break };
        let line = line.context("reading standard input")?;
        let line = line.trim_end_matches(['\r', '\n']);
        warned = false;
        let said = match line.strip_prefix('/') {
            Some(rest) if rest.starts_with('/') => rest,
            Some("quit") => break,
            Some(command) => {
                asked = true;
                talk.command(command).await;
                continue;
            }
            None if line.trim().is_empty() => continue,
            None => line,
        };
        asked = true;
        match talk.ask(said).await {
            Ok(Said::Whole) => {}
            Ok(Said::Cancelled) => warned = true,
            Err(error) if at_terminal => eprintln!("chrysalis: {error}"),
            Err(error) => {
                client.settle_cancelled().await;
                return Err(error.into());
            }
        }
    }
    client.settle_cancelled().await;
    anyhow::ensure!(
        asked || at_terminal,
        "standard input is empty: each of its lines is a question"
    );
    Ok(())
}

enum Said {
    Whole,
    Cancelled,
}

struct Conversation<'a> {
    client: &'a Client,
    model: String,
    max_tokens: Option<u32>,
    system: Option<String>,
    messages: Vec<Value>,
    last: Option<ReceiptDigest>,
    spent: Nano,
    // Where a terminal shows the answer, a model could steer it with control characters.
    is_shown: bool,
}

impl Conversation<'_> {
    async fn begin(client: &Client, options: ChatOptions) -> anyhow::Result<Conversation<'_>> {
        let mut conversation = Conversation {
            client,
            model: pick(client, options.model, Endpoint::Chat).await?,
            max_tokens: options.max_tokens,
            system: options.system,
            messages: Vec::new(),
            last: None,
            spent: Nano(0),
            is_shown: std::io::stdout().is_terminal(),
        };
        conversation.forget();
        Ok(conversation)
    }

    fn forget(&mut self) {
        let system = self.system.iter();
        self.messages = system
            .map(|text| json!({"role": "system", "content": text}))
            .collect();
    }

    async fn introduce(&self) -> Result<(), ClientError> {
        let session = self.client.session().await?;
        let peer = session.worker().peer();
        eprintln!(
            "worker verified: the quote leads to {}",
            root_words(peer.root)
        );
        let seen = match session.platform() {
            Platform::First => "the first one seen here",
            Platform::Known => "seen before",
            Platform::Another => "NOT one of those seen before",
        };
        eprintln!(
            "platform  {}, PPID {} ({seen})",
            peer.tcb_status,
            hex::encode(&peer.ppid)
        );
        if let Some(offer) = session.keyset().model(&self.model) {
            eprintln!("model     {} root {}", offer.id, offer.root);
        }
        eprintln!("sealed to this worker; an answer is verified at its end. /help lists commands");
        Ok(())
    }

    fn body(&self, question: &str) -> Value {
        let mut messages = self.messages.clone();
        messages.push(json!({"role": "user", "content": question}));
        let mut body = json!({"model": self.model, "messages": messages});
        if let Some(max) = self.max_tokens {
            body["max_tokens"] = max.into();
        }
        body
    }

    async fn ask(&mut self, question: &str) -> Result<Said, ClientError> {
        let body = self.body(question);
        let is_shown = self.is_shown;
        let mut thinks = false;
        let mut sink = |event: &Value| {
            let delta = &event["choices"][0]["delta"];
            // Its thought is for whoever watches, and no part of the answer.
            if let (true, Some(chunk)) = (is_shown, delta["reasoning_content"].as_str()) {
                thinks = true;
                eprint!("{}", without_controls(chunk));
            }
            if let Some(chunk) = delta["content"].as_str().filter(|chunk| !chunk.is_empty()) {
                if std::mem::take(&mut thinks) {
                    eprintln!("\n");
                }
                let clean = if is_shown {
                    without_controls(chunk)
                } else {
                    chunk.into()
                };
                print!("{clean}");
                // A closed pipe is the reader's affair; the answer is still verified and paid.
                let _ = std::io::stdout().flush();
            }
        };
        // Dropping the answer cancels its job at the worker.
        let answer = tokio::select! {
            answer = self.client.chat(&body, &mut sink) => answer,
            _ = tokio::signal::ctrl_c() => {
                println!();
                eprintln!("cancelled, and not verified; what was made until now is paid. Ctrl-C again ends");
                return Ok(Said::Cancelled);
            }
        };
        println!();
        let answer = answer?;
        self.messages
            .push(json!({"role": "user", "content": question}));
        self.messages
            .push(json!({"role": "assistant", "content": answer.text}));
        self.last = Some(answer.payment.receipt);
        self.spent = Nano(self.spent.0.saturating_add(answer.payment.cost.0));
        self.tell_cost(&answer);
        Ok(Said::Whole)
    }

    fn tell_cost(&self, answer: &Answer) {
        eprintln!(
            "verified: receipt {}, {} + {} tokens, {} paid from the channel",
            answer.payment.receipt,
            answer.usage.prompt,
            answer.usage.completion,
            answer.payment.cost.in_ton()
        );
    }

    async fn command(&mut self, command: &str) {
        let (name, argument) = command.split_once(' ').unwrap_or((command, ""));
        let done = match (name, argument.trim()) {
            ("help", "") => {
                eprintln!("{HELP}");
                Ok(())
            }
            ("new", "") => {
                self.forget();
                Ok(())
            }
            ("price", "") => self.price().await,
            ("proof", file) => self.proof(file),
            _ => Err(anyhow::anyhow!(
                "no such command; /help lists them, and // says a line that begins with /"
            )),
        };
        if let Err(error) = done {
            eprintln!("chrysalis: {}", super::told(&error));
        }
    }

    async fn price(&self) -> anyhow::Result<()> {
        let session = self.client.session().await?;
        let offer = session.keyset().model(&self.model);
        let offer = offer.context("the worker no longer offers this model")?;
        let (prices, deposit) = (&offer.prices, session.channel().state.deposit);
        let promised = self.client.budget().cumulative()?;
        let left = Nano(deposit.0.saturating_sub(promised.0));
        eprintln!(
            "prompt      {} for a million tokens",
            prices.prompt.in_ton()
        );
        eprintln!(
            "completion  {} for a million tokens",
            prices.completion.in_ton()
        );
        eprintln!(
            "each job    rounded up to {}",
            session.keyset().price_step.in_ton()
        );
        eprintln!("spent here  {}", self.spent.in_ton());
        eprintln!(
            "left        {} of the channel's {}",
            left.in_ton(),
            deposit.in_ton()
        );
        Ok(())
    }

    fn proof(&self, file: &str) -> anyhow::Result<()> {
        let last = self.last.context("nothing was answered yet")?;
        let proof = self.client.budget().proof(&last)?;
        let named = match file {
            "" => format!("{last}.proof"),
            file => file.into(),
        };
        write_new(Path::new(&named), &proof.encode())?;
        eprintln!("{named}: evidence, receipt and voucher, without the text");
        Ok(())
    }
}

impl Client {
    /// Waits a moment for what cancelled jobs made to be fetched and paid. Ctrl-C ends the wait: it stays set aside then.
    async fn settle_cancelled(&self) {
        let until = Instant::now() + CANCEL_GRACE;
        let settled = async {
            while self.budget().in_flight() > Nano(0) && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            () = settled => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
}

/// Lines as they come, each of a bounded length. The thread waits for the terminal and is not waited for.
fn read_lines() -> mpsc::Receiver<std::io::Result<String>> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        loop {
            let mut line = String::new();
            let most = REQUEST_BYTES_MAX as u64;
            let read = (&mut input).take(most + 1).read_line(&mut line);
            let line = match read {
                Ok(0) => return,
                Ok(read) if read as u64 > most => Err(std::io::Error::other(format!(
                    "a line has more than {most} bytes"
                ))),
                Ok(_) => Ok(line),
                Err(error) => Err(error),
            };
            let failed = line.is_err();
            if sender.blocking_send(line).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// Text without what a terminal obeys, but for line ends and tabs.
fn without_controls(text: &str) -> String {
    let is_plain = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
    text.chars().filter(is_plain).collect()
}

fn chat_object(answer: &Answer) -> Value {
    json!({
        "text": answer.text,
        "tokens": answer.usage.completion,
        "prompt_tokens": answer.usage.prompt,
        "delivered": answer.delivered,
        "first_token_ms": answer.first_token.as_millis() as u64,
        "total_ms": answer.total.as_millis() as u64,
        "x_job": x_job(answer),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_cannot_steer_the_terminal() {
        let hostile = "a\u{1b}[2J\u{9b}31mb\u{7}\r\n\tc\u{8}";
        assert_eq!(without_controls(hostile), "a[2J31mb\n\tc");
        assert_eq!(without_controls("grüße, 世界"), "grüße, 世界");
    }
}
