//! The registry's address, messages and answers, against another implementation and against damage.

use crate::vectors::{file, hash, text};
use serde_json::json;
use settlement::{
    Address, Ceilings, ChainId, Change, Contract, Entry, EntryName, Nano, Registry, RegistryTerms,
    RegistryView, Revocable, Tightening, message_hash, toncenter,
};

fn account(n: u8) -> Address {
    Address {
        workchain: 0,
        hash: [n; 32],
    }
}

#[test]
fn address_and_messages_are_those_of_ton_core() {
    let vectors = file("registry.json");
    let terms = RegistryTerms {
        chain: ChainId::MAINNET,
        admin: account(1),
        guardian: account(2),
        delay_s: 86_400,
        open_until: 1_800_000_000,
        salt: 7,
    };
    assert_eq!(terms.address().to_string(), text(&vectors, "address"));
    let id = [3; 32];
    let image = Change::Allow(Entry::Image {
        digest: id,
        not_after: 1_900_000_000,
    });
    let model = Change::Allow(Entry::Model {
        root: id,
        ceilings: Ceilings {
            prompt: Nano(1),
            cached: Nano(2),
            completion: Nano(3),
            reasoning: Nano(u64::MAX),
        },
    });
    let proxy = Change::Allow(Entry::Proxy {
        key: id,
        region: *b"DE",
        endpoint: "https://proxy.example".into(),
    });
    let registry = Registry(terms.address());
    let revoke = Tightening::Revoke(Revocable::Platform(id), 9);
    let remove = Tightening::Remove(EntryName::Model(id));
    let code = registry.execute_code(Contract::Registry.code_boc(), 5);
    let messages = [
        ("allow_image", registry.propose(&image, 5)),
        ("allow_model", registry.propose(&model, 5)),
        ("allow_proxy", registry.propose(&proxy, 5)),
        (
            "restore_gpu",
            registry.propose(&Change::Restore(Revocable::Gpu(id)), 5),
        ),
        ("fee", registry.propose(&Change::Fee(25), 5)),
        ("admin", registry.propose(&Change::Admin(account(4)), 5)),
        ("code", code.expect("code")),
        ("execute", registry.execute(&image.key(), 5)),
        ("cancel", registry.cancel(&image.key(), 5)),
        ("revoke", registry.tighten(&revoke, 5)),
        ("remove", registry.tighten(&remove, 5)),
    ];
    let bodies = &vectors["bodies"];
    assert_eq!(bodies.as_object().map(serde_json::Map::len), Some(11));
    for (name, transfer) in messages {
        let body = transfer.payload.expect("a body").boc();
        let ours = message_hash(&body).expect("a cell of ours");
        assert_eq!(ours, hash(bodies, name), "{name}");
    }
}

/// No byte of a node's answer makes a reader panic, whatever it is turned into.
#[test]
fn damaged_answers_are_errors_or_other_answers() {
    let at = account(1);
    let question = RegistryView::question(&[1; 32], &Revocable::Gpu([2; 32]), &[0; 32], &[0; 32]);
    let numbers = |numbers: &[&str]| {
        let stack: Vec<_> = numbers.iter().map(|n| json!(["num", n])).collect();
        let result = json!({ "exit_code": 0, "stack": stack, "block_id": {"seqno": 7} });
        json!({ "ok": true, "result": result })
            .to_string()
            .into_bytes()
    };
    let view = numbers(&[
        "0x4f11", "0x7", "0x9", "0x0", "0x0", "0x0", "0x1", "0x1", "0x2", "0x3", "0x4",
    ]);
    let item = numbers(&[
        "0x7",
        "0x1",
        "0x3",
        "0x5",
        "0x0",
        "0x5",
        "0x4445613a62",
        "0x0",
        "0x0",
    ]);
    let state = numbers(&[
        "0x4f11", "0x3", "0x19", "0x0", "0x5", "0x0", "0x6", "0x15180", "0x9", "0x1", "0x2", "0x3",
        "0x4",
    ]);
    assert!(
        { toncenter::registry_view(&at, &question) }
            .answer(200, &view)
            .is_ok()
    );
    assert!(
        { toncenter::registry_next(&at, false, None) }
            .answer(200, &item)
            .is_ok()
    );
    assert!(
        { toncenter::registry_state(&at) }
            .answer(200, &state)
            .is_ok()
    );
    let mut refused = 0;
    for answer in [&view, &item, &state] {
        for index in 0..answer.len() {
            for flip in [1, 2, 0x10, 0x80] {
                let mut damaged = answer.clone();
                damaged[index] ^= flip;
                let said = [
                    toncenter::registry_view(&at, &question)
                        .answer(200, &damaged)
                        .is_err(),
                    toncenter::registry_next(&at, true, None)
                        .answer(200, &damaged)
                        .is_err(),
                    toncenter::registry_state(&at)
                        .answer(200, &damaged)
                        .is_err(),
                ];
                refused += said.iter().filter(|is_error| **is_error).count();
                assert!(said.iter().filter(|is_error| !**is_error).count() <= 1);
            }
        }
    }
    println!("{refused} refusals");
    assert!(refused > 1_000);
}
