//! What a host does, and when: kinds, and a plan of a few of them.

use crate::dice::Dice;
use crate::links::{Link, Route, Way};
use std::time::Duration;

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
    /// A fault at a place that there is.
    pub fn draw(fault: Fault, dice: &mut Dice, jobs: u64) -> Planned {
        let link = match fault {
            _ if fault.is_of_frames() => Link::Guest,
            _ if fault.is_lie() => Link::Client,
            _ => dice.one(&[Link::Client, Link::Guest]),
        };
        let route = route(fault, link, dice);
        let (turns, bytes) = match route {
            Route::Job => (jobs, 9_000),
            Route::Attest => (2, 9_000),
            Route::Voucher => (jobs, 700),
            Route::Channel => (1, 900),
            Route::Cancel | Route::Receipt | Route::Other => (2, 3_000),
        };
        let way = match fault {
            SwapEnvelope | SwapRequest | ForgeVoucher => Way::Up,
            _ => dice.one(&[Way::Up, Way::Down]),
        };
        Planned {
            fault,
            link,
            route,
            turn: dice.within(0..turns) as u32,
            way,
            at: match fault.is_of_frames() {
                true => dice.within(0..4),
                false => dice.within(0..bytes),
            },
            time: match fault {
                Delay => dice.time(1..12_000),
                _ => dice.time(0..900),
            },
        }
    }
}

fn route(fault: Fault, link: Link, dice: &mut Dice) -> Route {
    use Route::*;
    match fault {
        StaleKeyset | OtherGuest | OtherKeyset | DevProfile => Attest,
        FalseAck => Voucher,
        SwapEnvelope | SwapRequest | ForgeVoucher | ForgeMeter | ForgeRefusal | ReplayAnswer => Job,
        ForgeCharge | ForgeReceipt => dice.one(&[Job, Job, Receipt]),
        _ => match link {
            Link::Client => dice.one(&[
                Job, Job, Job, Job, Attest, Voucher, Channel, Cancel, Receipt,
            ]),
            Link::Guest => dice.one(&[Job, Job, Job, Job, Attest, Cancel, Receipt]),
        },
    }
}

/// A few faults. The first one's kind follows from the seed, so that as many seeds as there are kinds have all of them.
pub fn plan(seed: u64, dice: &mut Dice, jobs: u64) -> Vec<Planned> {
    let first = Fault::ALL[(seed % Fault::ALL.len() as u64) as usize];
    let others = dice.within(0..3);
    let others: Vec<Fault> = (0..others).map(|_| dice.one(&Fault::ALL)).collect();
    { [first].into_iter().chain(others) }
        .map(|fault| Planned::draw(fault, dice, jobs))
        .collect()
}
