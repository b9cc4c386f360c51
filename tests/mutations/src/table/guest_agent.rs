//! What a guest admits, computes and charges.

use crate::mutation::{Mutation, Test};

const fn inside(name: &'static str) -> Test {
    Test::lib("guest-agent", name)
}
const fn outside(name: &'static str) -> Test {
    Test::of("guest-agent", "all", name)
}

const OLD_VOUCHER: Test =
    inside("exposure::tests::a_voucher_from_before_this_boot_buys_nothing_of_it");
const STARTED: Test = inside("exposure::tests::what_was_started_is_owed_however_it_ends");
const HANGS_UP: Test =
    outside("money::whoever_hangs_up_owes_what_was_made_and_can_fetch_the_receipt");
const SOMEBODY_ELSES: Test = outside("money::nobody_buys_on_somebody_elses_channel");
const BY_NAME: Test =
    outside("serving::an_envelope_that_asks_for_something_else_is_refused_by_name");
const CACHE: Test =
    inside("replay::tests::who_pays_nothing_cannot_use_up_the_keys_of_those_who_do");

pub(super) const ALL: &[Mutation] = &[
    Mutation {
        fault: "who hangs up pays nothing",
        file: "guest-agent/src/exposure.rs",
        text: "reservation.owe(&mut reservation.exposure.lock(), self.made);",
        with: "let _ = self.made;",
        test: STARTED,
    },
    Mutation {
        fault: "a stream that breaks leaves no receipt",
        file: "guest-agent/src/run.rs",
        text: "admission.jobs.keep(facts.envelope_digest, &last);\n        if let Some(broken) = broken {\n            return Err(broken);\n        }",
        with: "if let Some(broken) = broken {\n            return Err(broken);\n        }\n        admission.jobs.keep(facts.envelope_digest, &last);",
        test: HANGS_UP,
    },
    Mutation {
        fault: "reading a prompt costs nothing when nothing follows",
        file: "guest-agent/src/bill.rs",
        text: "bill.used(prompt, 0);",
        with: "let _ = prompt;",
        test: HANGS_UP,
    },
    Mutation {
        fault: "a voucher from before this boot pays jobs of this boot",
        file: "guest-agent/src/exposure.rs",
        text: "if self.paid() > self.charged {",
        with: "if false {",
        test: OLD_VOUCHER,
    },
    Mutation {
        fault: "what runs does not count against the window",
        file: "guest-agent/src/exposure.rs",
        text: "owed.saturating_add(owing.reserved).saturating_add(amount.0)",
        with: "owed.saturating_add(amount.0)",
        test: inside("exposure::tests::a_channel_never_owes_more_than_the_window"),
    },
    Mutation {
        fault: "two receipts have one number",
        file: "guest-agent/src/epochs.rs",
        text: "receipts.next += 1;",
        with: "",
        test: inside("epochs::tests::receipts_of_one_key_form_one_chain"),
    },
    Mutation {
        fault: "a copy of a key stays on the stack where it was made",
        file: "guest-agent/src/boot.rs",
        text: "let keys = Keys::draw(rng);\n        clear_stack();",
        with: "let keys = Keys::draw(rng);",
        test: outside(
            "erased::an_epochs_secret_keys_are_in_memory_until_it_ends_and_not_afterwards",
        ),
    },
    Mutation {
        fault: "a voucher counts whoever signed it",
        file: "guest-agent/src/job.rs",
        text: "SignedVoucher::decode(bytes).and_then(|v| v.verify(&envelope.terms.payer_key));",
        with: "SignedVoucher::decode(bytes).map(|v| v.voucher);",
        test: outside("serving::a_channel_that_owes_too_much_gets_no_more_until_it_pays"),
    },
    Mutation {
        fault: "a voucher of one channel pays on another",
        file: "guest-agent/src/job.rs",
        text: "match voucher.chain == envelope.terms.chain && voucher.channel == channel {",
        with: "match voucher.chain == envelope.terms.chain || voucher.channel == channel {",
        test: BY_NAME,
    },
    Mutation {
        fault: "a guest works for channels that their payers can close at once",
        file: "guest-agent/src/job.rs",
        text: "terms.check().map_err(|_| RefusalCode::CloseDelay {",
        with: "terms.check().or(Ok(())).map_err(|_: ()| RefusalCode::CloseDelay {",
        test: BY_NAME,
    },
    Mutation {
        fault: "a guest works for channels that pay somebody else",
        file: "guest-agent/src/job.rs",
        text: "if (terms.payee, terms.payee_key) != (keyset.payee, keyset.payee_key) {",
        with: "if false {",
        test: BY_NAME,
    },
    Mutation {
        fault: "a job may cost more than its envelope allows",
        file: "guest-agent/src/job.rs",
        text: "if most > envelope.cost_max {",
        with: "if false {",
        test: BY_NAME,
    },
    Mutation {
        fault: "what a payer did not sign is refused as its job",
        file: "guest-agent/src/job.rs",
        text: "let unread = |code| (subject, code, signer.clone());",
        with: "let unread = |code| match SignedEnvelope::decode(offered.envelope) {\n            Ok(envelope) => (Subject::Envelope(envelope.digest()), code, signer.clone()),\n            Err(_) => (subject, code, signer.clone()),\n        };",
        test: SOMEBODY_ELSES,
    },
    Mutation {
        fault: "a part of a true envelope is refused as the envelope",
        file: "guest-agent/src/job.rs",
        text: "let subject = Subject::Unread(UnreadDigest::of(offered.envelope));",
        with: "let subject = Subject::Envelope(EnvelopeDigest::of(offered.envelope));",
        test: outside("money::a_part_of_a_true_envelope_is_refused_as_bytes"),
    },
    Mutation {
        fault: "a job runs as often as it is sent",
        file: "guest-agent/src/replay.rs",
        text: "if self.encapsulated.contains(&encapsulated) || self.jobs.contains(&job) {",
        with: "if false {",
        test: outside("serving::a_job_runs_once_and_the_keys_wear_out"),
    },
    Mutation {
        fault: "garbage of one channel uses up the keys of all",
        file: "guest-agent/src/replay.rs",
        text: "*self.in_vain.entry(channel).or_default() += 1;",
        with: "let _ = channel;",
        test: outside("money::garbage_of_one_client_leaves_the_keys_to_the_others"),
    },
    Mutation {
        fault: "channels that pay nothing use up the keys of those that do",
        file: "guest-agent/src/replay.rs",
        text: "if !pays && self.unpaid >= self.jobs_max.div_ceil(2) {",
        with: "if false && pays {",
        test: CACHE,
    },
    Mutation {
        fault: "a proxy ends its client's job",
        file: "guest-agent/src/jobs.rs",
        text: "&& secret.made(cancel)\n",
        with: "&& (true || secret.made(cancel))\n",
        test: outside("money::a_forged_cancel_ends_nothing"),
    },
    Mutation {
        fault: "a cancel ends nothing",
        file: "guest-agent/src/jobs.rs",
        text: "sender.send_replace(true);",
        with: "let _ = sender;",
        test: outside("money::only_a_jobs_client_cancels_it_and_pays_for_what_was_made"),
    },
    Mutation {
        fault: "who waits for its turn and cancels is charged",
        file: "guest-agent/src/turn.rs",
        text: "cancelled = true;\n                    running.cancel();",
        with: "cancelled = true;",
        test: outside(
            "money::jobs_share_the_steps_of_a_model_and_one_that_waits_is_cancelled_without_a_charge",
        ),
    },
    Mutation {
        fault: "a write that a reader did not take in time counts as written",
        file: "guest-agent/src/out.rs",
        text: "Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),",
        with: "Err(_elapsed) => Ok(()),",
        test: inside("out::tests::a_peer_that_does_not_read_breaks_the_stream"),
    },
    Mutation {
        fault: "a record leaves only when there is a token in it",
        file: "guest-agent/src/run.rs",
        text: "answer.tokens(&tokens, None).await?;\n        tokens.clear();",
        with: "if !tokens.is_empty() {\n            answer.tokens(&tokens, None).await?;\n        }\n        tokens.clear();",
        test: outside("ids::a_record_leaves_in_every_interval_although_no_token_comes"),
    },
    Mutation {
        fault: "what a guest does not compute is left out of its work",
        file: "guest-agent/src/job.rs",
        text: "if request.unsupported().is_some() {",
        with: "if false {",
        test: outside("ids::a_request_that_this_guest_does_not_answer_is_refused"),
    },
    Mutation {
        fault: "ids that a model does not have reach its table",
        file: "guest-agent/src/job.rs",
        text: "if !model.has_all(&request) {",
        with: "if false {",
        test: outside("ids::a_request_that_this_guest_does_not_answer_is_refused"),
    },
    Mutation {
        fault: "a guest serves from memory that is paged",
        file: "guest-agent/src/memory.rs",
        text: "match locked_kib >= resident_kib {",
        with: "match locked_kib >= resident_kib || true {",
        test: inside("memory::tests::all_anonymous_memory_is_locked_or_it_is_an_error"),
    },
    Mutation {
        fault: "a simulated guest is paid on a live chain",
        file: "guest-agent/src/boot.rs",
        text: "if simulated && config.chain().is_live() {",
        with: "if false {",
        test: outside("serving::a_boot_that_would_mislead_is_refused"),
    },
    Mutation {
        fault: "a model's volume is opened before its configuration is measured",
        file: "guest-agent/src/boot.rs",
        text: "for event in &events {\n                self.platform.extend(&event.digest)?;\n            }\n            let gpu = match config.gpu {",
        with: "Loaded::from_volumes(config, None, means)?;\n            for event in &events {\n                self.platform.extend(&event.digest)?;\n            }\n            let gpu = match config.gpu {",
        test: outside("serving::no_volume_is_opened_before_its_configuration_is_measured"),
    },
];
