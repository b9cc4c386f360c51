//! What a proxy lends, keeps, endorses and claims.

use crate::mutation::{Mutation, Test};

const fn proxy(name: &'static str) -> Test {
    Test::lib("host-proxy", name)
}

const TERMS: Test =
    proxy("proxy::tests::terms_that_let_a_payer_take_back_what_it_owes_are_not_admitted");
const STRANGERS: Test =
    proxy("channels::tests::strangers_spend_few_of_the_nodes_calls_and_none_of_a_known_channels");
const LEAVES: Test =
    proxy("http::tests::leaving::a_client_that_leaves_owes_the_charge_and_fetches_its_receipt");
const CLAIMED_IN_TIME: Test = proxy(
    "auto_settle::tests::a_payer_that_closes_is_claimed_in_time_and_a_dead_channel_costs_no_calls",
);
const OLD_BLOCK: Test =
    proxy("node::tests::an_answer_is_as_old_as_its_block_and_an_old_one_is_refused");

pub(super) const ALL: &[Mutation] = &[
    Mutation {
        fault: "terms and state of a channel are no condition of admission",
        file: "host-proxy/src/proxy.rs",
        text: "state.admits(now_unix_s())?;",
        with: "",
        test: TERMS,
    },
    Mutation {
        fault: "an envelope of a key that is not the channel's is admitted",
        file: "host-proxy/src/proxy.rs",
        text: "if envelope.terms.payer_key != state.payer_key {",
        with: "if false {",
        test: proxy("proxy::tests::a_channel_that_will_not_pay_gets_no_job"),
    },
    Mutation {
        fault: "a fresh channel is lent all of W",
        file: "host-proxy/src/credit.rs",
        text: "let grown = self.start.0.saturating_add(vouchered.0 / CREDIT_GROWTH);",
        with: "let grown = self.max.0.saturating_add(vouchered.0 / CREDIT_GROWTH);",
        test: proxy("proxy::tests::a_fresh_channel_is_lent_less_than_it_cost_and_more_as_it_pays"),
    },
    Mutation {
        fault: "jobs that run at once each get the whole window",
        file: "host-proxy/src/proxy.rs",
        text: ".checked_add(running)\n",
        with: ".checked_add(envelope.cost_max)\n",
        test: proxy("proxy::tests::jobs_that_run_at_once_share_the_window"),
    },
    Mutation {
        fault: "a channel takes every slot",
        file: "host-proxy/src/proxy.rs",
        text: "if before.is_some_and(|before| before.jobs >= JOBS_PER_CHANNEL_MAX) {",
        with: "if false {",
        test: proxy("proxy::tests::one_channel_does_not_take_every_slot"),
    },
    Mutation {
        fault: "jobs are taken whose charges cannot be written down",
        file: "host-proxy/src/proxy.rs",
        text: "self.can_earn().await?;",
        with: "",
        test: proxy("proxy::tests::no_job_is_taken_whose_charge_could_not_be_written_down"),
    },
    Mutation {
        fault: "an answer about a channel is believed however old it is",
        file: "host-proxy/src/channels.rs",
        text: "(at.elapsed() <= age_max).then(|| state.clone())",
        with: "(age_max > std::time::Duration::ZERO).then(|| state.clone())",
        test: proxy("proxy::tests::without_a_young_word_from_the_chain_nothing_is_lent"),
    },
    Mutation {
        fault: "anybody reads the state of a channel",
        file: "host-proxy/src/proxy.rs",
        text: "read.check(authorization, &state.payer_key, now_unix_s())?;",
        with: "let _ = (read, authorization);",
        test: proxy("http::tests::nobody_but_its_payer_reads_a_channel"),
    },
    Mutation {
        fault: "anybody fetches a receipt with its charge",
        file: "host-proxy/src/receipts.rs",
        text: "allowed.map_err(|_| absent())?;",
        with: "let _ = allowed;",
        test: LEAVES,
    },
    Mutation {
        fault: "a channel that is none, or pays somebody else, is known",
        file: "host-proxy/src/channels.rs",
        text: "if state.payee != self.expected.payee || state.payee_key != self.expected.payee_key {",
        with: "if false {",
        test: proxy("channels::tests::only_a_proved_channel_that_pays_us_is_known"),
    },
    Mutation {
        fault: "each question about an unknown channel is a call of the node",
        file: "host-proxy/src/channels.rs",
        text: "&& at.elapsed() <= UNKNOWN_AGE_MAX\n",
        with: "&& at.elapsed() > UNKNOWN_AGE_MAX\n",
        test: STRANGERS,
    },
    Mutation {
        fault: "each of the jobs that begin together on a new channel looks it up",
        file: "host-proxy/src/channels.rs",
        text: "if age != MaxAge::Recent {",
        with: "if true {",
        test: proxy("channels::tests::jobs_that_begin_together_on_a_new_channel_share_one_look_up"),
    },
    Mutation {
        fault: "unknown channels are looked up at any rate",
        file: "host-proxy/src/channels.rs",
        text: "if lookups.len() >= UNKNOWN_LOOKUPS_MAX {",
        with: "if false && lookups.len() >= UNKNOWN_LOOKUPS_MAX {",
        test: STRANGERS,
    },
    Mutation {
        fault: "a slot is taken before the job has come",
        file: "host-proxy/src/relay.rs",
        text: "let mut upload = Upload::begin(body, SIGNED_ENVELOPE_BYTES_MAX + SEALED_REQUEST_BYTES_MAX)?;",
        with: "let early = slot(&proxy.jobs)?;\n    let mut upload = Upload::begin(body, SIGNED_ENVELOPE_BYTES_MAX + SEALED_REQUEST_BYTES_MAX)?;\n    let _early = early;",
        test: proxy("http::tests::whoever_sends_slowly_or_nothing_holds_no_slot"),
    },
    Mutation {
        fault: "a client that leaves takes its job's charge along",
        file: "host-proxy/src/relay.rs",
        text: "tracing::debug!(\"the client has left; its charge is still read\");\n                self.frames = None;",
        with: "std::future::pending::<()>().await;",
        test: LEAVES,
    },
    Mutation {
        fault: "a charge for another cap than the envelope's is kept",
        file: "settlement/src/charge.rs",
        text: "if cap != *verified.signed() {",
        with: "if false {",
        test: proxy("http::tests::what_a_guest_may_not_send_is_not_passed_on"),
    },
    Mutation {
        fault: "receipts are not kept, so that none is left when the guest's keys are gone",
        file: "host-proxy/src/relay.rs",
        text: "let kept = self.receipt.take().map(|receipt| KeptReceipt {",
        with: "let kept = self.receipt.take().filter(|_| false).map(|receipt| KeptReceipt {",
        test: LEAVES,
    },
    Mutation {
        fault: "a guest that nobody verified is endorsed",
        file: "host-proxy/src/guest_policy.rs",
        text: "wire::attest(bundle, nonce, policy, root, &expected, now_unix_s()).map(drop)",
        with: "wire::attest(bundle, nonce, policy, root, &expected, now_unix_s()).map(drop).or(Ok(()))",
        test: proxy(
            "guest_policy::tests::only_the_manifests_guest_with_its_own_keys_and_this_nonce_is_endorsed",
        ),
    },
    Mutation {
        fault: "what only says that it is the guest signs charges that count",
        file: "host-proxy/src/proxy.rs",
        text: "if let Some(policy) = self.guest_policy.clone() {",
        with: "self.learn(&keyset);\n        if let Some(policy) = self.guest_policy.clone() {",
        test: proxy(
            "guest_policy::tests::what_only_says_that_it_is_the_guest_is_neither_endorsed_nor_believed",
        ),
    },
    Mutation {
        fault: "a simulated guest is endorsed for a live chain",
        file: "host-proxy/src/payee.rs",
        text: "if keyset.profile == \"sim\" && keyset.chain.is_live() {",
        with: "if false {",
        test: proxy("payee::tests::nothing_simulated_is_endorsed_for_a_live_chain"),
    },
    Mutation {
        fault: "settling a closed channel with an unpaid voucher is a success with price 0",
        file: "host-proxy/src/settle/prepare.rs",
        text: "if over && lost > Nano::ZERO {",
        with: "if false {",
        test: proxy(
            "settle::tests::attacks::a_claim_on_a_closed_channel_is_an_error_and_not_a_price_of_zero",
        ),
    },
    Mutation {
        fault: "a message that a stranger encoded anew is not known as the payout",
        file: "host-proxy/src/settle/carry.rs",
        text: "Ok(sent_to.all(|to| to.is_some_and(|to| known.contains(&to))))",
        with: "Ok(sent_to.all(|to| to.is_some_and(|to| known.contains(&to) && message.boc.is_empty())))",
        test: proxy(
            "settle::tests::attacks::a_stranger_who_encodes_the_message_anew_delays_nothing",
        ),
    },
    Mutation {
        fault: "only the newest page of transactions is read",
        file: "host-proxy/src/node.rs",
        text: "for _ in 0..HISTORY_PAGES_MAX {",
        with: "for _ in 0..HISTORY_PAGES_MAX.min(1) {",
        test: proxy("node::tests::no_number_of_transactions_hides_one"),
    },
    Mutation {
        fault: "one channel that answers nothing holds up the claims of all",
        file: "host-proxy/src/settle/conclude.rs",
        text: "round.finish(payout.claim.channel, Err(SettleError::NotYet));\n                }\n                return Ok(());",
        with: "round.finish(payout.claim.channel, Err(SettleError::NotYet));\n                }\n                return Err(SettleError::NotYet);",
        test: proxy("settle::tests::attacks::a_channel_that_answers_nothing_blocks_no_other"),
    },
    Mutation {
        fault: "books from a backup sign on",
        file: "host-proxy/src/settle/prepare.rs",
        text: "if wallet.seqno > numbers.known {",
        with: "if false {",
        test: proxy("settle::tests::a_file_from_a_backup_signs_nothing_once_the_chain_has_gone_on"),
    },
    Mutation {
        fault: "what may soon be void waits for its threshold",
        file: "host-proxy/src/auto_settle.rs",
        text: "(endangered || reached).then_some(Due {",
        with: "reached.then_some(Due {",
        test: CLAIMED_IN_TIME,
    },
    Mutation {
        fault: "the end of a channel is claimed after its threshold has passed",
        file: "host-proxy/src/auto_settle.rs",
        text: "all.sort_by_key(|due| (!due.endangered, due.until_unix_s, due.channel));",
        with: "all.sort_by_key(|due| due.channel);",
        test: proxy("auto_settle::tests::deadlines_come_before_thresholds_and_the_nearest_first"),
    },
    Mutation {
        fault: "claims cost more than they bring",
        file: "host-proxy/src/auto_settle.rs",
        text: "gain >= rule.threshold.max(CLAIM_WORTH)",
        with: "gain >= rule.threshold",
        test: proxy("auto_settle::tests::a_claim_waits_until_it_is_worth_five_times_its_cost"),
    },
    Mutation {
        fault: "an answer is as old as the question",
        file: "host-proxy/src/node.rs",
        text: "if age_s > BLOCK_AGE_MAX_S {",
        with: "if false {",
        test: OLD_BLOCK,
    },
    Mutation {
        fault: "one node's word is unbounded credit",
        file: "host-proxy/src/node/witness.rs",
        text: "if state.deposit.max(promised) <= self.above {",
        with: "if true || state.deposit.max(promised) <= self.above {",
        test: proxy("node::witness::tests::much_money_needs_two_nodes_and_little_one"),
    },
    Mutation {
        fault: "a run directory that others may enter is used",
        file: "host-proxy/src/launch/run_directory.rs",
        text: "if mode & 0o077 != 0 {",
        with: "if false {",
        test: proxy("launch::run_directory::tests::a_directory_that_others_may_enter_is_refused"),
    },
    Mutation {
        fault: "a configuration is judged by the guest after its boot",
        file: "host-proxy/src/launch/config_server.rs",
        text: "let parsed = MeasuredConfig::parse(&bytes);",
        with: "let parsed = serde_json::from_slice::<MeasuredConfig>(&bytes);",
        test: proxy(
            "launch::config_server::tests::a_configuration_is_judged_before_a_boot_and_served_as_it_is",
        ),
    },
    Mutation {
        fault: "a configuration for another image is served",
        file: "host-proxy/src/launch/config_server.rs",
        text: "if (config.profile == \"sim\") != simulated_image {",
        with: "if false && simulated_image {",
        test: proxy(
            "launch::config_server::tests::a_configuration_for_another_image_or_without_its_volume_is_refused",
        ),
    },
    Mutation {
        fault: "a backup is a copy of the file, without its log",
        file: "host-proxy/src/store/disk.rs",
        text: "self.lock().execute(\"VACUUM INTO ?1\", values![name])?;",
        with: "let _ = values![name];\n        std::fs::copy(self.place.file().unwrap_or(to), name).context(Fault::Host, || name)?;",
        test: proxy("store::disk::tests::a_backup_has_what_a_copy_of_the_file_lacks"),
    },
    Mutation {
        fault: "a full disk is nobody's fault",
        file: "host-proxy/src/store/disk.rs",
        text: "if self.failed.load(Ordering::Relaxed) {",
        with: "if false && self.failed.load(Ordering::Relaxed) {",
        test: proxy("store::disk::tests::a_store_that_cannot_be_written_says_so_until_it_can"),
    },
    Mutation {
        fault: "charges are kept for ever",
        file: "host-proxy/src/store/charges.rs",
        text: "prune(change, &receipt_key, seq)?;",
        with: "let _ = prune;",
        test: proxy(
            "store::tests::charges_are_pruned_to_what_is_owed_and_what_may_still_be_disputed",
        ),
    },
    Mutation {
        fault: "one peer takes every attestation",
        file: "host-proxy/src/at_once.rs",
        text: "if running >= most {",
        with: "if false {",
        test: proxy("at_once::tests::one_key_takes_its_share_and_no_other_ones"),
    },
    Mutation {
        fault: "a cause is printed twice",
        file: "host-proxy/src/error.rs",
        text: "self.cause.as_ref()?.source()",
        with: "Some(self.cause.as_ref()?.as_ref())",
        test: proxy("error::tests::each_cause_is_printed_once"),
    },
    Mutation {
        fault: "jobs are taken although the disk has no room for their vouchers",
        file: "host-proxy/src/store/disk.rs",
        text: "if free >= STATE_FREE_BYTES_MIN {",
        with: "if true {",
        test: Test::lib(
            "host-proxy",
            "store::disk::tests::a_disk_that_is_nearly_full_takes_no_jobs",
        ),
    },
    Mutation {
        fault: "of two proxies the last voucher stays, not the highest",
        file: "host-proxy/src/store.rs",
        text: "WHERE excluded.cumulative > vouchers.cumulative",
        with: "",
        test: proxy("store::tests::of_two_proxies_vouchers_the_highest_stays_and_none_is_lost"),
    },
    Mutation {
        fault: "a signer whose lease ran out begins a message",
        file: "host-proxy/src/store/lease.rs",
        text: "WHERE owner = ?1 AND until_ms > {NOW_MS} FOR UPDATE",
        with: "WHERE owner = ?1 FOR UPDATE",
        test: proxy(
            "store::tests::a_signer_without_the_lease_begins_no_message_and_the_next_one_does",
        ),
    },
    Mutation {
        fault: "a transaction that PostgreSQL has given up counts as committed",
        file: "host-proxy/src/store/postgresql.rs",
        text: "Ask::Step(Step::Commit) if self.state == State::Open => {",
        with: "Ask::Step(Step::Commit) => {",
        test: proxy(
            "store::tests::a_lost_connection_takes_its_transaction_with_it_and_the_next_change_connects_again",
        ),
    },
    Mutation {
        fault: "one key is payee, wallet and endorser",
        file: "host-proxy/src/payee.rs",
        text: "if wallet.public_key() == key || public == key || public == wallet.public_key() {",
        with: "if false {",
        test: proxy(
            "payee::tests::three_keys_are_three_and_the_payee_vouches_for_the_endorsing_one",
        ),
    },
    Mutation {
        fault: "an order that a kill cut short is sent twice",
        file: "host-proxy/src/settle/orders.rs",
        text: "Ok(same && carried == Carried::Taken",
        with: "Ok(!same && carried == Carried::Taken",
        test: proxy(
            "settle::tests::stake::a_deposit_that_a_kill_left_on_its_way_is_not_sent_twice",
        ),
    },
];
