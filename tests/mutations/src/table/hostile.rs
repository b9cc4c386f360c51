//! For each thing that a hostile host does, a fault of shipped code that one of its own seeds finds.

use crate::{Mutation, Test};

/// A fault's own seeds, or another test of the simulator.
const fn seeds(name: &'static str) -> Test {
    Test::of("hostile", "seeds", name)
}

/// What a proxy passes on is tried frame by frame, too.
const FRAMES: Test = Test::lib(
    "host-proxy",
    "http::tests::what_a_guest_may_not_send_is_not_passed_on",
);

pub(super) const ALL: &[Mutation] = &[
    Mutation {
        fault: "Drop: a client waits for the rest of an answer for ever",
        file: "client/src/transport.rs",
        text: "            let frame = timeout_at(deadline, self.body.frame())\n                .await\n                .map_err(|_| TransportError::Timeout)?;",
        with: "            let _ = deadline;\n            let frame = self.body.frame().await;",
        test: seeds("break_nothing::drop"),
    },
    Mutation {
        fault: "Delay: what was made of a job whose answer came too late is not paid",
        file: "client/src/job/answering.rs",
        text: "Err(ClientError::Cut(_) | ClientError::Deadline(_)) => {}",
        with: "Err(ClientError::Cut(_)) => {}",
        test: seeds("break_nothing::delay"),
    },
    Mutation {
        fault: "Disconnect: what was made of a job whose answer was cut is not paid",
        file: "client/src/job/answering.rs",
        text: "Err(ClientError::Cut(_) | ClientError::Deadline(_)) => {}",
        with: "Err(ClientError::Deadline(_)) => {}",
        test: seeds("break_nothing::disconnect"),
    },
    Mutation {
        fault: "Truncate: the end of a stream is taken for the end of its answer",
        file: "client/src/job/answering.rs",
        text: "Err(error) => return Err(ClientError::Cut(error.to_string())),",
        with: "Err(_) => self.opener = None,",
        test: seeds("break_nothing::truncate"),
    },
    Mutation {
        fault: "Flip: a proxy panics at an envelope that was changed on its way",
        file: "host-proxy/src/relay.rs",
        text: ".map_err(|e| ApiError::bad_request(\"envelope_signature\", e.to_string()))?;",
        with: ".expect(\"signed\");",
        test: seeds("break_nothing::flip"),
    },
    Mutation {
        fault: "PartialWrites: a proxy takes the first bytes of a request for all of it",
        file: "host-proxy/src/relay.rs",
        text: "while self.read.len() < bytes {\n",
        with: "for _ in 0..usize::from(self.read.len() < bytes) {\n",
        test: seeds("break_nothing::partial_writes"),
    },
    Mutation {
        fault: "LoseFrame: a record that is left out leaves no gap",
        file: "wire/src/seal/response.rs",
        text: "self.counter += 1;",
        with: "",
        test: seeds("break_nothing::lose_frame"),
    },
    Mutation {
        fault: "a proxy passes an answer on as whole that has lost its charge",
        file: "host-proxy/src/relay.rs",
        text: "(Order::Answering | Order::Settled, FrameKind::End) if frame.payload.is_empty()",
        with: "(Order::Answering | Order::Receipted | Order::Settled, FrameKind::End) if frame.payload.is_empty()",
        test: FRAMES,
    },
    Mutation {
        fault: "DoubleFrame: a record opens as often as it comes",
        file: "wire/src/seal/response.rs",
        text: "self.counter += 1;",
        with: "",
        test: seeds("break_nothing::double_frame"),
    },
    Mutation {
        fault: "a proxy passes two charges on for one job",
        file: "host-proxy/src/relay.rs",
        text: "(Order::Begun | Order::Answering | Order::Receipted, FrameKind::Charge)",
        with: "(Order::Begun | Order::Answering | Order::Receipted | Order::Settled, FrameKind::Charge)",
        test: FRAMES,
    },
    Mutation {
        fault: "ReorderFrames: records open in any order",
        file: "wire/src/seal/response.rs",
        text: "self.counter += 1;",
        with: "",
        test: seeds("break_nothing::reorder_frames"),
    },
    Mutation {
        fault: "ForgeMeter: a client panics at a record that is sealed for another job",
        file: "client/src/job/answering.rs",
        text: "opener.push(&frame.payload).map_err(ClientError::Seal)?",
        with: "opener.push(&frame.payload).expect(\"of this job\")",
        test: seeds("break_nothing::forge_meter"),
    },
    Mutation {
        fault: "SwapEnvelope: a guest refuses an executed job as not started, shown its envelope with another request",
        file: "guest-agent/src/job.rs",
        text: "let content = envelope.verify(enc).map_err(|refused| {\n            unread(match refused {",
        with: "let content = envelope.verify(enc).map_err(|refused| {\n            (|code| (Subject::Envelope(envelope.digest()), code, signer.clone()))(match refused {",
        test: seeds("break_nothing::swap_envelope"),
    },
    Mutation {
        fault: "SwapRequest: a guest's refusal of bytes that nobody signed names the job that they were cut from",
        file: "guest-agent/src/job.rs",
        text: "let subject = Subject::Unread(UnreadDigest::of(offered.envelope));",
        with: "let subject = SignedEnvelope::decode(offered.envelope).map_or(Subject::Unread(UnreadDigest::of(offered.envelope)), |signed| Subject::Envelope(signed.digest()));",
        test: seeds("break_nothing::swap_request"),
    },
    Mutation {
        fault: "ForgeVoucher: a guest panics at a payee's voucher that the payer did not sign",
        file: "guest-agent/src/job.rs",
        text: "bytes => voucher(bytes).ok(),",
        with: "bytes => Some(voucher(bytes).expect(\"signed\")),",
        test: seeds("break_nothing::forge_voucher"),
    },
    Mutation {
        fault: "ReplayJob: a job that ran runs again",
        file: "guest-agent/src/replay.rs",
        text: "if self.encapsulated.contains(&encapsulated) || self.jobs.contains(&job) {",
        with: "if false {",
        test: seeds("break_nothing::replay_job"),
    },
    Mutation {
        fault: "ForgeCharge: a charge in the clear that is not the receipt's passes",
        file: "client/src/job/verified.rs",
        text: "if receipt.charge().encode() != self.charge {",
        with: "if false {",
        test: seeds("break_nothing::forge_charge"),
    },
    Mutation {
        fault: "ForgeReceipt: a client panics at a receipt that is sealed for another job",
        file: "client/src/job/unfinished.rs",
        text: "self.receipt_key.open(sealed).map_err(ClientError::Seal)?;",
        with: "self.receipt_key.open(sealed).expect(\"sealed for this job\");",
        test: seeds("break_nothing::forge_receipt"),
    },
    Mutation {
        fault: "ForgeRefusal: a refusal counts whoever signed it",
        file: "client/src/job/answering.rs",
        text: "None => ClientError::UnknownSigner,",
        with: "None => ClientError::GuestRefused(refusal.unverified_code()),",
        test: seeds("break_nothing::forge_refusal"),
    },
    Mutation {
        fault: "ForgeRefusal: what a guest says of changed bytes counts for the job that they were made of",
        file: "client/src/job/answering.rs",
        text: "Some((subject, code)) if subject == Subject::Envelope(self.known.envelope) => {",
        with: "Some((_, code)) if self.charge.is_none() => {",
        test: seeds("break_nothing::forge_refusal"),
    },
    Mutation {
        fault: "ReplayAnswer: the keys of an answer do not depend on its request",
        file: "wire/src/seal/response.rs",
        text: "Hkdf::<Sha256>::new(Some(&[enc, nonce].concat()), secret);",
        with: "Hkdf::<Sha256>::new(Some(&[&enc[..0], nonce].concat()), &secret[..0]);",
        test: seeds("break_nothing::replay_answer"),
    },
    Mutation {
        fault: "FalseAck: a job does not carry the highest voucher",
        file: "client/src/job.rs",
        text: "voucher: budget.highest()?.map(|voucher| voucher.encode()),",
        with: "voucher: None,",
        test: seeds("break_nothing::false_ack"),
    },
    Mutation {
        fault: "StaleKeyset: a challenge is no challenge",
        file: "client/src/attestation.rs",
        text: "let nonce: [u8; 32] = random()?;",
        with: "let nonce = [0; 32];",
        test: seeds("break_nothing::stale_keyset"),
    },
    Mutation {
        fault: "OtherGuest: any guest of the machine is as good as the one of the manifest",
        file: "measurements/attest/src/verify.rs",
        text: "policy.check_registers(&parsed.td.registers)?;",
        with: "",
        test: seeds("break_nothing::other_guest"),
    },
    Mutation {
        fault: "OtherKeyset: a quote vouches for any keyset",
        file: "measurements/attest/src/verify.rs",
        text: "if peer.report_data == *expected {",
        with: "if true {",
        test: seeds("break_nothing::other_keyset"),
    },
    Mutation {
        fault: "DevProfile: a guest of another profile than was demanded is taken",
        file: "wire/src/attested.rs",
        text: "if keyset.profile != expected.profile {",
        with: "if false {",
        test: seeds("break_nothing::dev_profile"),
    },
    Mutation {
        fault: "StopClock: evidence counts for as long as the guest lives",
        file: "client/src/session.rs",
        text: "self.key_age() < self.lifetime()",
        with: "self.key_age() < Duration::MAX",
        test: seeds("break_nothing::stop_clock"),
    },
    Mutation {
        fault: "Reboot: a client does not ask for evidence when its guest has new keys",
        file: "client/src/client.rs",
        text: "ClientError::UnknownSigner if !renewed => {",
        with: "ClientError::UnknownSigner if renewed => {",
        test: seeds("break_nothing::reboot"),
    },
    Mutation {
        fault: "RestartProxy: a proxy forgets the keys of its guest when it restarts",
        file: "host-proxy/src/guests.rs",
        text: "keysets: keysets.collect(),",
        with: "keysets: keysets.take(0).collect(),",
        test: seeds("break_nothing::restart_proxy"),
    },
    Mutation {
        fault: "a channel is lent without an end",
        file: "guest-agent/src/exposure.rs",
        text: "if after > self.max.0 {",
        with: "if false {",
        test: seeds("who_never_pays_is_lent_the_window_and_no_more"),
    },
    Mutation {
        fault: "a record leaves only when there is a token in it, so that a proxy sees when tokens come",
        file: "guest-agent/src/run.rs",
        text: "answer.tokens(&tokens, None).await?;",
        with: "if !tokens.is_empty() {\n            answer.tokens(&tokens, None).await?;\n        }",
        test: seeds("records_leave_on_a_schedule_whenever_tokens_come"),
    },
];
