//! What a host does, and when: kinds, and a plan of a few of them.

use crate::dice::Dice;
use crate::links::{Link, Route, Way};
use std::ops::Range;
use std::time::Duration;
use wire::FrameKind;

/// One thing that a host may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// From some byte on nothing arrives, and no end either.
    Drop,
    /// Bytes wait.
    Delay,
    /// The connection breaks at some byte, both ways.
    Disconnect,
    /// One way ends at some byte as if that were all.
    Truncate,
    /// A bit changes.
    Flip,
    /// A few bytes at a time.
    PartialWrites,
    /// A frame is left out.
    LoseFrame,
    /// A frame comes twice.
    DoubleFrame,
    /// A frame comes after the next one.
    ReorderFrames,
    /// The guest gets the envelope of another job.
    SwapEnvelope,
    /// The guest gets the sealed request of another job.
    SwapRequest,
    /// The guest is shown a voucher that nobody signed.
    ForgeVoucher,
    /// A whole job is sent to the guest once more, by the host itself; before or after a reboot.
    ReplayJob,
    /// The client gets the records of another answer, in which meters and text are.
    ForgeMeter,
    /// The client gets a charge that the host signed.
    ForgeCharge,
    /// The client gets a receipt of another job.
    ForgeReceipt,
    /// The client gets a refusal that the host signed, or one of another job.
    ForgeRefusal,
    /// The client gets the answer to an earlier job.
    ReplayAnswer,
    /// A voucher is acknowledged and thrown away.
    FalseAck,
    /// The client gets evidence that answered another nonce, perhaps of another boot.
    StaleKeyset,
    /// The client gets evidence of another guest on the same machine, which the host owns.
    OtherGuest,
    /// The guest's own quote with a keyset of the host's.
    OtherKeyset,
    /// Another guest, which says that its profile is `dev`.
    DevProfile,
    /// The guest's clock stands still: its steps and streams do.
    StopClock,
    /// The guest is started anew, with new keys.
    Reboot,
    /// The proxy is started anew, on its state file.
    RestartProxy,
}

use Fault::*;

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 26] = [
        Drop,
        Delay,
        Disconnect,
        Truncate,
        Flip,
        PartialWrites,
        LoseFrame,
        DoubleFrame,
        ReorderFrames,
        SwapEnvelope,
        SwapRequest,
        ForgeVoucher,
        ReplayJob,
        ForgeMeter,
        ForgeCharge,
        ForgeReceipt,
        ForgeRefusal,
        ReplayAnswer,
        FalseAck,
        StaleKeyset,
        OtherGuest,
        OtherKeyset,
        DevProfile,
        StopClock,
        Reboot,
        RestartProxy,
    ];

    /// Whether it happens at a moment, and not to a connection.
    pub fn is_timed(self) -> bool {
        matches!(self, StopClock | Reboot | RestartProxy | ReplayJob)
    }

    /// Whether it changes the body of an answer to the client.
    pub fn is_lie(self) -> bool {
        let of_answers = matches!(
            self,
            ForgeMeter | ForgeCharge | ForgeReceipt | ForgeRefusal | ReplayAnswer | FalseAck
        );
        of_answers || matches!(self, StaleKeyset | OtherGuest | OtherKeyset | DevProfile)
    }

    /// Whether it is about single frames.
    pub fn is_of_frames(self) -> bool {
        let order = matches!(self, LoseFrame | DoubleFrame | ReorderFrames);
        order || matches!(self, SwapEnvelope | SwapRequest | ForgeVoucher)
    }
}

/// One fault with its place.
#[derive(Debug, Clone, Copy)]
pub struct Planned {
    /// What.
    pub fault: Fault,
    /// On which link,
    pub link: Link,
    /// to which kind of exchange,
    pub route: Route,
    /// and to which of them, from 0.
    pub turn: u32,
    /// Which way the bytes go.
    pub way: Way,
    /// At which byte, or frame.
    pub at: u64,
    /// After which time, or for how long.
    pub time: Duration,
}

impl Planned {
    /// A fault at a place that a story of so many jobs has, unless another fault is in its way.
    pub fn draw(fault: Fault, dice: &mut Dice, jobs: u64) -> Planned {
        let link = match fault {
            _ if fault.is_of_frames() => Link::Guest,
            _ if fault.is_lie() => Link::Client,
            _ => dice.one(&[Link::Client, Link::Guest]),
        };
        let route = route(fault, link, dice);
        let way = match fault {
            SwapEnvelope | SwapRequest | ForgeVoucher => Way::Up,
            _ if fault.is_of_frames() => dice.one(&[Way::Up, Way::Down, Way::Down]),
            _ => dice.one(&[Way::Up, Way::Down]),
        };
        Planned {
            fault,
            link,
            route,
            turn: dice.within(turns(fault, route, jobs)) as u32,
            way,
            at: match fault.is_of_frames() {
                true => dice.within(0..frames(route, way)),
                false => dice.within(0..bytes(link, route, way)),
            },
            time: match fault {
                // What is made of a request that comes later is not asked for any more.
                Delay if way == Way::Up || link == Link::Guest => dice.time(1..12_000),
                Delay => dice.time(8_000..24_000),
                // Once there is something to replay.
                ReplayJob => dice.time(200..900),
                _ => dice.time(0..900),
            },
        }
    }

    /// What has to happen for this fault to have its place: nobody cancels a job or asks for a receipt unless an answer broke, and nobody
    /// is challenged twice unless its keys are new.
    fn cause(&self, dice: &mut Dice, jobs: u64) -> Option<Planned> {
        let (fault, link, at) = match (self.route, self.link) {
            _ if self.fault.is_timed() => return None,
            (Route::Cancel | Route::Receipt, Link::Client) | (Route::Cancel, Link::Guest) => {
                (Disconnect, Link::Client, dice.within(200..900))
            }
            (Route::Receipt, Link::Guest) => (Disconnect, Link::Guest, dice.within(200..900)),
            _ if self.fault == StaleKeyset => (Reboot, Link::Guest, 0),
            _ => return None,
        };
        Some(Planned {
            fault,
            link,
            route: Route::Job,
            turn: dice.within(turns(self.fault, Route::Job, jobs)) as u32,
            way: Way::Down,
            at,
            time: dice.time(50..300),
        })
    }
}

/// Which exchanges of a kind there are.
fn turns(fault: Fault, route: Route, jobs: u64) -> Range<u64> {
    match (route, fault) {
        // The host has nothing yet to put in the place of the first one's.
        (
            Route::Job,
            ForgeMeter | ForgeCharge | ForgeReceipt | ReplayAnswer | SwapEnvelope | SwapRequest,
        ) => 1..jobs,
        (Route::Job | Route::Voucher, _) => 0..jobs,
        // The first one is of a client that demands hardware.
        (_, StaleKeyset | DevProfile) => 1..2,
        _ => 0..1,
    }
}

/// How many bytes pass at least.
fn bytes(link: Link, route: Route, way: Way) -> u64 {
    match (link, route, way) {
        (_, Route::Job, Way::Up) => 2_900,
        (_, Route::Job, Way::Down) => 5_500,
        (_, Route::Attest, Way::Down) => 6_000,
        (Link::Client, Route::Receipt, Way::Down) => 4_000,
        (Link::Guest, Route::Receipt, Way::Down) => 4_000,
        (Link::Client, Route::Cancel, Way::Down) => 60,
        (Link::Client, ..) => 150,
        (Link::Guest, Route::Cancel, Way::Down) => 3,
        (Link::Guest, ..) => 30,
    }
}

/// How many frames pass at least. Of an answer two records, and behind them by kind what ends it: see [`Planned::is_at`].
fn frames(route: Route, way: Way) -> u64 {
    match (route, way) {
        (Route::Job, Way::Up) => 4,
        (Route::Job, Way::Down) => 5,
        (Route::Receipt, Way::Down) => 3,
        (Route::Cancel, Way::Down) => 1,
        _ => 2,
    }
}

impl Planned {
    /// Whether this frame, before which so many passed, is the one.
    pub fn is_at(&self, kind: FrameKind, passed: u64) -> bool {
        const LAST: [FrameKind; 3] = [FrameKind::Receipt, FrameKind::Charge, FrameKind::End];
        let of_answer = (self.route, self.way) == (Route::Job, Way::Down);
        match self.at.checked_sub(2) {
            Some(last) if of_answer => LAST.get(last as usize) == Some(&kind),
            _ => self.at == passed,
        }
    }
}

fn route(fault: Fault, link: Link, dice: &mut Dice) -> Route {
    use Route::*;
    match fault {
        StaleKeyset | OtherGuest | OtherKeyset | DevProfile => Attest,
        FalseAck => Voucher,
        SwapEnvelope | SwapRequest | ForgeVoucher | ForgeMeter | ForgeRefusal | ReplayAnswer => Job,
        ForgeCharge => dice.one(&[Job, Job, Receipt]),
        ForgeReceipt => dice.one(&[Job, Receipt, Receipt]),
        _ => match link {
            Link::Client => dice.one(&[
                Job, Job, Job, Job, Job, Job, Attest, Voucher, Channel, Cancel, Receipt,
            ]),
            Link::Guest => dice.one(&[Job, Job, Job, Job, Job, Attest, Cancel, Receipt]),
        },
    }
}

/// Which fault's seed it is: as many seeds as there are kinds have all of them.
pub fn of_seed(seed: u64) -> Fault {
    Fault::ALL[(seed % Fault::ALL.len() as u64) as usize]
}

/// A few faults, the seed's own first.
pub fn plan(seed: u64, dice: &mut Dice, jobs: u64) -> Vec<Planned> {
    let others = dice.within(0..3);
    let others: Vec<Fault> = (0..others).map(|_| dice.one(&Fault::ALL)).collect();
    let mut plan = Vec::new();
    for fault in [of_seed(seed)].into_iter().chain(others) {
        let planned = Planned::draw(fault, dice, jobs);
        plan.extend(planned.cause(dice, jobs));
        plan.push(planned);
    }
    plan
}
