//! A hundred jobs, and the proxy killed with SIGKILL at a random moment in each: no voucher is lost or paid twice, and
//! the client has a typed error or a whole answer.

use crate::common;
use serde_json::json;
use settlement::Nano;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tests::report::Steps;
use tests::stack::EMBEDDER;
use tests::{StackOptions, scenario};

const JOBS: u32 = 100;

/// xorshift64*: the moments need spread, not secrecy. The seed is printed.
struct Moments(u64);

impl Moments {
    fn new() -> Self {
        let seed = std::env::var("CHRYSALIS_SEED")
            .ok()
            .and_then(|s| s.parse().ok())
            .unwrap_or(0x5eed_0001);
        println!("seed {seed} (set CHRYSALIS_SEED to repeat another)");
        Moments(seed)
    }

    fn below(&mut self, limit: Duration) -> Duration {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let fraction =
            (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64;
        limit.mul_f64(fraction)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_voucher_is_lost_or_paid_twice_when_the_proxy_is_killed_in_every_job() {
    let Some(mut stack) = common::stack(StackOptions::default()).await else {
        return;
    };
    let channel = scenario::open_channel(&stack, &mut Steps::quiet()).unwrap();
    let client = scenario::open_client(&stack).unwrap();
    client.attest().await.unwrap();
    let body = json!({"model": EMBEDDER, "input": "A voucher is on disk before it is sent."});

    // How long an undisturbed job takes once everything is warm, so that the moments spread over all of it and as long after.
    let (mut answered, mut one, mut whole) = (0, 0, Duration::ZERO);
    for _ in 0..3 {
        let begun = Instant::now();
        one = client.embeddings(&body).await.unwrap().payment.cost.0;
        answered += one;
        whole = begun.elapsed().mul_f64(2.0);
    }
    let (mut answers, mut errors) = (0, 0);
    let mut moments = Moments::new();
    for number in 0..JOBS {
        let moment = moments.below(whole);
        let (answer, ()) = tokio::join!(client.embeddings(&body), async {
            tokio::time::sleep(moment).await;
            stack.kill_proxy();
        });
        match answer {
            Ok(answer) => {
                answers += 1;
                answered += answer.payment.cost.0;
                // What was made of jobs that were cut before may be paid meanwhile, and is in it.
                let cumulative = answer.payment.cumulative;
                assert!(cumulative >= Nano(answered), "job {number}: {cumulative}");
            }
            // Typed, and it says whose fault: the proxy's.
            Err(error) => {
                errors += 1;
                assert_eq!(error.fault(), client::Fault::Proxy, "job {number}: {error}");
            }
        }
        stack.start_proxy().unwrap();
        // The provider settles now and then, and that is killed, too.
        if number % 10 == 9 {
            let mut settle = Command::new(stack.program("host-proxy"));
            settle
                .args(["payouts", "settle", "--config"])
                .arg(stack.path("proxy.yaml"))
                .arg("--channel")
                .arg(channel.to_string());
            let mut settle = settle
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            tokio::time::sleep(moments.below(Duration::from_millis(60))).await;
            let _ = settle.kill();
            settle.wait().unwrap();
        }
    }
    println!("{answers} whole answers, {errors} typed errors");
    assert!(
        errors > 3 && answers > 3,
        "the moments spread: {answers} answers, {errors} errors"
    );

    // The client asks for what was made of jobs that were cut, and pays it or learns that nothing was.
    let begun = Instant::now();
    while client.budget().in_flight() != Nano(0) {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "a job stays open"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Nothing promised is lost: what waits is delivered, and the last word on both sides is the same.
    client.deliver_outstanding().await.unwrap();
    let promised = client.budget().cumulative().unwrap().0;
    let of_cut_jobs = (promised - answered) / one;
    println!("{of_cut_jobs} cut jobs were made whole and paid");
    assert_eq!(promised, answered + of_cut_jobs * one);
    assert!(of_cut_jobs <= errors, "{of_cut_jobs} of {errors}");
    assert!(client.budget().unacknowledged().unwrap().is_none());
    stack.settle(&channel).unwrap();
    let again = stack.settle(&channel).unwrap();
    assert_eq!(again["price_nano"], "0", "a second settlement pays nothing");
    let paid = client.read_channel().await.unwrap().state.paid;
    assert_eq!(
        paid,
        Nano(promised),
        "what the chain paid is what was promised, once"
    );
}
