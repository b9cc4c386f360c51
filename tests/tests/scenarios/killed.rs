//! Jobs while the proxy, or the guest, is killed with SIGKILL at random moments: no receipt or voucher is lost or counted twice, and
//! the client has a typed error or a whole answer for each. The long tier kills each two hundred times.

use crate::common;
use client::{Answer, Client, ClientError, Fault};
use serde_json::{Value, json};
use settlement::{Address, Nano};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tests::report::Steps;
use tests::stack::EMBEDDER;
use tests::{Stack, StackOptions, scenario};

const KILLS: u32 = 200;

#[tokio::test(flavor = "multi_thread")]
async fn no_voucher_is_lost_or_paid_twice_when_the_proxy_is_killed_in_every_job() {
    proxy_killed(40).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "two hundred proxies take minutes"]
async fn a_proxy_killed_two_hundred_times_loses_nothing() {
    proxy_killed(KILLS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_receipt_is_lost_or_counted_twice_when_the_guest_is_killed_under_load() {
    guest_killed(6).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "two hundred guests take minutes"]
async fn a_guest_killed_two_hundred_times_loses_nothing() {
    guest_killed(KILLS).await;
}

async fn proxy_killed(kills: u32) {
    let Some(mut world) = World::start().await else {
        return;
    };
    let mut moments = Moments::new();
    for number in 0..kills {
        let moment = moments.below(world.whole);
        let (answer, ()) = tokio::join!(world.client.embeddings(&world.body), async {
            tokio::time::sleep(moment).await;
            world.stack.kill_proxy();
        });
        if let Ok(answer) = &answer {
            // What was made of jobs that were cut before may be paid meanwhile, and is in it.
            let answered = Nano((world.tally.answers + 1) * world.tally.cost_nano);
            assert!(answer.payment.cumulative >= answered, "job {number}");
        }
        let told = world.tally.take(answer);
        // Typed, and it says whose fault: the proxy's.
        assert!(matches!(told, None | Some(Fault::Proxy)), "job {number}");
        world.stack.start_proxy().unwrap();
        // The provider settles now and then, and that is killed, too.
        if number % 10 == 9 {
            let mut settle = world.proxy_command(&["payouts", "settle"]);
            settle.arg("--channel").arg(world.channel.to_string());
            let mut settle = settle
                .stderr(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            tokio::time::sleep(moments.below(Duration::from_millis(60))).await;
            let _ = settle.kill();
            settle.wait().unwrap();
        }
    }
    world.agree().await;
}

async fn guest_killed(kills: u32) {
    let Some(mut world) = World::start().await else {
        return;
    };
    let mut moments = Moments::new();
    for kill in 0..kills {
        // Three jobs at once, each somewhere else when it comes; one that ended is followed by another.
        let moment = moments.below(world.whole * 3);
        let until = Instant::now() + moment;
        let (client, body) = (&world.client, &world.body);
        let jobs = async || {
            let mut told = Vec::new();
            while Instant::now() < until {
                told.push(client.embeddings(body).await);
            }
            told
        };
        let (one, two, three, ()) = tokio::join!(jobs(), jobs(), jobs(), async {
            tokio::time::sleep(moment).await;
            world.stack.kill_guest();
        });
        for answer in [one, two, three].into_iter().flatten() {
            let told = world.tally.take(answer);
            assert!(
                matches!(told, None | Some(Fault::Proxy | Fault::Guest)),
                "kill {kill}"
            );
        }
        world.stack.restart_guest().unwrap();
    }
    world.agree().await;
}

/// A stack with a channel and a client, and what the client was told.
struct World {
    stack: Stack,
    channel: Address,
    client: Client,
    body: Value,
    /// Twice what an undisturbed job takes, so that moments spread over all of it and as long after.
    whole: Duration,
    tally: Tally,
}

/// Every job costs the same.
#[derive(Default)]
struct Tally {
    answers: u64,
    errors: u64,
    cost_nano: u64,
}

impl Tally {
    /// Counts an answer, or gives whose fault it is that there is none.
    fn take(&mut self, answer: Result<Answer, ClientError>) -> Option<Fault> {
        match answer {
            Ok(answer) => {
                self.answers += 1;
                self.cost_nano = answer.payment.cost.0;
                None
            }
            Err(error) => {
                println!("{error}");
                self.errors += 1;
                Some(error.fault())
            }
        }
    }
}

impl World {
    async fn start() -> Option<World> {
        // So cheap that one deposit is enough, and that a claim is worth its fee.
        let options = StackOptions {
            without_chat: true,
            measured: vec![
                ("/price_step_nano", json!(500_000)),
                ("/models/0/prompt_nano", json!(31_250_000_000_u64)),
            ],
            ..StackOptions::default()
        };
        let stack = common::stack(options).await?;
        let channel = scenario::open_channel(&stack, &mut Steps::quiet()).unwrap();
        // What a job may cost stays set aside at the proxy while it asks a guest that is gone for the receipt, half a minute.
        let config = std::fs::read_to_string(stack.client_config()).unwrap();
        let (usual, less) = ("cost_max_nano: 400000000", "cost_max_nano: 5000000");
        assert!(config.contains(usual), "{config}");
        std::fs::write(stack.client_config(), config.replace(usual, less)).unwrap();
        let client = scenario::open_client(&stack).unwrap();
        client.attest().await.unwrap();
        let body = json!({"model": EMBEDDER, "input": "A voucher is on disk before it is sent."});
        let (mut tally, mut whole) = (Tally::default(), Duration::ZERO);
        for _ in 0..3 {
            let begun = Instant::now();
            assert_eq!(tally.take(client.embeddings(&body).await), None);
            whole = begun.elapsed() * 2;
        }
        Some(World {
            stack,
            channel,
            client,
            body,
            whole,
            tally,
        })
    }

    fn proxy_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.stack.program("host-proxy"));
        command.args(words).arg("--config");
        command
            .arg(self.stack.path("proxy.yaml"))
            .stdin(Stdio::null());
        command
    }

    /// Waits until nothing is open. Then client, proxy and chain have the same sum, of answers and of cut jobs that were made whole.
    async fn agree(self) {
        let Tally {
            answers,
            errors,
            cost_nano,
        } = self.tally;
        println!("{answers} whole answers, {errors} typed errors");
        assert!(errors > 3 && answers > 3, "the moments spread");
        // The client asks for what was made of jobs that were cut, and pays it or learns that nothing was.
        let begun = Instant::now();
        while self.client.budget().in_flight() != Nano(0) {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "a job stays open"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // Nothing promised is lost: what waits is delivered, and the last word on both sides is the same.
        self.client.deliver_outstanding().await.unwrap();
        let promised = self.client.budget().cumulative().unwrap().0;
        let of_cut_jobs = (promised - answers * cost_nano) / cost_nano;
        println!("{of_cut_jobs} cut jobs were made whole and paid");
        assert_eq!(promised, (answers + of_cut_jobs) * cost_nano);
        assert!(of_cut_jobs <= errors, "{of_cut_jobs} of {errors}");
        assert!(self.client.budget().unacknowledged().unwrap().is_none());
        let channels = self.proxy_command(&["channels", "--json"]).output();
        let channels: Value = serde_json::from_slice(&channels.unwrap().stdout).unwrap();
        let books = &channels["channels"][0];
        for name in ["owed_nano", "vouchered_nano"] {
            assert_eq!(books[name], promised.to_string(), "{name}: {books}");
        }
        self.stack.settle(&self.channel).unwrap();
        let again = self.stack.settle(&self.channel).unwrap();
        assert_eq!(again["price_nano"], "0", "a second settlement pays nothing");
        let paid = self.client.read_channel().await.unwrap().state.paid;
        assert_eq!(
            paid,
            Nano(promised),
            "what the chain paid is what was promised, once"
        );
    }
}

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
