//! What a chain node answers, whatever was asked.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    use settlement::toncenter;
    let address: settlement::Address = settlement::Address {
        workchain: 0,
        hash: [1; 32],
    };
    let _ = toncenter::channel_state(&address).answer(200, bytes);
    let _ = toncenter::stake_state(&address).answer(200, bytes);
    let _ = toncenter::registry_state(&address).answer(200, bytes);
    let _ = toncenter::registry_next(&address, true, None).answer(200, bytes);
    let question = [0i64; 4].map(toncenter::StackItem::from_i64);
    let _ = toncenter::registry_view(&address, &question).answer(200, bytes);
    let _ = toncenter::wallet_seqno(&address).answer(200, bytes);
    let _ = toncenter::transactions(&address, 16).answer(200, bytes);
    let _ = toncenter::masterchain_info().answer(200, bytes);
    let _ = toncenter::account(&address).answer(200, bytes);
});
