//! What claims side by side brought.

use super::*;

#[test]
fn the_books_of_a_channel_add_up_to_what_it_has_paid_whatever_each_claim_showed() {
    on_each(|place| {
        let store = open(place);
        let lease = lease(&store);
        for (number, of_wallet, external, expected) in [
            // Each shows its own part; both show all of it; one shows less than it brought; neither shows anything.
            (1, 3, 5, [3, 5]),
            (2, 8, 8, [8, 0]),
            (3, 1, 5, [1, 7]),
            (4, 0, 0, [0, 8]),
        ] {
            let channel = Address {
                workchain: 0,
                hash: [number; 32],
            };
            // What was paid before these books began, 1, is in none of its claims.
            let new = claims(number.into(), &[channel]);
            let begun = store.begin_message(&new, lease.as_ref()).expect("stored");
            let id = begun.expect("begun").id;
            let taken = store.message_taken(id, Some(number.into()));
            taken.expect("stored");
            let claim = Claim {
                channel,
                cumulative: Nano(10),
                paid_before: Nano(1),
            };
            let begun = store.begin_external(&claim, Nano(1), 5);
            begun.expect("stored");
            let paid = |price| Paid {
                price: Nano(price),
                fee: None,
                paid_after: Nano(9),
                wallet_after: Nano(8),
            };
            let payout = store.open_payouts(id).expect("read")[0].id;
            let outcome = PayoutOutcome::Paid(paid(of_wallet));
            store.end_payout(payout, &outcome, 50).expect("stored");
            let open = store.open_external(&channel).expect("read");
            let ended = store.end_external(open.expect("open").id, (&paid(external), false), 50);
            assert_eq!(ended.expect("stored"), Some(Nano(expected[1])));
            let (count, sum) = store.paid_out(&channel).expect("read");
            assert_eq!((count, sum), (1 + u32::from(expected[1] > 0), Nano(8)));
        }
    });
}
