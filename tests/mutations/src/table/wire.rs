//! What crosses a boundary: who signed what, and what a guest's bytes say.

use crate::mutation::{Mutation, Test};

const fn in_wire(name: &'static str) -> Test {
    Test::lib("wire", name)
}
const fn of_wire(name: &'static str) -> Test {
    Test::of("wire", "all", name)
}

const LIES: Test =
    of_wire("receipt::a_receipt_that_lies_about_anything_the_client_knows_is_refused");
const READ: Test = in_wire("read::tests::a_signature_is_for_one_thing_one_payer_and_some_minutes");
const CONFIG: Test = in_wire("config::tests::a_configuration_with_anything_odd_is_refused");
const RECORD: Test = in_wire("record::tests::broken_records_are_refused");

pub(super) const ALL: &[Mutation] = &[
    Mutation {
        fault: "bytes that are no envelope have the digest of the envelope that they are cut from",
        file: "wire/src/digest.rs",
        text: "\"chrysalis/unread-digest/v1\"",
        with: "\"chrysalis/envelope-digest/v1\"",
        test: in_wire(
            "digest::tests::the_same_bytes_have_another_digest_as_another_kind_of_object",
        ),
    },
    Mutation {
        fault: "anybody refuses in a guest's name",
        file: "wire/src/refusal.rs",
        text: ".ok()?;\n        Some((self.statement.subject",
        with: ".ok();\n        Some((self.statement.subject",
        test: in_wire("refusal::tests::only_the_receipt_key_refuses_and_every_flipped_byte_shows"),
    },
    Mutation {
        fault: "a job that a quota kept out counts as never started",
        file: "wire/src/refusal.rs",
        text: "RefusalCode::Replay | RefusalCode::Quota { .. } | RefusalCode::Unpaid",
        with: "RefusalCode::Replay | RefusalCode::Unpaid",
        test: Test::of(
            "guest-agent",
            "all",
            "money::garbage_of_one_client_leaves_the_keys_to_the_others",
        ),
    },
    Mutation {
        fault: "an envelope's cap may be signed by anybody",
        file: "settlement/src/cap.rs",
        text: ".map(|()| VerifiedCap { signed: *self })",
        with: ".or(Some(())).map(|()| VerifiedCap { signed: *self })",
        test: in_wire(
            "envelope::tests::a_cap_that_the_payer_did_not_sign_is_refused_in_an_envelope_that_it_did",
        ),
    },
    Mutation {
        fault: "an envelope's signature does not cover the encapsulated key",
        file: "wire/src/envelope.rs",
        text: "sha256(DOMAIN, &[envelope, enc])",
        with: "sha256(DOMAIN, &[envelope, &enc[..0]])",
        test: of_wire("receipt::every_flipped_byte_of_a_signed_envelope_is_refused"),
    },
    Mutation {
        fault: "a keyset that another payee endorsed is taken",
        file: "wire/src/attested.rs",
        text: "if !bundle.endorsement.holds(digest, key, chain, now_unix_s) {",
        with: "if false && !bundle.endorsement.holds(digest, key, chain, now_unix_s) {",
        test: of_wire("attest::a_keyset_the_payee_did_not_endorse_is_refused"),
    },
    Mutation {
        fault: "an old keyset is taken under a new nonce",
        file: "measurements/attest/src/verify.rs",
        text: "check_report_data(&peer, report_data)?;\n    Ok(Verified(peer))",
        with: "let _ = report_data;\n    Ok(Verified(peer))",
        test: of_wire("attest::an_old_keyset_under_a_new_nonce_is_refused"),
    },
    Mutation {
        fault: "a list of runtime events is believed without the register",
        file: "wire/src/attested.rs",
        text: "if replayed != quoted {",
        with: "if false {",
        test: of_wire("attest::an_event_list_that_does_not_replay_is_refused"),
    },
    Mutation {
        fault: "simulated evidence serves a live chain",
        file: "wire/src/attested.rs",
        text: "if peer.root == attest::RootClass::InsecureTest && keyset.chain.is_live() {",
        with: "if false {",
        test: of_wire("attest::simulated_evidence_never_serves_a_live_chain"),
    },
    Mutation {
        fault: "a keyset pays another payee than the channel",
        file: "wire/src/attested.rs",
        text: "if keyset.payee != expected.payee || keyset.payee_key != expected.payee_key {",
        with: "if keyset.payee_key != expected.payee_key {",
        test: of_wire("attest::a_keyset_that_says_something_else_than_expected_is_refused"),
    },
    Mutation {
        fault: "a delegated key endorses for ever",
        file: "wire/src/evidence.rs",
        text: "now_unix_s <= self.until_unix_s.into() && verifies(payee_key",
        with: "now_unix_s > 0 && verifies(payee_key",
        test: in_wire(
            "evidence::tests::a_delegated_endorsement_holds_for_its_payee_chain_keyset_and_time_alone",
        ),
    },
    Mutation {
        fault: "a receipt's charge repeats another cap than the client signed",
        file: "wire/src/receipt.rs",
        text: "(\"charge's cap\", charge.cap == claims.cap),",
        with: "",
        test: LIES,
    },
    Mutation {
        fault: "a receipt may ask more than its tokens cost",
        file: "wire/src/receipt.rs",
        text: "if self.cost != computed {",
        with: "if self.cost < computed {",
        test: LIES,
    },
    Mutation {
        fault: "a receipt counts tokens that the client does not",
        file: "wire/src/receipt.rs",
        text: "(*usage, claimed == *usage)",
        with: "(*usage, true)",
        test: LIES,
    },
    Mutation {
        fault: "a receipt of a cut answer counts more than was asked for",
        file: "wire/src/receipt.rs",
        text: "(*most, prompt && claimed.completion <= most.completion)",
        with: "(*most, prompt)",
        test: of_wire("receipt::a_receipt_of_an_answer_that_was_cut_is_held_against_the_request"),
    },
    Mutation {
        fault: "a receipt of a cut answer counts another prompt than was sealed",
        file: "wire/src/receipt.rs",
        text: "(*most, prompt && claimed.completion <= most.completion)",
        with: "(*most, claimed.completion <= most.completion)",
        test: of_wire("receipt::a_receipt_of_an_answer_that_was_cut_is_held_against_the_request"),
    },
    Mutation {
        fault: "a receipt is not of this request",
        file: "wire/src/receipt.rs",
        text: "(\"request\", self.request == claims.request),",
        with: "",
        test: LIES,
    },
    Mutation {
        fault: "a receipt is not of this answer",
        file: "wire/src/receipt.rs",
        text: "(\"response\", self.response == *response),",
        with: "",
        test: LIES,
    },
    Mutation {
        fault: "anybody reads a channel's debts and vouchers",
        file: "wire/src/read.rs",
        text: ".map_err(|_| ReadRefused::Signature)",
        with: ".or(Ok(()))",
        test: READ,
    },
    Mutation {
        fault: "a payer's leave to read is good for ever",
        file: "wire/src/read.rs",
        text: "if off_s > READ_AGE_MAX_S {",
        with: "if false {",
        test: READ,
    },
    Mutation {
        fault: "a payer's leave to read one receipt opens another",
        file: "wire/src/read.rs",
        text: ".map_or(&[], |envelope| &envelope.0[..]),",
        with: ".map_or(&[], |_| &[]),",
        test: READ,
    },
    Mutation {
        fault: "a keyset's lifetime has no upper bound",
        file: "wire/src/config.rs",
        text: "LIFETIME_S.contains(&self.lifetime_s),",
        with: "LIFETIME_S.start() <= &self.lifetime_s,",
        test: CONFIG,
    },
    Mutation {
        fault: "a price step is so small that a cost tells an answer's length",
        file: "wire/src/config.rs",
        text: ".all(|m| m.prices().fit(Nano(self.price_step_nano))),",
        with: ".all(|m| m.prices().fit(Nano(self.price_step_nano.max(1_000)))),",
        test: CONFIG,
    },
    Mutation {
        fault: "records leave so often that their rhythm tells of tokens",
        file: "wire/src/config.rs",
        text: "INTERVAL_MS.contains(&self.interval_ms),",
        with: "&self.interval_ms <= INTERVAL_MS.end(),",
        test: CONFIG,
    },
    Mutation {
        fault: "a record may say something behind its count",
        file: "wire/src/record.rs",
        text: "if padding.fold(0, |all, byte| all | byte) != 0 {",
        with: "if false && padding.fold(0, |all, byte| all | byte) != 0 {",
        test: RECORD,
    },
    Mutation {
        fault: "a guest or its proxy cancels a job in its client's name",
        file: "wire/src/seal/keys.rs",
        text: "hash(&cancel.secret) == hash(&self.0[..])",
        with: "hash(&cancel.secret) != hash(&self.0[..0])",
        test: in_wire("seal::keys::tests::only_the_jobs_own_secret_cancels_it"),
    },
    Mutation {
        fault: "a sealed receipt tells its length",
        file: "wire/src/seal/keys.rs",
        text: "padded.resize(2 + RECEIPT_BYTES_MAX, 0);",
        with: "",
        test: in_wire(
            "seal::keys::tests::a_sealed_receipt_has_one_length_and_every_flipped_byte_shows",
        ),
    },
    Mutation {
        fault: "a request's length tells how long its prompt is",
        file: "wire/src/request.rs",
        text: "let bytes = REQUEST_HEADER_BYTES + 4 * bucket(words);",
        with: "let bytes = REQUEST_HEADER_BYTES + 4 * words;",
        test: in_wire("request::tests::the_length_tells_the_bucket_and_no_more"),
    },
    Mutation {
        fault: "reserved bytes of a request may hold something",
        file: "wire/src/request.rs",
        text: "if header[RESERVED..].iter().any(|byte| *byte != 0) {",
        with: "if false {",
        test: in_wire("request::tests::a_flipped_byte_never_leaves_the_same_request"),
    },
];
