//! What the demo does, step by step, and how long each step takes.

use crate::{Options, Programs};
use std::time::Duration;

/// A step, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The programs of this repository are compiled.
    Programs,
    /// The embeddings model is fetched.
    Models,
    /// The guest image is built, for which the agent is compiled in a sandbox.
    Image,
    /// Ledger, proxy and guest are started.
    Start,
    /// The scenario runs.
    Answer,
}

/// All steps of one run, with how long each will take on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan(Vec<(Step, Duration)>);

/// Processor-seconds from nothing; their sum is measured (docs/benchmarks.md). Compilers use up to eight processors well.
const PROGRAMS_CPU_S: u64 = 13 * 60;
const AGENT_CPU_S: u64 = 9 * 60;
const PROCESSORS_MAX: u64 = 8;
/// Seconds, whatever the number of processors: packages of the image fetched and unpacked; the same when they are there.
const PACKAGES_S: u64 = 60;
const UNCHANGED_S: u64 = 10;
const BOOT_S: u64 = 30;

impl Plan {
    /// The plan of a run that starts these programs: what lies in their target directory need not be made again.
    pub fn new(options: Options, programs: &Programs) -> Plan {
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let is_compiled = programs.path("scenario").exists();
        let is_built = programs
            .target_dir()
            .join("images/sim/manifest.json")
            .exists();
        Plan::with(options, processors, is_compiled, is_built)
    }

    fn with(options: Options, processors: u64, is_compiled: bool, is_built: bool) -> Plan {
        let compile_s = |cpu_s: u64| cpu_s / processors.clamp(1, PROCESSORS_MAX);
        let programs_s = match (is_compiled, options.process) {
            (true, _) => UNCHANGED_S,
            // The agent is compiled with them.
            (false, true) => compile_s(PROGRAMS_CPU_S + AGENT_CPU_S),
            (false, false) => compile_s(PROGRAMS_CPU_S),
        };
        let image_s = match is_built {
            true => UNCHANGED_S,
            false => PACKAGES_S + compile_s(AGENT_CPU_S),
        };
        let mut steps = vec![(Step::Programs, programs_s), (Step::Models, UNCHANGED_S)];
        match options.process {
            true => steps.push((Step::Start, 2)),
            false => steps.extend([(Step::Image, image_s), (Step::Start, BOOT_S)]),
        }
        steps.push((Step::Answer, UNCHANGED_S));
        let steps = steps.into_iter();
        Plan(
            steps
                .map(|(step, s)| (step, Duration::from_secs(s)))
                .collect(),
        )
    }

    /// What a person reads when a step begins: which one, what it does, how long it and the rest will take.
    pub fn announce(&self, step: Step) -> String {
        let at = self.0.iter().position(|(planned, _)| *planned == step);
        let Some(at) = at else { return String::new() };
        let rest: Duration = self.0[at + 1..].iter().map(|(_, takes)| takes).sum();
        let then = match rest.is_zero() {
            true => String::new(),
            false => format!(", then {} more", told(rest)),
        };
        let (number, count, takes) = (at + 1, self.0.len(), told(self.0[at].1));
        format!(
            "[{number}/{count}] {}: about {takes}{then}",
            self.what(step)
        )
    }

    fn what(&self, step: Step) -> &'static str {
        let is_machine = self.0.iter().any(|(step, _)| *step == Step::Image);
        match step {
            Step::Programs => "compile the programs of this repository",
            Step::Models => "fetch the embeddings model, 91 MB by digest",
            Step::Image => {
                "build the guest image: packages by digest, the agent compiled in a sandbox"
            }
            Step::Start if is_machine => {
                "start ledger and proxy, boot the image in QEMU without hardware help"
            }
            Step::Start => "start ledger, proxy and the guest agent as a process",
            Step::Answer => "attest, seal, infer, verify, pay",
        }
    }
}

fn told(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

#[test]
fn every_step_is_announced_with_its_time_and_the_rest() {
    let fresh = Plan::with(Options::default(), 2, false, false);
    let again = Plan::with(Options::default(), 2, true, true);
    let first = fresh.announce(Step::Programs);
    assert!(first.starts_with("[1/5] compile"), "{first}");
    assert!(first.ends_with("about 7 min, then 7 min more"), "{first}");
    let first = again.announce(Step::Programs);
    assert!(first.ends_with("about 10 s, then 1 min more"), "{first}");
    let last = fresh.announce(Step::Answer);
    assert_eq!(last, "[5/5] attest, seal, infer, verify, pay: about 10 s");
    let process = Options {
        process: true,
        ..Options::default()
    };
    let process = Plan::with(process, 64, false, false);
    assert_eq!(process.announce(Step::Image), "");
    let start = process.announce(Step::Start);
    assert!(start.starts_with("[3/4] start ledger, proxy"), "{start}");
}
