//! One seed from its beginning to its end: a few jobs under a few faults, then a calm in which everything must be well again.

use crate::dice::Dice;
use crate::faults::{Fault, Planned, plan};
use crate::host::{Connection, Host};
use crate::invariants::{self, Broken, CALL_MAX, Job, Told};
use crate::links::{Link, Route, Way};
use crate::scripted;
use crate::site::{LIFETIME_S, MODEL};
use crate::world::World;
use client::Client;
use host_proxy::InUse;
use serde_json::json;
use settlement::Nano;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::time::{sleep, timeout};

/// What came of a seed.
pub struct Story {
    /// Events in their order, without anything random: kinds, sizes, moments, verdicts.
    pub log: String,
    /// What is not as it must be.
    pub broken: Vec<Broken>,
    /// Faults that took effect.
    pub applied: BTreeMap<Fault, u32>,
}

/// How long a guest and its streams may: its own deadlines are of half a minute, its proxy's of one.
const GUEST_REST: Duration = Duration::from_secs(100);
/// How long a client and its streams may take to come to rest, by the longest deadline of the shipped code, a connection's of 15 minutes.
const REST: Duration = Duration::from_secs(1_000);
/// From the last fault to the next job: less than the life of a keyset.
const CALM: Duration = Duration::from_secs(50);
/// How long an unfinished job may be asked for after that.
const SETTLING: Duration = Duration::from_secs(60);

/// What an application wants.
pub struct Wish {
    /// The user's message.
    pub prompt: String,
    /// Completion tokens at most.
    pub tokens_max: u32,
    /// When it leaves.
    pub leaves: Option<Duration>,
}

/// Runs something in a world of its own, where time stands still until everybody waits.
pub fn in_time<T>(work: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(work)
}

/// Tells the story of a seed.
pub fn tell(seed: u64) -> Story {
    in_time(async {
        let mut dice = Dice::new(seed, 0);
        let wishes: Vec<Wish> = (0..dice.within(2..4))
            .map(|_| Wish::draw(&mut dice))
            .collect();
        let plan = plan(seed, &mut dice, wishes.len() as u64);
        of_plan(seed, plan, &wishes, &mut dice).await
    })
}

/// The story of these wishes under this plan.
pub async fn of_plan(seed: u64, plan: Vec<Planned>, wishes: &[Wish], dice: &mut Dice) -> Story {
    let demands_hardware = plan
        .iter()
        .any(|planned| planned.fault == Fault::DevProfile);
    let (timed, placed) = plan
        .into_iter()
        .partition(|planned| planned.fault.is_timed());
    let host = Host::new(seed, placed);
    let world = World::start(host.clone(), seed, dice.percent(25));
    let mut jobs = Vec::new();
    let mut broken = Vec::new();
    if demands_hardware {
        broken.extend(sent_to_a_simulation(&world, &wishes[0]).await);
    }
    let client = world.client("sim");
    let happening = happen(&world, timed, dice.within(0..u64::MAX));
    let asking = ask_all(&client, &host, wishes, dice, &mut jobs);
    tokio::join!(happening, asking);
    host.calm();
    sleep(CALM).await;
    broken.extend(well_again(&client, &host, dice, &mut jobs).await);
    let promised = client.budget().cumulative().unwrap_or(Nano(u64::MAX));
    drop(client);
    sleep(GUEST_REST).await;
    broken.extend(guest_at_rest(&host));
    // It makes keys for as long as it lives.
    host.put_guest(None);
    sleep(REST).await;
    broken.extend(at_rest(&world).await);
    broken.extend(invariants::check(&world, &jobs, promised));
    Story {
        log: log(&host, &jobs),
        broken,
        applied: host.all_applied(),
    }
}

impl Wish {
    /// To have this answered, and to wait for it.
    pub fn of(prompt: &str, tokens_max: u32) -> Wish {
        Wish {
            prompt: prompt.into(),
            tokens_max,
            leaves: None,
        }
    }

    fn draw(dice: &mut Dice) -> Wish {
        let leaves = dice.percent(15).then(|| dice.time(1..250));
        Wish {
            leaves,
            ..Wish::to_stay(dice)
        }
    }

    fn to_stay(dice: &mut Dice) -> Wish {
        let length = dice.within(16..40);
        Wish {
            prompt: dice.letters(length),
            tokens_max: dice.within(1..40) as u32,
            leaves: None,
        }
    }
}

/// What happens at moments.
async fn happen(world: &World, mut timed: Vec<Planned>, seed: u64) {
    timed.sort_by_key(|planned| planned.time);
    let (host, mut dice) = (&world.host, Dice::new(seed, 2));
    for planned in timed {
        sleep(planned.time.saturating_sub(host.now())).await;
        if planned.fault != Fault::ReplayJob {
            host.applied(planned.fault);
        }
        match planned.fault {
            Fault::Reboot => world.boot(),
            Fault::RestartProxy => world.restart_proxy(),
            Fault::ReplayJob => host.replay(&mut dice).await,
            _ => {
                host.freeze(true);
                sleep(match planned.way {
                    Way::Up => Duration::from_secs(LIFETIME_S.into()),
                    Way::Down => dice.time(1..9_000),
                })
                .await;
                host.freeze(false);
            }
        }
    }
}

async fn ask_all(
    client: &Client,
    host: &Host,
    wishes: &[Wish],
    dice: &mut Dice,
    jobs: &mut Vec<Job>,
) {
    let mut wishes = wishes.iter();
    while let Some(wish) = wishes.next() {
        let second = match dice.percent(25) {
            true => wishes.next(),
            false => None,
        };
        match second {
            None => jobs.push(ask(client, host, wish, true).await),
            Some(second) => {
                let pause = dice.time(2..20);
                let later = async {
                    sleep(pause).await;
                    ask(client, host, second, false).await
                };
                let both = tokio::join!(ask(client, host, wish, false), later);
                jobs.extend(<[Job; 2]>::from(both));
            }
        }
        sleep(dice.time(0..200)).await;
    }
}

/// One job, to the moment at which the application knows.
pub async fn ask(client: &Client, host: &Host, wish: &Wish, alone: bool) -> Job {
    let body = json!({
        "model": MODEL, "max_tokens": wish.tokens_max, "temperature": 0,
        "messages": [{"role": "user", "content": wish.prompt}],
    });
    let began = host.now();
    let mut shown = String::new();
    let mut show = |event: &serde_json::Value| {
        let text = event.pointer("/choices/0/delta/content");
        shown += text.and_then(|text| text.as_str()).unwrap_or_default();
    };
    let asked = client.chat(&body, &mut show);
    // Nobody waits for ever: what takes longer than it may is named as that.
    let told = match timeout(wish.leaves.unwrap_or(2 * CALL_MAX), asked).await {
        Err(_left) => Told::Left,
        Ok(Ok(answer)) => Told::Answered(Box::new(answer)),
        Ok(Err(error)) => Told::Failed(error),
    };
    let prompt_ids = random_model::prompt(&wish.prompt);
    let (text, tokens, ends) = scripted::answer(&prompt_ids, wish.tokens_max as usize);
    Job {
        prompt: wish.prompt.clone(),
        prompt_ids,
        text,
        tokens,
        ends,
        began,
        ended: host.now(),
        alone,
        shown,
        told,
    }
}

/// A client that demands hardware seals nothing to a guest of profile `sim`, though it measures to the manifest.
async fn sent_to_a_simulation(world: &World, wish: &Wish) -> Option<Broken> {
    let job = ask(&world.client("cpu"), &world.host, wish, true).await;
    let sealed = |all: &[Connection]| all.iter().any(|one| one.route == Route::Job);
    let sealed = matches!(job.told, Told::Answered(_)) || world.host.with_connections(sealed);
    sealed.then(|| Broken("a job is sealed to a guest of another profile".into()))
}

/// Once nothing is in the way, the next job is answered, what is owed is paid, and nothing is set aside.
async fn well_again(
    client: &Client,
    host: &Arc<Host>,
    dice: &mut Dice,
    jobs: &mut Vec<Job>,
) -> Vec<Broken> {
    let mut broken = Vec::new();
    let job = ask(client, host, &Wish::to_stay(dice), true).await;
    match &job.told {
        Told::Answered(answer) if answer.delivered => {}
        Told::Answered(_) => broken.push(Broken("the calm: a voucher is not delivered".into())),
        other => broken.push(Broken(format!("the calm: {}", other.name()))),
    }
    jobs.push(job);
    host.fetch_all().await;
    if let Err(error) = client.deliver_outstanding().await {
        broken.push(Broken(format!("the calm: an older voucher: {error}")));
    }
    sleep(SETTLING).await;
    let in_flight = client.budget().in_flight();
    if in_flight != Nano::ZERO {
        broken.push(Broken(format!("{in_flight} nanoTON stay set aside")));
    }
    broken
}

/// Nothing is under way with the guest any more.
fn guest_at_rest(host: &Host) -> Vec<Broken> {
    let slots = host.guest_in_use();
    let slots = (slots != 0).then(|| Broken(format!("the guest keeps {slots} slots")));
    let streams = open(host, |one| one.link == Link::Guest);
    slots.into_iter().chain(streams).collect()
}

/// Connections that are still open.
fn open(host: &Host, of: impl Fn(&Connection) -> bool) -> Option<Broken> {
    let open: Vec<String> = host.with_connections(|all| {
        let open = all.iter().filter(|one| one.closed.is_none() && of(one));
        let named = open.map(|one| format!("{:?} {:?}", one.link, one.route));
        named.collect()
    });
    let broken = || Broken(format!("connections stay open: {open:?}"));
    (!open.is_empty()).then(broken)
}

/// Nothing that anybody held is held any more.
async fn at_rest(world: &World) -> Vec<Broken> {
    let mut broken = Vec::new();
    let proxies = world.proxies();
    for proxy in &proxies {
        let in_use = proxy.in_use();
        if in_use != InUse::default() {
            broken.push(Broken(format!("the proxy keeps {in_use:?}")));
        }
    }
    drop(proxies);
    broken.extend(open(&world.host, |_| true));
    world.stop();
    sleep(Duration::from_secs(1)).await;
    let tasks = Handle::current().metrics().num_alive_tasks();
    if tasks != 0 {
        broken.push(Broken(format!("{tasks} tasks stay")));
    }
    broken
}

/// What happened, without anything random.
pub fn log(host: &Host, jobs: &[Job]) -> String {
    let mut log = String::new();
    for job in jobs {
        let (began, ended, told) = (job.began, job.ended, job.told.name());
        let _ = writeln!(log, "job {began:?} to {ended:?}: {told}");
    }
    host.with_connections(|all| {
        for (number, one) in all.iter().enumerate() {
            let _ = writeln!(
                log,
                "{number} {:?} {:?} boot {} {:?} to {:?}: up {}, {} arrived; down {}, {} arrived",
                one.link,
                one.route,
                one.boot,
                one.opened,
                one.closed.unwrap_or_default(),
                one.given[0].len(),
                one.left[0],
                one.given[1].len(),
                one.left[1],
            );
        }
    });
    for (fault, times) in host.all_applied() {
        let _ = writeln!(log, "{fault:?}: {times}");
    }
    log
}
