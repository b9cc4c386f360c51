//! What this program endorses is what the stake contract takes as the owner's: a real keyset, its endorsement, and charges of its key.

use super::*;
use crate::fixtures::{charge, evidence, keyset, payee, receipt_key};
use ledger::{AccountState, Ledger};
use settlement::{EndorsedKey, Nano, Offence, SignedCharge, StakeState, StakeTerms, Transfer};

#[test]
fn a_keyset_as_it_is_endorsed_here_has_its_stake_slashed() {
    let terms = StakeTerms {
        chain: ChainId::EMBEDDED,
        owner: payee().address(),
        owner_key: payee().public_key(),
        unbond_delay_s: 7 * 86_400,
        slashable_until: u32::try_from(now_unix_s() + 365 * 86_400).expect("before 2106"),
        salt: 1,
    };
    let stake = terms.address();
    let payee = payee().staked(Some(stake));
    let ledger = Ledger::in_memory().expect("a ledger");
    let funds = Nano(20_000_000_000);
    ledger.faucet(&payee.address(), funds).expect("given");
    let send = |transfer: Transfer| {
        let seqno = match ledger.account(&payee.address()).expect("read").state {
            AccountState::Active { .. } => {
                let answer = ledger.run_get_method(&payee.address(), "seqno", &[]);
                let number = answer.expect("a wallet").stack[0].to_u64();
                number.expect("a number") as u32
            }
            _ => 0,
        };
        let boc = payee.wallet().transfer(seqno, u32::MAX, &[transfer]);
        let sent = ledger.send_external(&boc.expect("one transfer"));
        let sent = sent.expect("accepted").transactions;
        let at_stake = sent.iter().find(|view| view.account == stake);
        at_stake.expect("it arrived").exit_code
    };
    let bonded = Nano(10_000_000_000);
    assert_eq!(send(terms.deposit(bonded, 1).expect("an amount")), Some(0));

    let mut named = keyset(&payee);
    named.stake = stake;
    let (keyset, endorsement) = payee.endorse(&evidence(&named)).expect("ours");
    let Endorsement::Delegated {
        delegation,
        signature,
    } = endorsement
    else {
        panic!("endorsed by the payee's own key");
    };
    let (bytes, by) = (keyset.encode(), Some(delegation.encode()));
    let key = EndorsedKey::new(&bytes, keyset.receipt_key, by, signature).expect("it has the key");
    let of = |cost| -> SignedCharge {
        let mut charge = charge(7, cost, 900).charge;
        charge.stake = stake;
        charge.sign(&receipt_key())
    };
    let offence = Offence::two_charges(key, of(5), of(6)).expect("an offence");
    assert_eq!(send(terms.report(&offence, 2)), Some(0));
    let answer = ledger.run_get_method(&stake, StakeState::GET_METHOD, &[]);
    let state = StakeState::parse(&answer.expect("a stake").stack).expect("its state");
    assert_eq!((state.bonded, state.slashes), (Nano(7_000_000_000), 1));
    let answers = |least| {
        state.answers_for(
            &stake,
            payee.chain(),
            &payee.public_key(),
            least,
            now_unix_s(),
        )
    };
    assert_eq!(answers(Nano(7_000_000_000)), Ok(()));
    assert!(answers(bonded).is_err());
}
