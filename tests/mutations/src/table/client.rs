//! What a client believes, signs and tells its applications.

use crate::mutation::{Mutation, Test};

const fn inside(name: &'static str) -> Test {
    Test::lib("client", name)
}
const fn outside(name: &'static str) -> Test {
    Test::of("client", "paths", name)
}

const FAULTS: Test = outside("every_fault_is_named_and_nothing_is_paid");
const CUT: Test = outside("what_was_made_of_a_cut_answer_is_cancelled_and_paid");
const ONCE: Test = outside("a_receipt_is_paid_once_and_never_above_the_deposit");
const LEARNED: Test = outside("files::what_was_learned_of_platforms_outlives_the_purse");
const USUAL_LOOP: Test = outside("endpoint::the_usual_loop_over_a_stream_reads_every_chunk");
const ERRORS: Test = outside("endpoint::every_error_has_the_apis_shape");
const KILLED: Test =
    outside("killed::a_sidecar_that_was_killed_pays_for_what_it_asked_for_when_it_comes_back");
const MODES: Test =
    inside("files::tests::what_is_private_is_made_so_and_an_open_secret_is_refused");

pub(super) const ALL: &[Mutation] = &[
    Mutation {
        fault: "a host that shows old collateral alone keeps the minimum low",
        file: "client/src/trust.rs",
        text: ".max(INTEL_TCB_EVALUATION_NUMBER_MIN),",
        with: ".max(0),",
        test: inside(
            "trust::tests::what_is_compiled_in_holds_for_intel_and_only_rises_by_configuration",
        ),
    },
    Mutation {
        fault: "the highest evaluation number that was seen is forgotten",
        file: "client/src/attestation.rs",
        text: "minimum.tcb_evaluation_number.max(seen)",
        with: "minimum.tcb_evaluation_number.max(seen.min(0))",
        test: LEARNED,
    },
    Mutation {
        fault: "another machine behind the same address is not announced",
        file: "client/src/trust.rs",
        text: "_ => Platform::Another,",
        with: "_ => Platform::Known,",
        test: outside("files::another_machine_behind_the_same_address_is_another_platform"),
    },
    Mutation {
        fault: "a guest that restarts stops its clients for the rest of its keyset's life",
        file: "client/src/client.rs",
        text: "ClientError::UnknownSigner if !renewed => {",
        with: "ClientError::UnknownSigner if !renewed && false => {",
        test: outside("endpoint::a_guest_that_restarts_is_attested_again_and_the_job_is_answered"),
    },
    Mutation {
        fault: "each job in flight sets aside the most that any could cost",
        file: "client/src/job.rs",
        text: "shared.budget.reserve(estimate, deposit, spender)?",
        with: "shared.budget.reserve(max, deposit, spender)?",
        test: outside("endpoint::two_jobs_run_beside_each_other"),
    },
    Mutation {
        fault: "a job that others are in the way of does not wait for its turn",
        file: "client/src/client.rs",
        text: "error if error.is_queued() && Instant::now() < patience => {",
        with: "error if error.is_queued() && Instant::now() < patience && false => {",
        test: outside("endpoint::a_job_waits_for_its_turn_and_not_for_ever"),
    },
    Mutation {
        fault: "jobs in flight together exceed the deposit",
        file: "client/src/budget.rs",
        text: "if !fits(promised.checked_add(in_flight)) {",
        with: "if false && !fits(promised.checked_add(in_flight)) {",
        test: inside("budget::tests::jobs_in_flight_together_stay_within_the_deposit"),
    },
    Mutation {
        fault: "a voucher is signed above the deposit",
        file: "client/src/budget.rs",
        text: "promised.checked_add(core.cost).filter(|t| *t <= deposit)",
        with: "promised.checked_add(core.cost)",
        test: ONCE,
    },
    Mutation {
        fault: "one receipt is paid twice",
        file: "client/src/budget.rs",
        text: "\"INSERT INTO receipts VALUES (?1, ?2, ?3, ?4, ?5, ?6)\",",
        with: "\"INSERT OR REPLACE INTO receipts VALUES (?1, ?2, ?3, ?4, ?5, ?6)\",",
        test: ONCE,
    },
    Mutation {
        fault: "two clients sign on one channel",
        file: "client/src/budget.rs",
        text: "PRAGMA locking_mode = EXCLUSIVE;",
        with: "PRAGMA locking_mode = NORMAL;",
        test: inside("budget::tests::two_clients_on_one_state_file_are_refused"),
    },
    Mutation {
        fault: "another charge than the receipt's is paid",
        file: "client/src/job/verified.rs",
        text: "if receipt.charge().encode() != self.charge {",
        with: "if false {",
        test: FAULTS,
    },
    Mutation {
        fault: "an answer that ended otherwise than its receipt says is paid",
        file: "client/src/job/verified.rs",
        text: "if Some(verified.core().finish) != self.received.finish {",
        with: "if false {",
        test: FAULTS,
    },
    Mutation {
        fault: "control tokens that spell nothing pad the count",
        file: "client/src/tokens.rs",
        text: "self.text.check_completion(ids)?;",
        with: "let _ = self.text.check_completion(ids);",
        test: FAULTS,
    },
    Mutation {
        fault: "an answer that was not believed is paid after a restart",
        file: "client/src/job/verified.rs",
        text: "budget.owes_nothing(&envelope);",
        with: "let _ = (session, envelope);",
        test: FAULTS,
    },
    Mutation {
        fault: "an answer of another form than was asked for is paid",
        file: "client/src/job/verified.rs",
        text: "return Err(ClientError::Answer(why));",
        with: "let _ = why;",
        test: outside(
            "endpoint::forms::an_answer_cut_short_says_so_and_one_of_another_form_is_not_paid",
        ),
    },
    Mutation {
        fault: "what was made of an answer that broke is not paid",
        file: "client/src/job/unfinished.rs",
        text: "runtime.spawn(unfinished.end());",
        with: "let _ = (runtime, unfinished);",
        test: CUT,
    },
    Mutation {
        fault: "what a guest made after its proxy gave up on it is not paid",
        file: "client/src/job.rs",
        text: "if !matches!(status, 502 | 504) {",
        with: "if true || status == 0 {",
        test: CUT,
    },
    Mutation {
        fault: "a sidecar that is killed before it paid never fetches its receipt",
        file: "client/src/client.rs",
        text: "self.settle_left(&session)?;",
        with: "",
        test: KILLED,
    },
    Mutation {
        fault: "an application that hangs up goes on paying",
        file: "client/src/serve/jobs.rs",
        text: "job.abort();",
        with: "let _ = job;",
        test: outside("endpoint::who_hangs_up_cancels_and_pays_for_what_was_made"),
    },
    Mutation {
        fault: "a truncated stream ends as if it were verified",
        file: "client/src/serve/jobs.rs",
        text: "Ok(_) if lost => Err(ClientError::ReaderTooSlow),",
        with: "Ok(_) if lost && false => Err(ClientError::ReaderTooSlow),",
        test: inside("serve::jobs::tests::a_reader_that_is_too_slow_gets_an_error_for_an_end"),
    },
    Mutation {
        fault: "a stream ends with a chunk that has no choices",
        file: "client/src/shape/openai.rs",
        text: "last_chunks(answers, self.0.include_usage)",
        with: "last_chunks(answers, true)",
        test: USUAL_LOOP,
    },
    Mutation {
        fault: "a request with the same Idempotency-Key is another job",
        file: "client/src/serve/idempotency.rs",
        text: "if let Some(entry) = keys.get(key) {",
        with: "if let Some(entry) = keys.get(key).filter(|_| false) {",
        test: outside("endpoint::a_key_gives_one_answer_that_is_paid_once"),
    },
    Mutation {
        fault: "health is of the sidecar alone",
        file: "client/src/serve/worker.rs",
        text: "match client.health().await {",
        with: "match client.session().await {",
        test: outside("endpoint::health_is_checked_again_while_the_keys_are_fresh"),
    },
    Mutation {
        fault: "every user of the machine spends the budget",
        file: "client/src/serve.rs",
        text: "None if path == \"/healthz\" => Ok(Spender::default()),",
        with: "None if path != \"\" => Ok(Spender::default()),",
        test: outside("endpoint::an_address_is_for_who_shows_the_key"),
    },
    Mutation {
        fault: "a key file that others can read is used",
        file: "client/src/files.rs",
        text: "let mode = entry.permissions().mode() & 0o7777;",
        with: "let mode = entry.permissions().mode() & 0o7700;",
        test: MODES,
    },
    Mutation {
        fault: "the books keep the mode that they have",
        file: "client/src/files.rs",
        text: "_ => { file.set_permissions(Permissions::from_mode(0o600)) }.map_err(refuse),",
        with: "_ => { file.set_permissions(Permissions::from_mode(mode)) }.map_err(refuse),",
        test: MODES,
    },
    Mutation {
        fault: "a socket lies where others may enter",
        file: "client/src/files.rs",
        text: "match entry.permissions().mode() & 0o077 {",
        with: "match entry.permissions().mode() & 0 {",
        test: inside("files::tests::a_socket_lies_where_nobody_else_may_enter"),
    },
    Mutation {
        fault: "a body that is too large is any bad request",
        file: "client/src/serve/jobs.rs",
        text: "named(413, \"request_too_large\", &message)",
        with: "named(400, \"invalid_request\", &message)",
        test: ERRORS,
    },
    Mutation {
        fault: "a text longer than an embedder takes is cut without a word",
        file: "client/src/tokens.rs",
        text: "(ids, 0) => Ok(ids),",
        with: "(ids, 0..) => Ok(ids),",
        test: outside("endpoint::strict::a_text_longer_than_an_embedder_takes_is_an_error"),
    },
    Mutation {
        fault: "a prompt without room is a request of no kind",
        file: "client/src/error.rs",
        text: "ContextLength { .. } => \"context_length_exceeded\",",
        with: "ContextLength { .. } => \"invalid_request\",",
        test: ERRORS,
    },
    Mutation {
        fault: "an old state file signs what it had promised since for something else",
        file: "client/src/client.rs",
        text: "if self.shared.budget.adopt(&voucher)? {",
        with: "if false && self.shared.budget.adopt(&voucher)? {",
        test: outside("a_state_file_from_a_backup_learns_what_it_promised"),
    },
    Mutation {
        fault: "attesting needs a wallet and money",
        file: "client/src/attestation.rs",
        text: "let expected = challenged.claimed(verifier)?;",
        with: "let mut expected = challenged.claimed(verifier)?;\n    expected.payee_key = [0; 32];",
        test: outside("attesting_needs_no_wallet_no_channel_and_no_money"),
    },
    Mutation {
        fault: "after a rotation the owner cannot reach its channel's money",
        file: "client/src/chain.rs",
        text: "if terms.address() != *address && terms.address_v1() != *address {",
        with: "if terms.address() != *address || state.payer_key != *first_key {",
        test: inside(
            "chain::orders::tests::a_rotation_is_taken_back_and_one_that_took_effect_leaves_the_money_reachable",
        ),
    },
    Mutation {
        fault: "what a worker signed twice is forgotten",
        file: "client/src/budget.rs",
        text: "offences::keep_fork(&connection, core, receipt.charge().signed());",
        with: "",
        test: outside("reported::what_a_worker_should_not_sign_cuts_its_stake"),
    },
];
