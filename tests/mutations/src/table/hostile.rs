//! For each thing that a hostile host does, a fault of shipped code that the simulator's seeds are to find, or, where those tried did
//! not, a test of one party.

use crate::{Mutation, Test};

const SEEDS: Test = Test::of(
    "hostile",
    "seeds",
    "four_seeds_for_each_thing_that_a_host_does",
);

/// Four seeds did not notice a frame too few or too many: the guest's side of it is tried frame by frame.
const FRAMES: Test = Test::lib(
    "host-proxy",
    "http::tests::what_a_guest_may_not_send_is_not_passed_on",
);

const fn seeds(name: &'static str) -> Test {
    Test::of("hostile", "seeds", name)
}

pub(super) const ALL: &[Mutation] = &[
    Mutation {
        fault: "Drop: a client waits for the rest of an answer for ever",
        file: "client/src/transport.rs",
        text: "            let frame = timeout_at(deadline, self.body.frame())\n                .await\n                .map_err(|_| TransportError::Timeout)?;",
        with: "            let _ = deadline;\n            let frame = self.body.frame().await;",
        test: SEEDS,
    },
    Mutation {
        fault: "Delay: what was made of a job whose answer came too late is not paid",
        file: "client/src/job/answering.rs",
        text: "Err(ClientError::Cut(_) | ClientError::Deadline(_)) => {}",
        with: "Err(ClientError::Cut(_)) => {}",
        test: SEEDS,
    },
    Mutation {
        fault: "Disconnect: what was made of a job whose answer was cut is not paid",
        file: "client/src/job/answering.rs",
        text: "Err(ClientError::Cut(_) | ClientError::Deadline(_)) => {}",
        with: "Err(ClientError::Deadline(_)) => {}",
        test: seeds("a_connection_breaks_at_every_hundredth_byte_of_a_job"),
    },
    Mutation {
        fault: "Truncate: a guest that cannot write its answer signs no receipt for what it made",
        file: "guest-agent/src/run.rs",
        text: "Err(broken) => (Finish::Stalled, Some(broken)),",
        with: "Err(broken) => return Err(broken),",
        test: SEEDS,
    },
    Mutation {
        fault: "Flip: a proxy panics at an envelope that was changed on its way",
        file: "host-proxy/src/relay.rs",
        text: ".map_err(|e| ApiError::bad_request(\"envelope_signature\", e.to_string()))?;",
        with: ".expect(\"signed\");",
        test: seeds("a_bit_flips_at_every_hundredth_byte_of_a_request"),
    },
    Mutation {
        fault: "PartialWrites: a proxy takes the first bytes of a request for all of it",
        file: "host-proxy/src/relay.rs",
        text: "while self.read.len() < bytes {\n",
        with: "for _ in 0..usize::from(self.read.len() < bytes) {\n",
        test: SEEDS,
    },
    Mutation {
        fault: "LoseFrame: a proxy passes an answer on as whole that has lost its charge",
        file: "host-proxy/src/relay.rs",
        text: "(Order::Answering | Order::Settled, FrameKind::End) if frame.payload.is_empty()",
        with: "(Order::Answering | Order::Receipted | Order::Settled, FrameKind::End) if frame.payload.is_empty()",
        test: FRAMES,
    },
    Mutation {
        fault: "DoubleFrame: a proxy passes two charges on for one job",
        file: "host-proxy/src/relay.rs",
        text: "(Order::Begun | Order::Answering | Order::Receipted, FrameKind::Charge)",
        with: "(Order::Begun | Order::Answering | Order::Receipted | Order::Settled, FrameKind::Charge)",
        test: FRAMES,
    },
    Mutation {
        fault: "ReorderFrames: a guest panics at a frame that is out of place",
        file: "guest-agent/src/serve.rs",
        text: "(_, kind) => return Err(FrameError::OutOfPlace(kind).into()),",
        with: "(_, kind) => panic!(\"{kind:?}\"),",
        test: SEEDS,
    },
    Mutation {
        fault: "ForgeMeter: a client panics at a record that is sealed for another job",
        file: "client/src/job/answering.rs",
        text: "opener.push(&frame.payload).map_err(ClientError::Seal)?",
        with: "opener.push(&frame.payload).expect(\"of this job\")",
        test: SEEDS,
    },
    Mutation {
        fault: "SwapEnvelope: a guest refuses an executed job as not started, shown its envelope with another request",
        file: "guest-agent/src/job.rs",
        text: "let content = envelope.verify(enc).map_err(|refused| {\n            unread(match refused {",
        with: "let content = envelope.verify(enc).map_err(|refused| {\n            (|code| (Subject::Envelope(envelope.digest()), code))(match refused {",
        test: SEEDS,
    },
    Mutation {
        fault: "SwapRequest: a guest's refusal of bytes that nobody signed names the job that they were cut from",
        file: "guest-agent/src/job.rs",
        text: "let subject = Subject::Unread(UnreadDigest::of(offered.envelope));",
        with: "let subject = SignedEnvelope::decode(offered.envelope).map_or(Subject::Unread(UnreadDigest::of(offered.envelope)), |signed| Subject::Envelope(signed.digest()));",
        test: Test::of(
            "guest-agent",
            "all",
            "money::nobody_buys_on_somebody_elses_channel",
        ),
    },
    Mutation {
        fault: "ForgeVoucher: a guest panics at a payee's voucher that the payer did not sign",
        file: "guest-agent/src/job.rs",
        text: "bytes => voucher(bytes).ok(),",
        with: "bytes => Some(voucher(bytes).expect(\"signed\")),",
        test: SEEDS,
    },
    Mutation {
        fault: "ReplayJob: a job that ran runs again",
        file: "guest-agent/src/replay.rs",
        text: "if self.encapsulated.contains(&encapsulated) || self.jobs.contains(&job) {",
        with: "if false {",
        test: SEEDS,
    },
    Mutation {
        fault: "ForgeCharge: a charge in the clear that is not the receipt's passes",
        file: "client/src/job/verified.rs",
        text: "if receipt.charge().encode() != self.charge {",
        with: "if false {",
        test: SEEDS,
    },
    Mutation {
        fault: "ForgeReceipt: a client panics at a receipt that is sealed for another job",
        file: "client/src/job/unfinished.rs",
        text: "self.receipt_key.open(sealed).map_err(ClientError::Seal)?;",
        with: "self.receipt_key.open(sealed).expect(\"sealed for this job\");",
        test: SEEDS,
    },
    Mutation {
        fault: "ForgeRefusal: a refusal counts whoever signed it",
        file: "client/src/job/answering.rs",
        text: "None => ClientError::UnknownSigner,",
        with: "None => ClientError::GuestRefused(refusal.unverified_code()),",
        test: SEEDS,
    },
    Mutation {
        fault: "ReplayAnswer: a refusal of one job counts for another one",
        file: "client/src/job/answering.rs",
        text: "Some((subject, code)) if subject == Subject::Envelope(self.known.envelope) => {",
        with: "Some((_, code)) if self.charge.is_none() => {",
        test: SEEDS,
    },
    Mutation {
        fault: "FalseAck: a job does not carry the highest voucher",
        file: "client/src/job.rs",
        text: "voucher: budget.highest()?.map(|voucher| voucher.encode()),",
        with: "voucher: None,",
        test: SEEDS,
    },
    Mutation {
        fault: "StaleKeyset: a challenge is no challenge",
        file: "client/src/attestation.rs",
        text: "let nonce: [u8; 32] = random()?;",
        with: "let nonce = [0; 32];",
        test: SEEDS,
    },
    Mutation {
        fault: "OtherGuest: any guest of the machine is as good as the one of the manifest",
        file: "measurements/attest/src/verify.rs",
        text: "policy.check_registers(&parsed.td.registers)?;",
        with: "",
        test: SEEDS,
    },
    Mutation {
        fault: "OtherKeyset: a quote vouches for any keyset",
        file: "measurements/attest/src/verify.rs",
        text: "if peer.report_data == *expected {",
        with: "if true {",
        test: SEEDS,
    },
    Mutation {
        fault: "DevProfile: a guest of another profile than was demanded is taken",
        file: "wire/src/attested.rs",
        text: "if keyset.profile != expected.profile {",
        with: "if false {",
        test: seeds("a_client_that_demands_hardware_sends_nothing_to_a_simulation"),
    },
    Mutation {
        fault: "StopClock: evidence counts for as long as the guest lives",
        file: "client/src/session.rs",
        text: "self.key_age() < self.lifetime()",
        with: "self.key_age() < Duration::MAX",
        test: SEEDS,
    },
    Mutation {
        fault: "Reboot: a client does not attest again when its guest has new keys",
        file: "client/src/client.rs",
        text: "ClientError::GuestRefused(STALE | WORN) if !renewed => {",
        with: "ClientError::GuestRefused(WORN) if !renewed => {",
        test: SEEDS,
    },
    Mutation {
        fault: "RestartProxy: a proxy does not learn its guest's keys after it restarted",
        file: "host-proxy/src/relay.rs",
        text: "proxy.search(content.keyset).await;",
        with: "",
        test: SEEDS,
    },
    Mutation {
        fault: "a channel is lent without an end",
        file: "guest-agent/src/exposure.rs",
        text: "if after > self.max.0 {",
        with: "if false {",
        test: seeds("who_never_pays_is_lent_the_window_and_no_more"),
    },
    Mutation {
        fault: "an answer leaves as its tokens come, and not on a schedule",
        file: "guest-agent/src/run.rs",
        text: "ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);",
        with: "",
        test: seeds("two_jobs_of_one_bucket_look_alike_to_the_host"),
    },
];
