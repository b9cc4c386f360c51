//! What goes wrong on demand.

/// What the proxy or the guest does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Stops after half of the answer.
    Cut,
    /// The same, and keeps the receipt until it is asked for.
    CutAndKept,
    /// Answers whole, and keeps each receipt until it is asked for.
    Keeps,
    /// The proxy gives up on the guest, which has signed a receipt that is kept.
    GivenUp,
    /// Flips a bit of the sealed answer.
    FlipAnswer,
    /// Sends the receipt of another job.
    OtherReceipt,
    /// Numbers a receipt as the one before.
    Repeats,
    /// Does not name the receipt before.
    Forgets,
    /// Counts one token too many.
    OverCount,
    /// Sends a token that the tokenizer does not have.
    ForeignToken,
    /// Sends a token that an honest worker would not have chosen.
    OtherToken,
    /// Sends a control token in the middle of a completion.
    ControlTokenInside,
    /// Answers something else than the grammar of the request allows.
    Strays,
    /// Says in the answer that it ended otherwise than its receipt says.
    OtherFinish,
    /// Flips a bit of the charge in the clear.
    FlipCharge,
    /// Charges one nano more than the payer allowed.
    AboveCap,
    /// Shows another charge than the receipt's, well signed.
    OtherCharge,
    /// Never acknowledges a voucher.
    SilentOnVouchers,
    /// Refuses the first job as sealed to a keyset that is gone.
    StaleOnce,
    /// Refuses the first job with the keys of another boot.
    RestartedOnce,
    /// Refuses without a signature.
    UnsignedRefusal,
    /// Accepts and fails.
    Failure,
    /// Answers with [`LONG`](super::LONG) tokens at once.
    Long,
    /// Answers two jobs at once, none alone.
    Together,
    /// Answers after a while.
    Slow,
    /// Refuses all jobs as busy, signed.
    Busy,
    /// Shows no evidence.
    NoEvidence,
    /// Never answers to a challenge.
    SilentOnChallenges,
    /// Makes no new keys.
    ClockHeld,
    /// Takes its time to answer to a challenge.
    SlowOnChallenges,
    /// The node does not know the channel.
    NoChannel,
    /// Computes until the client cancels.
    UntilCancelled,
    /// Embeds the first text only, because the deadline came.
    OutOfTime,
    /// The same, and says that this is all.
    Missing,
}
