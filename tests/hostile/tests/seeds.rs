//! The bars: seeds, bytes, and two jobs that look alike. `CHRYSALIS_SEED=N` tells one seed's story instead of many, with all that passed.

use client::ClientError;
use hostile::faults::{Fault, Planned};
use hostile::host::Host;
use hostile::invariants::{Broken, Told};
use hostile::links::{Link, Route, Way};
use hostile::site::WINDOW;
use hostile::story::{Story, Wish, ask, in_time, log, tell};
use hostile::world::World;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use wire::RefusalCode;

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// Counts panics, those of tasks, too; and loses the lines that a guest writes to its serial port.
fn begin() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let nowhere = std::fs::File::create("/dev/null").expect("/dev/null");
        nix::unistd::dup2_stderr(nowhere).expect("another standard error");
        let said = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            said(info);
        }));
    });
}

/// What is wrong with a story, a panic of a task included.
fn broken(story: impl FnOnce() -> Story) -> (Story, Vec<Broken>) {
    let before = PANICS.get();
    let story = story();
    let mut broken = story.broken.clone();
    if PANICS.get() > before {
        broken.push(Broken("a task panicked".into()));
    }
    (story, broken)
}

/// Does something with so many seeds on the processors that there are.
fn each(seeds: u64, work: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    let some = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            work(seed);
        }
    };
    std::thread::scope(|scope| {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        (0..workers).for_each(|_| drop(scope.spawn(some)));
    });
}

/// Tells so many seeds' stories. Each thing that a host does has to have happened.
fn tell_all(seeds: u64) {
    begin();
    let given = std::env::var("CHRYSALIS_SEED").ok();
    if let Some(seed) = given.and_then(|text| text.parse().ok()) {
        let (story, broken) = broken(|| tell(seed));
        println!("{}", story.log);
        assert_eq!(broken, Vec::new(), "CHRYSALIS_SEED={seed}");
        return;
    }
    let began = Instant::now();
    let all = Mutex::new((BTreeMap::<Fault, u32>::new(), Vec::new()));
    each(seeds, |seed| {
        let (story, broken) = broken(|| tell(seed));
        let mut all = all.lock().expect("whole");
        for (fault, times) in story.applied {
            *all.0.entry(fault).or_default() += times;
        }
        if !broken.is_empty() {
            all.1.push((seed, broken));
        }
    });
    let (applied, broken) = all.into_inner().expect("whole");
    println!("{seeds} seeds in {:?}: {applied:?}", began.elapsed());
    for (seed, broken) in &broken {
        println!("CHRYSALIS_SEED={seed}: {broken:?}");
    }
    assert!(broken.is_empty(), "{} seeds are broken", broken.len());
    let absent: Vec<Fault> = { Fault::ALL.into_iter() }
        .filter(|fault| {
            applied
                .get(fault)
                .is_none_or(|times| *times < seeds as u32 / 500)
        })
        .collect();
    assert_eq!(absent, Vec::new(), "never or seldom happened");
}

#[test]
fn four_seeds_for_each_thing_that_a_host_does() {
    tell_all(4 * Fault::ALL.len() as u64);
}

#[test]
fn a_thousand_seeds_break_nothing() {
    tell_all(1_000);
}

#[test]
#[ignore = "ten thousand seeds take minutes"]
fn ten_thousand_seeds_break_nothing() {
    tell_all(10_000);
}

/// Tells so many seeds' stories twice, and compares all that happened with its moments and sizes.
fn tell_twice(seeds: u64) {
    begin();
    let others = Mutex::new(Vec::new());
    each(seeds, |seed| {
        let (one, other) = (tell(seed).log, tell(seed).log);
        if one != other {
            println!("CHRYSALIS_SEED={seed}: first\n{one}then\n{other}");
            others.lock().expect("whole").push(seed);
        }
    });
    let others = others.into_inner().expect("whole");
    assert_eq!(others, Vec::<u64>::new(), "told otherwise the second time");
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    tell_twice(2 * Fault::ALL.len() as u64);
}

#[test]
#[ignore = "two thousand stories take minutes"]
fn a_thousand_seeds_tell_the_same_stories_twice() {
    tell_twice(1_000);
}

/// What the host sees of one job of an honest day: connections with sizes and moments, and what it can read.
fn seen(prompt: &str, tokens_max: u32) -> (String, Vec<String>) {
    begin();
    in_time(async {
        let host = Host::new(7, Vec::new());
        let world = World::start(host.clone(), 7, false);
        let client = world.client("sim");
        let job = ask(&client, &host, &Wish::of(prompt, tokens_max), true).await;
        let Told::Answered(answer) = &job.told else {
            panic!("{}", job.told.name());
        };
        assert_eq!((answer.text.as_str(), job.ends), (job.text.as_str(), false));
        tokio::time::sleep(Duration::from_secs(1)).await;
        (log(&host, &[]), readable(&host))
    })
}

/// The fields that stand in the clear, but for keys, digests and signatures.
fn readable(host: &Host) -> Vec<String> {
    use wire::FrameKind::{Charge, OpenJob};
    let of = |frame: wire::Frame| match frame.kind {
        OpenJob => {
            let envelope = wire::SignedEnvelope::decode(&frame.payload).expect("an envelope");
            let of = envelope.unverified();
            let sizes = (of.sealed_bytes, of.voucher.as_ref().map(Vec::len));
            let (costs, times) = (of.cost_max, (of.deadline_ms, of.first_token_ms));
            Some(format!(
                "{} {} {costs} {sizes:?} {times:?}",
                of.model, of.class
            ))
        }
        Charge => {
            let charge = settlement::SignedCharge::decode(&frame.payload).expect("a charge");
            let of = charge.charge;
            Some(format!("{} {} {}", of.seq, of.cost, of.cumulative))
        }
        kind => Some(format!("{kind:?} {}", frame.payload.len())),
    };
    host.with_connections(|all| {
        let guests = all.iter().filter(|one| one.link == Link::Guest);
        let bytes = guests.flat_map(|one| &one.given);
        bytes
            .flat_map(|bytes| hostile::lies::frames(bytes))
            .filter_map(of)
            .collect()
    })
}

#[test]
fn two_jobs_of_one_bucket_look_alike_to_the_host() {
    let one = seen("whatisthecapitalof", 12);
    let other = seen("zzzmyqqsecretdoctor", 12);
    assert_eq!(one, other);
    let longer = seen("whatisthecapitalof", 40);
    assert_ne!(one, longer, "nothing is compared");
}

#[test]
fn a_client_that_demands_hardware_sends_nothing_to_a_simulation() {
    begin();
    in_time(async {
        let host = Host::new(1, Vec::new());
        let world = World::start(host.clone(), 1, false);
        let client = world.client("cpu");
        let job = ask(&client, &host, &Wish::of("isthisamachineoftrust", 4), true).await;
        let refused = |error: &ClientError| {
            matches!(
                error,
                ClientError::NotTrusted(wire::NotTrusted::Profile { .. })
            )
        };
        assert!(
            matches!(&job.told, Told::Failed(error) if refused(error)),
            "{}",
            job.told.name()
        );
        let sealed = host.with_connections(|all| all.iter().any(|one| one.route == Route::Job));
        assert!(!sealed);
    });
}

#[test]
fn who_never_pays_is_lent_the_window_and_no_more() {
    begin();
    in_time(async {
        let cut = |(turn, route, at)| Planned {
            fault: Fault::Disconnect,
            link: Link::Client,
            route,
            turn,
            way: Way::Down,
            at,
            time: Duration::ZERO,
        };
        let never = [(Route::Job, 1_500), (Route::Receipt, 0), (Route::Cancel, 0)];
        let never = never.into_iter();
        let plan = never.flat_map(|(route, at)| (0..400).map(move |turn| cut((turn, route, at))));
        let host = Host::new(1, plan.collect());
        let world = World::start(host.clone(), 1, false);
        let client = world.client("sim");
        let (mut jobs, mut refused) = (Vec::new(), false);
        for _ in 0..20 {
            let job = ask(&client, &host, &Wish::of("whoeverpaysforthis", 30), true).await;
            refused = matches!(
                &job.told,
                Told::Failed(ClientError::GuestRefused(RefusalCode::Exposure { .. }))
            );
            jobs.push(job);
            if refused {
                break;
            }
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        let told: Vec<String> = jobs.iter().map(|job| job.told.name()).collect();
        assert!(refused && jobs.len() > 4, "{told:?}");
        let promised = client.budget().cumulative().expect("read");
        let broken = hostile::invariants::check(&world, &jobs, promised);
        assert_eq!(broken, Vec::new());
        host.fetch_all().await;
        let charges = hostile::invariants::charged(&world);
        assert!(charges <= WINDOW && charges + 128_000 > WINDOW, "{charges}");
    });
}

/// Has a fault happen at one byte after the other of a job, and gives the bytes that there are.
fn break_at(fault: Fault, link: Link, way: Way, step: u64) -> u64 {
    const JOBS: u64 = 100;
    let (mut from, mut last) = (0, u64::MAX);
    while from < last {
        let until = (from + JOBS * step).min(last);
        let places: Vec<u64> = (from..until).step_by(step as usize).collect();
        let (broken, bytes) = in_time(broken_at(fault, link, way, &places));
        assert_eq!(broken, Vec::new(), "{link:?} {way:?} {from} to {until}");
        (from, last) = (until, bytes);
    }
    last
}

/// What is wrong afterwards, and the bytes that a whole job has there.
async fn broken_at(fault: Fault, link: Link, way: Way, places: &[u64]) -> (Vec<Broken>, u64) {
    let cut = |(turn, at): (usize, &u64)| Planned {
        fault,
        link,
        route: Route::Job,
        // The first one is not broken.
        turn: 1 + turn as u32,
        way,
        at: *at,
        time: Duration::ZERO,
    };
    let wish = Wish::of("ashortjobofafewbytes", 5);
    let mut plan: Vec<Planned> = places.iter().enumerate().map(cut).collect();
    plan.dedup_by_key(|planned| planned.turn);
    let host = Host::new(1, plan);
    let world = World::start(host.clone(), 1, false);
    let client = world.client("sim");
    let mut jobs = vec![ask(&client, &host, &wish, true).await];
    let bytes = host.with_connections(|all| {
        let whole = all
            .iter()
            .find(|one| (one.link, one.route) == (link, Route::Job));
        whole.expect("a job").left[way as usize] as u64
    });
    for _ in places {
        jobs.push(ask(&client, &host, &wish, true).await);
        // What was cut is asked for, and paid.
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    jobs.push(ask(&client, &host, &wish, true).await);
    host.fetch_all().await;
    let promised = client.budget().cumulative().expect("read");
    let mut broken = hostile::invariants::check(&world, &jobs, promised);
    if !matches!(jobs.last().map(|job| &job.told), Some(Told::Answered(_))) {
        broken.push(Broken("whoever was cut is not served again".into()));
    }
    (broken, bytes)
}

fn break_at_all(step: u64) {
    begin();
    let began = Instant::now();
    for link in [Link::Client, Link::Guest] {
        for way in [Way::Up, Way::Down] {
            let bytes = break_at(Fault::Disconnect, link, way, step);
            println!("{link:?} {way:?}: {bytes} bytes, {:?}", began.elapsed());
        }
    }
}

#[test]
fn a_connection_breaks_at_every_hundredth_byte_of_a_job() {
    break_at_all(101);
}

#[test]
#[ignore = "some fifteen thousand jobs take minutes"]
fn a_connection_breaks_at_every_byte_of_a_job() {
    break_at_all(1);
}

#[test]
fn a_bit_flips_at_every_hundredth_byte_of_a_request() {
    begin();
    let before = PANICS.get();
    break_at(Fault::Flip, Link::Client, Way::Up, 101);
    assert_eq!(PANICS.get(), before, "a task panicked");
}
