//! QEMU's control socket: lines of JSON, answers and events mixed (QEMU Machine Protocol Specification).
//!
//! The guest may have taken over QEMU, which can then end the launch and lie about the guest, as it could anyway; it cannot
//! make this program hold more than one bounded line and a bounded number of events.

use crate::error::{Context, Error, Fault};
use crate::limits::{QMP_ANSWER, QMP_EVENTS_MAX, QMP_LINE_BYTES_MAX};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// A connection that has been through the greeting.
#[derive(Debug)]
pub(super) struct Qmp {
    stream: UnixStream,
    lines: Lines,
    events: VecDeque<Event>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) name: String,
    /// `data.reason`, which SHUTDOWN has.
    pub(super) reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Message {
    Greeting,
    Return(Value),
    Error(String),
    Event(Event),
}

impl Qmp {
    /// Connects, reads the greeting and leaves the mode in which only capabilities may be set.
    pub(super) async fn connect(path: &Path) -> Result<Self, Error> {
        let mut qmp = Qmp {
            stream: UnixStream::connect(path)
                .await
                .context(Fault::Host, socket)?,
            lines: Lines::default(),
            events: VecDeque::new(),
        };
        let greeting = timeout(QMP_ANSWER, qmp.message()).await;
        if greeting.context(Fault::Host, socket)?? != Message::Greeting {
            return Err(malformed("no greeting"));
        }
        qmp.execute("qmp_capabilities").await?;
        Ok(qmp)
    }

    /// Sends a command and returns its answer. Events that come before it are kept.
    pub(super) async fn execute(&mut self, command: &'static str) -> Result<Value, Error> {
        let asking = async {
            let line = format!("{}\n", json!({ "execute": command }));
            let written = self.stream.write_all(line.as_bytes()).await;
            written.context(Fault::Host, socket)?;
            loop {
                match self.message().await? {
                    Message::Return(value) => return Ok(value),
                    Message::Error(class) => {
                        let words = format!("QEMU refuses {command}: {class}");
                        return Err(Error::new(Fault::Host, words));
                    }
                    Message::Event(event) if self.events.len() < QMP_EVENTS_MAX => {
                        self.events.push_back(event)
                    }
                    Message::Event(_) => return Err(malformed("too many events")),
                    Message::Greeting => return Err(malformed("a second greeting")),
                }
            }
        };
        timeout(QMP_ANSWER, asking)
            .await
            .context(Fault::Host, socket)?
    }

    /// QEMU's run state: `running`, `internal-error`, `shutdown`, ...
    pub(super) async fn status(&mut self) -> Result<String, Error> {
        let answer = self.execute("query-status").await?;
        let status = answer.get("status").and_then(Value::as_str);
        Ok(status.ok_or_else(|| malformed("no status"))?.to_owned())
    }

    /// Waits for the next event. Nothing is lost when the waiting is given up.
    pub(super) async fn event(&mut self) -> Result<Event, Error> {
        if let Some(event) = self.events.pop_front() {
            return Ok(event);
        }
        loop {
            if let Message::Event(event) = self.message().await? {
                return Ok(event);
            }
        }
    }

    async fn message(&mut self) -> Result<Message, Error> {
        let mut chunk = [0; 4096];
        loop {
            if let Some(line) = self.lines.next()? {
                return parse(&line);
            }
            let read = self.stream.read(&mut chunk).await;
            match read.context(Fault::Host, socket)? {
                0 => return Err(malformed("the end of the stream")),
                got => self.lines.push(&chunk[..got]),
            }
        }
    }
}

/// Bytes in, lines out. Holds one line and one read at most.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let end = self
            .0
            .iter()
            .take(QMP_LINE_BYTES_MAX)
            .position(|&byte| byte == b'\n');
        match end {
            Some(end) => Ok(Some(self.0.drain(..=end).collect())),
            None if self.0.len() >= QMP_LINE_BYTES_MAX => Err(malformed("a line without end")),
            None => Ok(None),
        }
    }
}

fn parse(line: &[u8]) -> Result<Message, Error> {
    let mut object: Map<String, Value> =
        serde_json::from_slice(line).map_err(|_| malformed("a line that is not JSON"))?;
    let word = |value: Option<&Value>| value.and_then(Value::as_str).map(plain);
    if let Some(name) = object.get("event") {
        let reason = object.get("data").and_then(|data| data.get("reason"));
        return Ok(Message::Event(Event {
            name: word(Some(name)).ok_or_else(|| malformed("an event without a name"))?,
            reason: word(reason),
        }));
    }
    if let Some(error) = object.get("error") {
        return Ok(Message::Error(word(error.get("class")).unwrap_or_default()));
    }
    if let Some(value) = object.remove("return") {
        return Ok(Message::Return(value));
    }
    match object.contains_key("QMP") {
        true => Ok(Message::Greeting),
        false => Err(malformed("neither an answer nor an event")),
    }
}

/// Without characters that could disturb a terminal.
fn plain(word: &str) -> String {
    let kept = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    word.chars().filter(kept).take(64).collect()
}

fn socket() -> &'static str {
    "QEMU's control socket"
}

fn malformed(what: &str) -> Error {
    Error::new(Fault::Host, format!("QEMU's control socket sent {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    // As QEMU 10.0 prints them.
    const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"micro": 13, "minor": 0, "major": 10}, "package": "Debian"}, "capabilities": ["oob"]}}"#;
    const SHUTDOWN: &str = r#"{"timestamp": {"seconds": 1763840000, "microseconds": 4}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}"#;

    fn shutdown() -> Event {
        Event {
            name: "SHUTDOWN".into(),
            reason: Some("guest-reset".into()),
        }
    }

    #[test]
    fn answers_and_events_are_told_apart() {
        let check =
            |line: &str, expected| assert_eq!(parse(line.as_bytes()).ok(), expected, "{line}");
        check(GREETING, Some(Message::Greeting));
        check(SHUTDOWN, Some(Message::Event(shutdown())));
        check(r#"{"return": {}}"#, Some(Message::Return(json!({}))));
        check(
            r#"{"error": {"class": "CommandNotFound", "desc": "x"}}"#,
            Some(Message::Error("CommandNotFound".into())),
        );
        let stop = Event {
            name: "STOP".into(),
            reason: None,
        };
        check(
            r#"{"event": "STOP", "data": 7}"#,
            Some(Message::Event(stop)),
        );
        for line in [
            "",
            "7",
            "[]",
            "null",
            "{}",
            r#"{"event": 1}"#,
            r#"{"id": 1}"#,
            "{\"return\": {}} x",
        ] {
            check(line, None);
        }
    }

    #[test]
    fn no_flip_and_no_cut_makes_the_parser_panic() {
        for line in [GREETING, SHUTDOWN] {
            for at in 0..line.len() {
                let _ = parse(&line.as_bytes()[..at]);
                for bit in 0..8 {
                    let mut flipped = line.as_bytes().to_vec();
                    flipped[at] ^= 1 << bit;
                    if let Ok(Message::Event(event)) = parse(&flipped) {
                        assert!(event.name.is_ascii());
                    }
                }
            }
        }
        let deep = format!(r#"{{"return": {}}}"#, "[".repeat(60_000));
        assert!(parse(deep.as_bytes()).is_err());
    }

    #[test]
    fn a_line_has_a_limit_however_it_arrives() {
        let mut lines = Lines::default();
        for _ in 0..QMP_LINE_BYTES_MAX - 1 {
            lines.push(b"x");
        }
        assert!(matches!(lines.next(), Ok(None)));
        lines.push(b"\n{}\n{");
        assert_eq!(
            lines.next().unwrap().map(|line| line.len()),
            Some(QMP_LINE_BYTES_MAX)
        );
        assert_eq!(lines.next().unwrap(), Some(b"{}\n".to_vec()));
        assert!(matches!(lines.next(), Ok(None)));
        lines.push(&vec![b'x'; QMP_LINE_BYTES_MAX]);
        assert!(lines.next().is_err());
    }

    /// A QEMU that answers each line it gets with the next of `answers`.
    async fn played(answers: Vec<String>) -> Result<Qmp, Error> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("qmp.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("one connection");
            for (at, answer) in answers.iter().enumerate() {
                let mut asked = [0; 256];
                // The greeting comes unasked. The test may have ended.
                if at > 0 {
                    let _ = stream.read(&mut asked).await;
                }
                let _ = stream.write_all(format!("{answer}\r\n").as_bytes()).await;
            }
        });
        Qmp::connect(&path).await
    }

    #[tokio::test]
    async fn an_event_before_an_answer_is_kept() {
        let between = format!("{SHUTDOWN}\n{{\"return\": {{\"status\": \"internal-error\"}}}}");
        let answers = vec![GREETING.into(), r#"{"return": {}}"#.into(), between];
        let mut qmp = played(answers).await.expect("connected");
        assert_eq!(qmp.status().await.expect("a status"), "internal-error");
        assert_eq!(qmp.event().await.expect("an event"), shutdown());
        assert!(qmp.event().await.is_err(), "the socket is closed");
    }

    #[tokio::test]
    async fn what_does_not_greet_or_floods_is_refused() {
        assert!(played(vec![r#"{"return": {}}"#.into()]).await.is_err());
        let refused = r#"{"error": {"class": "GenericError"}}"#;
        let error = played(vec![GREETING.into(), refused.into()])
            .await
            .expect_err("refused");
        assert_eq!(
            error.to_string(),
            "QEMU refuses qmp_capabilities: GenericError"
        );
        let flood = [SHUTDOWN].repeat(QMP_EVENTS_MAX + 1).join("\n");
        let error = played(vec![GREETING.into(), flood])
            .await
            .expect_err("refused");
        assert!(error.to_string().contains("too many events"), "{error}");
    }
}
