//! RTMR3 from lists of runtime events: this project's and dstack's.

use crate::common::vector;
use predict::rtmr3::{RuntimeError, events};
use registers::{Digest48, RuntimeEvent, replay};
use serde_json::{Value, json};

fn read(list: &Value) -> Result<Vec<RuntimeEvent>, RuntimeError> {
    events(list.to_string().as_bytes())
}

/// The runtime events of a real machine lead to RTMR3 of its quote, with their digests left out.
#[test]
fn rtmr3_of_a_real_dstack_guest_follows_from_names_and_payloads() {
    let Some(report) = vector("ccel/dstack/quote-report.json") else {
        return;
    };
    let report: Value = serde_json::from_slice(&report).unwrap();
    let log: Vec<Value> = serde_json::from_str(report["event_log"].as_str().unwrap()).unwrap();
    let mut runtime: Vec<Value> = log.into_iter().filter(|e| e["imr"] == 3).collect();
    let listed = runtime
        .iter()
        .map(|e| e["digest"].as_str().unwrap().parse().unwrap());
    let listed: Vec<Digest48> = listed.collect();
    for event in &mut runtime {
        event.as_object_mut().unwrap().remove("digest");
        event["version"] = 1.into();
    }
    let ours = read(&Value::from(runtime)).unwrap();
    assert!(ours.len() > 2);
    assert!(ours.iter().map(|event| event.digest).eq(listed));

    let quote = hex::decode(report["quote"].as_str().unwrap()).unwrap();
    let quoted = attest::Quote::parse(&quote).unwrap().td.registers.rtmr[3];
    assert_eq!(replay(&ours), quoted);
}

/// Expected: the bytes that each form hashes, written out.
#[test]
fn each_form_has_its_digest() {
    let ours = json!({"name": "agent", "digest": Digest48::of(b"agent")});
    let first = json!({"event": "app", "event_payload": "abcd", "version": 1});
    let second = json!({"event": "app\"", "event_payload": "abcd", "version": 2, "imr": 3, "event_type": 134217729});
    let read = read(&json!([ours, first, second])).unwrap();
    let names: Vec<&str> = read.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["agent", "app", "app\""]);
    let canonical = br#"{"event":"app\"","event_type":134217729,"payload":"abcd","version":2}"#;
    let expected = [
        Digest48::of(b"agent"),
        Digest48::of(b"\x01\0\0\x08:app:\xab\xcd"),
        Digest48::of(canonical),
    ];
    assert!(read.iter().map(|event| event.digest).eq(expected));
    assert_eq!(events(b"[]"), Ok(vec![]));
}

#[test]
fn nearby_entries_are_refused() {
    let refused = |key: &str, value: Value, what| {
        let mut entry = json!({"event": "app", "event_payload": "abcd", "version": 1});
        entry[key] = value;
        let good = json!({"name": "agent", "digest": Digest48::ZERO});
        let expected = RuntimeError::Event { event: 1, what };
        assert_eq!(read(&json!([good, entry])), Err(expected));
    };
    refused("imr", 2.into(), "is not of RTMR3");
    refused("event_type", 4.into(), "is not of dstack's runtime type");
    refused(
        "event_payload",
        "abc".into(),
        "has a payload that is not hexadecimal",
    );
    refused(
        "version",
        3.into(),
        "is of a version of dstack's that is not known",
    );
    let unsaid = "does not say its `version`, 1 or 2, which decides its digest";
    refused("version", Value::Null, unsaid);
    let colon = "has a colon in its name, which dstack's first form cannot tell from its end";
    refused("event", "a:b".into(), colon);
    let digest = "has a digest that is not that of its name and payload";
    refused("digest", json!(Digest48::ZERO), digest);
    let long = "x".repeat(predict::limits::EVENT_LOG_NAME_BYTES_MAX + 1);
    refused("event", long.into(), "has too long a name");
}

#[test]
fn lists_that_are_none_are_refused() {
    for json in [
        "",
        "{}",
        "[{}]",
        "[1]",
        r#"[{"name":"a","digest":"00"}]"#,
        r#"[{"name":"a","event":"b"}]"#,
        "[] x",
    ] {
        let refused = events(json.as_bytes());
        assert!(matches!(refused, Err(RuntimeError::Json { .. })), "{json}");
    }
    let got = predict::limits::EVENT_LOG_EVENTS_MAX + 1;
    let entry = json!({"event": "", "event_payload": "", "version": 2});
    let many = Value::from(vec![entry; got]);
    assert_eq!(read(&many), Err(RuntimeError::Events { got }));
    let (got, max) = (
        predict::limits::EVENT_LOG_JSON_BYTES_MAX + 1,
        predict::limits::EVENT_LOG_JSON_BYTES_MAX,
    );
    let long = vec![b' '; got];
    assert_eq!(events(&long), Err(RuntimeError::Length { got, max }));
}

#[test]
fn no_flip_or_cut_of_a_list_makes_it_panic() {
    let list = json!([{"name": "agent", "digest": Digest48::ZERO},
        {"event": "app", "event_payload": "abcd", "version": 1, "imr": 3}]);
    let list = list.to_string().into_bytes();
    for at in 0..list.len() {
        let _ = events(&list[..at]);
        for mask in [0x01, 0x80, 0xff] {
            let mut flipped = list.clone();
            flipped[at] ^= mask;
            let _ = events(&flipped);
        }
    }
}
