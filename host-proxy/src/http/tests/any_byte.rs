//! Clients that leave at any byte of a job, of a voucher or of an answer, and come back for their receipts when they are lent no more.
//!
//! The proxy is the shipped one, over loopback, with its state on the disk. The guest is this test's, with simple books: a job that
//! arrives is charged whatever becomes of its stream.

use super::*;
use settlement::{Address, ChainId, ChannelTerms, Charge, Nano, SignedCharge, Voucher, Wallet};
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;
use wire::SignedEnvelope;

/// What [`fixtures::config`] lends each channel.
const WINDOW: u64 = 1_000;
const CHANNELS: u64 = 3;
/// A job's answer has more bytes, its head included, than this only with luck.
const ANSWER_BYTES: u64 = 2_600;
/// After so long without a receipt, a job that was sent whole has most likely not started; it is asked for once more at the end.
const GONE: Duration = Duration::from_secs(2);
/// How long a payer may have to ask again until it is served.
const STUCK: Duration = Duration::from_secs(20);

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// What this test's guest knows of a channel.
#[derive(Default)]
struct Books {
    charged: u64,
    /// The most that its running jobs may cost.
    running: u64,
    vouchered: u64,
    /// The most that it owed at one moment, running jobs included.
    unpaid_most: u64,
    kept: HashMap<EnvelopeDigest, Vec<u8>>,
}

#[derive(Default)]
struct Guest {
    books: Mutex<HashMap<Address, Books>>,
    charges: Mutex<u64>,
}

impl Guest {
    fn with<T>(&self, channel: Address, change: impl FnOnce(&mut Books) -> T) -> T {
        change(
            self.books
                .lock()
                .expect("whole")
                .entry(channel)
                .or_default(),
        )
    }

    async fn answer(&self, frames: Vec<Frame>, mut stream: UnixStream, seed: u64) {
        let bytes = match frames[0].kind {
            FrameKind::OpenReceipt => {
                let of = EnvelopeDigest(frames[0].payload[..].try_into().expect("a digest"));
                let books = self.books.lock().expect("whole");
                let kept = books
                    .values()
                    .find_map(|books| books.kept.get(&of))
                    .cloned();
                kept.unwrap_or_else(|| Frame::encode(FrameKind::End, b""))
            }
            _ => self.work(&frames, &mut stream, seed).await,
        };
        let mut random = Random(seed);
        let split = random.below(bytes.len() as u64 + 1) as usize;
        for part in [&bytes[..split], &bytes[split..]] {
            // A proxy that has stopped is no concern of this test.
            let _ = stream.write_all(part).await;
            tokio::time::sleep(Duration::from_millis(random.below(3))).await;
        }
    }

    /// Computes, and gives what is to be written last. From here on it is kept.
    async fn work(&self, frames: &[Frame], stream: &mut UnixStream, seed: u64) -> Vec<u8> {
        let open = frames.iter().find(|frame| frame.kind == FrameKind::OpenJob);
        let envelope = SignedEnvelope::decode(&open.expect("a job").payload).expect("read before");
        let content = envelope.unverified();
        let (channel, most) = (content.channel(), content.cost_max.0);
        let voucher = frames.iter().find(|frame| frame.kind == FrameKind::Voucher);
        let voucher = voucher.filter(|frame| !frame.payload.is_empty());
        let voucher = voucher.map(|f| settlement::SignedVoucher::decode(&f.payload).expect("ours"));
        self.with(channel, |books| {
            let held = voucher.map_or(0, |signed| signed.voucher.cumulative.0);
            books.vouchered = books.vouchered.max(held);
            books.running += most;
            let unpaid = (books.charged + books.running).saturating_sub(books.vouchered);
            books.unpaid_most = books.unpaid_most.max(unpaid);
        });
        let mut random = Random(!seed);
        for _ in 0..random.below(4) {
            let data = vec![1; random.below(600) as usize + 1];
            let _ = stream.write_all(&Frame::data(&data)).await;
            tokio::time::sleep(Duration::from_millis(random.below(3))).await;
        }
        let cost = random.below(most) + 1;
        let mut charges = self.charges.lock().expect("whole");
        self.with(channel, |books| {
            books.running -= most;
            books.charged += cost;
            let charge = Charge {
                cap: content.cap(),
                stake: payee().address(),
                receipt_hash: envelope.digest().0,
                seq: *charges,
                cost: Nano(cost),
                cumulative: Nano(books.charged),
            };
            *charges += 1;
            let charge = charge.sign(&fixtures::receipt_key()).encode();
            let ending = [
                Frame::encode(FrameKind::Receipt, &[2; 300]),
                Frame::encode(FrameKind::Charge, &charge),
                Frame::encode(FrameKind::End, b""),
            ];
            let before = books.kept.insert(envelope.digest(), ending.concat());
            assert!(before.is_none(), "a job came twice");
            ending.concat()
        })
    }
}

/// A channel's payer: what it was charged as far as it knows, and which of its jobs it has no receipt of.
struct Payer {
    listen: SocketAddr,
    terms: ChannelTerms,
    random: Random,
    jobs: u64,
    promised: u64,
    /// Costs by envelope, and the highest sum among their charges.
    known: HashMap<EnvelopeDigest, u64>,
    charged: u64,
    lost: Vec<(EnvelopeDigest, Instant)>,
    gone: Vec<EnvelopeDigest>,
    /// How often it was lent no more.
    refused: u32,
}

impl Payer {
    /// A new job; sometimes it carries the newest voucher.
    fn job(&mut self) -> (EnvelopeDigest, Vec<u8>) {
        self.jobs += 1;
        let mut content = envelope(100 + self.random.below(101), None)
            .unverified()
            .clone();
        content.job[..8].copy_from_slice(&self.jobs.to_be_bytes());
        content.terms = self.terms.clone();
        content.first_token_ms = content.deadline_ms;
        if self.promised > 0 && self.random.below(2) == 0 {
            content.voucher = Some(self.voucher().encode());
        }
        let signed = content.sign(&sealed()[7..7 + 1120], &fixtures::payer_key());
        (signed.digest(), [signed.encode(), sealed()].concat())
    }

    fn voucher(&self) -> settlement::SignedVoucher {
        let voucher = Voucher {
            chain: ChainId::EMBEDDED,
            channel: self.terms.address(),
            cumulative: Nano(self.promised),
            usage_root: [7; 32],
        };
        voucher.sign(&fixtures::payer_key())
    }

    fn leave(&self, receipt: Option<EnvelopeDigest>) -> String {
        let read = PayerRead {
            chain: ChainId::EMBEDDED,
            channel: self.terms.address(),
            receipt,
        };
        read.sign(crate::clock::now_unix_s(), &fixtures::payer_key())
    }

    /// Sends one more job and leaves at a random byte, if it leaves. In between it may fetch what it lost and pay.
    async fn step(&mut self) {
        let (digest, body) = self.job();
        match self.random.below(6) {
            0 | 1 => {
                // At any byte of the request, or when all of it was sent.
                let cut = self.send_and_leave("/v1/sealed", &body, 0).await;
                if !cut {
                    self.lost.push((digest, Instant::now()));
                }
            }
            2..=4 => {
                let answer = self.random.below(ANSWER_BYTES) + 1;
                self.send_and_leave("/v1/sealed", &body, answer).await;
                self.lost.push((digest, Instant::now()));
            }
            _ => {
                if !self.stay(digest, &body).await {
                    self.refused += 1;
                    self.come_back().await;
                }
            }
        }
        match self.random.below(16) {
            0 => self.fetch().await,
            1 => {
                self.promised = self.charged;
                let voucher = self.voucher().encode();
                let answer = self.random.below(2) * self.random.below(300);
                self.send_and_leave("/v1/vouchers", &voucher, answer).await;
            }
            _ => {}
        }
    }

    /// Sends a request as far as a random byte and leaves; or, with `answer`, all of it, and leaves after so many bytes of the
    /// answer. Says whether a byte of the request was left out.
    async fn send_and_leave(&mut self, path: &str, body: &[u8], answer: u64) -> bool {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
        let all = [head.as_bytes(), body].concat();
        let sent = match answer {
            // The end is likelier than others: it is a moment of its own.
            0 if self.random.below(4) > 0 => self.random.below(all.len() as u64) as usize,
            _ => all.len(),
        };
        let stream = tokio::net::TcpStream::connect(self.listen).await;
        let mut stream = stream.expect("connected");
        // It may be refused, and closed, before all was sent.
        let _ = stream.write_all(&all[..sent]).await;
        if answer > 0 {
            let (mut some, mut nowhere) = ((&mut stream).take(answer), tokio::io::sink());
            let reading = tokio::io::copy(&mut some, &mut nowhere);
            // The connection stays open, so a shorter answer is followed by nothing.
            let _ = tokio::time::timeout(Duration::from_millis(20), reading).await;
        }
        sent < all.len()
    }

    /// Sends a job and reads to its end. Says whether it was served; if not, the channel was lent no more.
    async fn stay(&mut self, digest: EnvelopeDigest, body: &[u8]) -> bool {
        let (status, answer, whole) = http(self.listen, "POST", "/v1/sealed", body).await;
        if status == 200 {
            assert!(whole, "nobody cut this answer");
            self.learn(digest, &answer);
            return true;
        }
        // Jobs that were left are still being judged, and reserve in the meantime.
        let (code, expected) = (said(&answer).0, [(402, "exposure"), (503, "busy")]);
        assert!(
            expected.contains(&(status, code.as_str())),
            "{status} {code}"
        );
        false
    }

    fn learn(&mut self, digest: EnvelopeDigest, answer: &[u8]) {
        let frames = frames(answer);
        let charge = frames.iter().find(|frame| frame.kind == FrameKind::Charge);
        let signed = SignedCharge::decode(&charge.expect("a charge").payload).expect("a charge");
        self.charged = self.charged.max(signed.charge.cumulative.0);
        self.known.insert(digest, signed.charge.cost.0);
    }

    /// Asks for the receipts of jobs whose ends it has not seen.
    async fn fetch(&mut self) {
        for (digest, sent) in std::mem::take(&mut self.lost) {
            match self.fetched(digest).await {
                true => {}
                false if sent.elapsed() > GONE => self.gone.push(digest),
                false => self.lost.push((digest, sent)),
            }
        }
    }

    async fn fetched(&mut self, digest: EnvelopeDigest) -> bool {
        let path = format!("/v1/receipts/{digest}");
        let leave = self.leave(Some(digest));
        let (status, answer, _) = http_as(self.listen, "GET", &path, b"", &leave).await;
        if status == 200 {
            self.learn(digest, &answer);
            return true;
        }
        assert_eq!((status, said(&answer).0.as_str()), (404, "receipt"));
        false
    }

    /// Pays all that it can learn of, until it is served again.
    async fn come_back(&mut self) {
        let began = Instant::now();
        loop {
            self.pay().await;
            let (digest, body) = self.job();
            if self.stay(digest, &body).await {
                return;
            }
            assert!(began.elapsed() < STUCK, "it pays and is not served");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn pay(&mut self) {
        self.fetch().await;
        self.promised = self.charged;
        if self.promised > 0 {
            let voucher = self.voucher().encode();
            let (status, answer, _) = http(self.listen, "POST", "/v1/vouchers", &voucher).await;
            assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
        }
    }

    async fn owed(&self) -> u64 {
        let path = format!("/v1/channels/{}", self.terms.address());
        let (status, body, _) = http_as(self.listen, "GET", &path, b"", &self.leave(None)).await;
        let value: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(status, 200, "{value}");
        let owed = value["owed_nano"].as_str().expect("a decimal string");
        owed.parse().expect("a number")
    }

    /// The books of guest, proxy and payer agree, the payer owes what it can know of, and once it has paid it is served.
    async fn check(&mut self, guest: &Guest) {
        let channel = self.terms.address();
        let began = Instant::now();
        loop {
            let (running, charged) = guest.with(channel, |books| (books.running, books.charged));
            if (running, charged) == (0, self.owed().await) {
                break;
            }
            assert!(began.elapsed() < STUCK, "the guest charged {charged}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.fetch().await;
        for digest in std::mem::take(&mut self.gone) {
            // On a busy machine it may have started later.
            self.fetched(digest).await;
        }
        let (charged, jobs, most) = guest.with(channel, |books| {
            (books.charged, books.kept.len(), books.unpaid_most)
        });
        assert_eq!(self.known.values().sum::<u64>(), charged);
        assert_eq!((self.known.len(), self.charged), (jobs, charged));
        assert!(most <= WINDOW, "{most} were owed at once");
        self.come_back().await;
    }
}

async fn open_channels(ledger: &ledger::Ledger) -> Vec<ChannelTerms> {
    let payer = Wallet::from_seed(&[2; 32], ChainId::EMBEDDED);
    ledger
        .faucet(&payer.address(), Nano(9_000_000_000))
        .expect("money");
    let open = |number: u64| {
        let terms = ChannelTerms {
            salt: number,
            ..channel_terms()
        };
        let deploy = terms.deploy(fixtures::DEPOSIT, 1).expect("a deposit");
        let boc = payer.transfer(number as u32, fixtures::FAR, &[deploy]);
        ledger
            .send_external(&boc.expect("one transfer"))
            .expect("accepted");
        terms
    };
    (0..CHANNELS).map(open).collect()
}

/// So many jobs, shared among the channels.
async fn leave_at_random_bytes(jobs: u64) {
    let given = std::env::var("CHRYSALIS_SEED").ok();
    let seed: u64 = given.and_then(|text| text.parse().ok()).unwrap_or(1);
    println!("CHRYSALIS_SEED={seed}");
    let directory = directory();
    let (ledger, url) = node().await;
    let channels = open_channels(&ledger).await;
    let config = config(directory.path(), url);
    let Serving {
        listen,
        served: _served,
        ..
    } = serve(config.clone(), pending()).await.expect("serves");
    let (books, number) = (Arc::new(Guest::default()), Arc::new(Mutex::new(seed << 32)));
    let guests = books.clone();
    guest(&config, move |frames, stream: UnixStream| {
        let (guest, mut number) = (guests.clone(), number.lock().expect("whole"));
        *number += 1;
        let seed = *number;
        async move { guest.answer(frames, stream, seed).await }
    });
    let payers = channels.into_iter().map(|terms| {
        let mut payer = Payer {
            listen,
            random: Random(seed.wrapping_add(terms.salt << 48)),
            terms,
            jobs: 0,
            promised: 0,
            known: HashMap::new(),
            charged: 0,
            lost: Vec::new(),
            gone: Vec::new(),
            refused: 0,
        };
        let guest = books.clone();
        tokio::spawn(async move {
            while payer.jobs < jobs / CHANNELS {
                payer.step().await;
            }
            payer.check(&guest).await;
            payer
        })
    });
    let mut refused = 0;
    for payer in futures_util::future::join_all(payers).await {
        let payer = payer.expect("each payer's checks hold");
        let (jobs, known) = (payer.jobs, payer.known.len());
        println!(
            "{jobs} jobs, {known} charged, {} times lent no more",
            payer.refused
        );
        assert!(known as u64 > jobs / 8, "most jobs never ran");
        refused += payer.refused;
    }
    assert!(refused > 0, "no channel reached what it is lent");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leaves_at_any_byte_owes_what_the_guest_charged_and_is_served_once_it_paid() {
    leave_at_random_bytes(450).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "ten thousand jobs take minutes"]
async fn ten_thousand_jobs_left_at_any_byte_leave_whole_books() {
    leave_at_random_bytes(10_000).await;
}
