//! Streams that break at any byte of a job or of its answer.

use crate::world::*;
use settlement::Nano;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::*;

const WINDOW: u64 = 200_000;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}

/// Sends so many bytes, reads so many at most, and breaks the stream; then waits for the guest to have done with it.
async fn break_at(running: &Running, bytes: &[u8], answer: usize) {
    let (mut ours, theirs) = tokio::io::duplex(512);
    let serving = running.serving.clone();
    let agent = tokio::spawn(async move {
        // How the exchange ended shows in its receipt.
        let _ = serving.exchange(theirs).await;
    });
    ours.write_all(bytes).await.unwrap();
    let mut some = (&mut ours).take(answer as u64);
    tokio::io::copy(&mut some, &mut tokio::io::sink())
        .await
        .unwrap();
    drop(ours);
    agent.await.unwrap();
}

#[tokio::test]
async fn a_stream_that_breaks_at_any_byte_leaves_whole_books() {
    let given = std::env::var("CHRYSALIS_SEED").ok();
    let seed = given.and_then(|text| text.parse().ok()).unwrap_or(1);
    println!("CHRYSALIS_SEED={seed}");
    let mut random = Random(seed);
    let running = boot(&config(|c| {
        c["jobs_max"] = 1_000.into();
        c["exposure_max_nano"] = WINDOW.into();
    }))
    .await;
    let (mut charged, mut promised, mut cut, mut left, mut paid) = (0, 0, 0, 0, 0);
    for number in 0..40 {
        let job = running.seal(number, |envelope| {
            envelope.cost_max = Nano(WINDOW);
            let newest = (promised > 0).then(|| voucher(promised).encode());
            envelope.voucher = newest;
        });
        let open = Frame::encode(FrameKind::OpenJob, &job.envelope.encode());
        let request = [open, Frame::data(&job.request), end()].concat();
        if random.below(3) == 0 {
            break_at(&running, &request[..random.below(request.len())], 0).await;
            assert!(running.fetch(&job).await.is_none(), "it was not whole");
            cut += 1;
        }
        // What was cut was not recorded: the same job may come again.
        break_at(&running, &request, random.below(6_000)).await;
        let Some((receipt, charge)) = running.fetch(&job).await else {
            // Lent no more. What it owes was fetched, so it pays and is served again.
            assert!(
                charged > promised,
                "job {number} was refused and nothing is owed"
            );
            promised = charged;
            paid += 1;
            continue;
        };
        left += 1;
        charged += receipt.unverified().cost.0;
        assert_eq!(charge.charge.cumulative, Nano(charged), "job {number}");
        assert!(charged - promised <= WINDOW, "{charged} less {promised}");
    }
    println!("{cut} requests cut, {left} jobs charged, paid {paid} times");
    assert!(cut > 5 && left > 15 && paid > 1);
}
