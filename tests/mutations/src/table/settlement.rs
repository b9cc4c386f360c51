//! Terms, states and statements that decide what a payee gets.

use crate::mutation::{Mutation, Test};

const TERMS: Test = Test::lib(
    "settlement",
    "channel::conditions::tests::delay_and_life_have_bounds_on_both_sides",
);
const STATE: Test = Test::lib(
    "settlement",
    "state::tests::a_channel_lends_only_while_no_end_of_claims_is_under_way",
);
const fn statement(name: &'static str) -> Test {
    Test::of("settlement", "all", name)
}

pub(super) const ALL: &[Mutation] = &[
    Mutation {
        fault: "a channel lends although its payer may close it at once",
        file: "settlement/src/channel/conditions.rs",
        text: "CLOSE_DELAY_S_MIN..=CLOSE_DELAY_S_MAX => Ok(()),",
        with: "..=CLOSE_DELAY_S_MAX => Ok(()),",
        test: TERMS,
    },
    Mutation {
        fault: "a close delay has no upper bound, so that money never gets out",
        file: "settlement/src/channel/conditions.rs",
        text: "CLOSE_DELAY_S_MIN..=CLOSE_DELAY_S_MAX => Ok(()),",
        with: "CLOSE_DELAY_S_MIN.. => Ok(()),",
        test: TERMS,
    },
    Mutation {
        fault: "a channel lends although its claims are about to end",
        file: "settlement/src/channel/conditions.rs",
        text: "left_s @ ..CHANNEL_LIFE_S_MIN => Err(TermsRefused::LifeShort { left_s }),",
        with: "..CHANNEL_LIFE_S_MIN => Ok(()),",
        test: TERMS,
    },
    Mutation {
        fault: "a channel lends although it outlives the rent that it was deployed with",
        file: "settlement/src/channel/conditions.rs",
        text: "CHANNEL_LIFE_S_MIN..=CHANNEL_LIFE_S_MAX => Ok(()),",
        with: "CHANNEL_LIFE_S_MIN.. => Ok(()),",
        test: TERMS,
    },
    Mutation {
        fault: "a channel lends although its payer's key is about to change",
        file: "settlement/src/state.rs",
        text: "return Err(NotAdmitted::Rotating { at });",
        with: "let _ = at;",
        test: STATE,
    },
    Mutation {
        fault: "a channel lends although its payer is closing it",
        file: "settlement/src/state.rs",
        text: "ChannelStatus::Closing => return Err(NotAdmitted::Closing),",
        with: "ChannelStatus::Closing => {}",
        test: STATE,
    },
    Mutation {
        fault: "a rotation is no deadline for claims",
        file: "settlement/src/state.rs",
        text: "[Some(self.claims_until), unlock_at, self.rotates_at()]",
        with: "[Some(self.claims_until), unlock_at, None]",
        test: STATE,
    },
    Mutation {
        fault: "an unlock is no deadline for claims",
        file: "settlement/src/state.rs",
        text: "[Some(self.claims_until), unlock_at, self.rotates_at()]",
        with: "[Some(self.claims_until), unlock_at.and(None), self.rotates_at()]",
        test: STATE,
    },
    Mutation {
        fault: "a charge's cap is the guest's own word",
        file: "settlement/src/cap.rs",
        text: ".map(|()| VerifiedCap { signed: *self })",
        with: ".or(Some(())).map(|()| VerifiedCap { signed: *self })",
        test: statement("statements::a_cap_that_the_payer_did_not_sign_is_refused_by_name"),
    },
    Mutation {
        fault: "a charge may be above its cap",
        file: "settlement/src/charge.rs",
        text: "if cost > cap {",
        with: "if false {",
        test: statement("statements::a_signed_charge_above_its_cap_is_refused_by_name"),
    },
    Mutation {
        fault: "a cap names no job, so that one signature allows every job its cost",
        file: "settlement/src/cap.rs",
        text: ".bytes(&self.job)\n",
        with: "\n",
        test: statement("statements::every_flipped_bit_and_every_other_length_is_refused"),
    },
    Mutation {
        fault: "a voucher names no chain",
        file: "settlement/src/voucher.rs",
        text: ".int32(self.chain.0)\n",
        with: "\n",
        test: statement("statements::every_flipped_bit_and_every_other_length_is_refused"),
    },
    Mutation {
        fault: "a channel's address does not depend on its close delay",
        file: "settlement/src/channel.rs",
        text: ".uint(32, self.close_delay_s.into())",
        with: ".uint(32, 0)",
        test: Test::of(
            "ledger",
            "all",
            "channel::only_the_payer_may_close_or_rotate_and_not_before_the_delay",
        ),
    },
];
