//! A node that gives old answers, leaves items of lists out, doubles and reorders them, and gives values of another type: whatever it
//! does by its seed, the engine ends with errors that have a name, pays nothing twice, and pays all once the node is honest.

use super::*;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode, header::CONTENT_TYPE};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Of so many answers one is wrong.
const WRONG_OF: u64 = 4;

struct Hostile {
    behind: String,
    random: Mutex<u64>,
    /// The first answer to each question.
    old: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
}

impl Hostile {
    fn below(&self, end: u64) -> u64 {
        below(&mut self.random.lock().expect("no panics"), end)
    }

    async fn forward(&self, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.behind).await.expect("the node");
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let request = [head.as_bytes(), body].concat();
        stream.write_all(&request).await.expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("an answer");
        let end = answer.windows(4).position(|at| at == b"\r\n\r\n");
        let body = answer.split_off(end.expect("a head") + 4);
        let status = String::from_utf8_lossy(&answer)[9..12].parse();
        (status.expect("a status"), body)
    }

    /// Does one wrong thing to an answer.
    fn spoil(&self, question: &[u8], answer: Vec<u8>) -> Vec<u8> {
        let first = self.old.lock().expect("no panics").get(question).cloned();
        let Ok(mut value) = serde_json::from_slice::<Value>(&answer) else {
            return answer;
        };
        let kind = self.below(5);
        let (mut lists, mut scalars) = (Vec::new(), Vec::new());
        places(&value["result"], "/result".into(), &mut lists, &mut scalars);
        let places = if kind == 0 { &scalars } else { &lists };
        if kind == 4 || places.is_empty() {
            return first.unwrap_or(answer);
        }
        let place = &places[self.below(places.len() as u64) as usize];
        let spoilt = value.pointer_mut(place).expect("it is there");
        match (kind, spoilt) {
            (1, Value::Array(items)) => drop(items.remove(self.below(items.len() as u64) as usize)),
            (2, Value::Array(items)) => items.push(items[0].clone()),
            (_, Value::Array(items)) => items.reverse(),
            (_, scalar) => {
                *scalar =
                    [json!(true), json!({ "x": 1 }), json!([7])][self.below(3) as usize].clone()
            }
        }
        value.to_string().into_bytes()
    }
}

/// Where lists with something in them and single values are.
fn places(value: &Value, at: String, lists: &mut Vec<String>, scalars: &mut Vec<String>) {
    match value {
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                places(item, format!("{at}/{n}"), lists, scalars);
            }
            if !items.is_empty() {
                lists.push(at);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                places(field, format!("{at}/{name}"), lists, scalars);
            }
        }
        _ => scalars.push(at),
    }
}

async fn answer(State(hostile): State<Arc<Hostile>>, request: Request) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let body = to_bytes(request.into_body(), 1 << 20)
        .await
        .expect("a body");
    let question = [path.as_bytes(), &body].concat();
    let (status, mut answer) = hostile.forward(&path, &body).await;
    if status == 200 && hostile.below(WRONG_OF) == 0 {
        answer = hostile.spoil(&question, answer);
    }
    let mut old = hostile.old.lock().expect("no panics");
    old.entry(question).or_insert_with(|| answer.clone());
    Response::builder()
        .status(StatusCode::from_u16(status).expect("a status"))
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(answer))
        .expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_node_makes_no_wrong_payout_and_every_error_has_a_name() {
    let mut world = World::new(3, Faults::default(), seed()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let honest = std::mem::replace(&mut world.node, NodeUrl::parse(&url).expect("a url"));
    let hostile = Arc::new(Hostile {
        behind: honest.authority.clone(),
        random: Mutex::new(seed()),
        old: Mutex::default(),
    });
    let router = Router::new().fallback(answer).with_state(hostile.clone());
    tokio::spawn(async { axum::serve(listener, router).await });
    for round in 0..8 {
        for index in 0..3 {
            let more = 1 + world.below(40_000_000);
            world.promise(index, more);
        }
        let said = world.attempt("settle").await;
        let panicked = said.contains("panicked at") && !said.contains("could be settled");
        assert!(!panicked, "round {round}: {said}");
        for (terms, promised) in world.channels.iter().zip(&world.promised) {
            assert!(world.state(&terms.address()).paid.0 <= *promised);
        }
    }
    let questions = hostile.old.lock().expect("no panics").len();
    assert!(questions > 20, "{questions} questions are no attack");
    // The node is honest from here on, and the next claims put the books right.
    world.node = honest;
    for index in 0..3 {
        world.promise(index, 20_000_000);
    }
    world.run("settle", End::Done).await;
    world.check_paid_once();
}
