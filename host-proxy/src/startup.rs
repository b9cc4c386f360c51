//! What an operator wants to know when `serve` starts: whether the guest answers, collateral is at hand, the wallet can
//! pay for a claim, and the disk has room. Nothing here stops the proxy: each may come later.

use crate::api_error::ApiError;
use crate::clock::now_unix_s;
use crate::evidence;
use crate::guests::Guest;
use crate::limits::{DELEGATION_ENDS_SOON_S, GUEST_LOOK};
use crate::proxy::Proxy;
use crate::settle::{SettleError, WALLET_MIN};
use settlement::Nano;

/// Looks at everything once and says at WARN what is wrong; then, again and again, at guests that no client attests.
pub(crate) async fn look(proxy: &Proxy) {
    for finding in findings(proxy).await {
        tracing::warn!("{finding}");
    }
    loop {
        tokio::time::sleep(GUEST_LOOK).await;
        for guest in proxy.guests.iter() {
            let (attested, _) = guest.attestation();
            if attested.is_none_or(|attested| attested.at.elapsed() >= GUEST_LOOK)
                && let Err(refused) = proxy.look(guest).await
            {
                tracing::warn!(guest = %guest.address, code = refused.code, "not attested");
            }
        }
    }
}

/// One sentence for each thing that is wrong: whose, what, and what to do.
pub(crate) async fn findings(proxy: &Proxy) -> Vec<String> {
    let mut found = Vec::new();
    if let Err(error) = proxy.store.on_disk(|store| store.can_write()).await {
        found.push(format!("this host: {error}"));
    }
    for guest in proxy.guests.iter() {
        found.extend(look_at(proxy, guest).await);
    }
    match proxy.wallet().await {
        Err(error) => found.push(format!(
            "TON node: {error}; no channel can be checked until it answers"
        )),
        Ok(balance) => found.extend(poor(
            balance,
            &proxy.payee.address().friendly_unbounceable(),
        )),
    }
    let left_s = u64::from(proxy.payee.endorses_until()).saturating_sub(now_unix_s());
    if left_s < DELEGATION_ENDS_SOON_S {
        found.push(format!(
            "payee: the delegation to the endorsing key ends in {left_s} s, and no client can attest after it; renew it with \
             `host-proxy delegate`"
        ));
    }
    if let Err(error @ SettleError::OldBooks { .. }) = proxy.settler().wallet_to_sign().await {
        found.push(format!("payee: {error}"));
    }
    found
}

async fn look_at(proxy: &Proxy, guest: &Guest) -> Option<String> {
    // The time does as a nonce: nobody relies on this answer.
    let mut nonce = [0; 32];
    nonce[..8].copy_from_slice(&now_unix_s().to_be_bytes());
    let unwell = |refused: ApiError| {
        guest.refused(refused.code);
        let address = &guest.address;
        format!(
            "guest: {}; no job can be served until it answers (`guest:` of the configuration is {address})",
            refused.message
        )
    };
    let evidence = match evidence::ask(&guest.address, &proxy.payee, &nonce).await {
        Err(refused) => return Some(unwell(refused)),
        Ok(evidence) => evidence,
    };
    match proxy.stand_behind(guest, evidence, &nonce).await {
        Ok(_) => None,
        Err(refused) if refused.code == evidence::NOT_ENDORSED => Some(unwell(refused)),
        Err(refused) => Some(format!(
            "collateral source: {}; clients cannot attest until there is some (`collateral:` or \
             `collateral_sources:` of the configuration)",
            refused.message
        )),
    }
}

fn poor(balance: Nano, wallet: &str) -> Option<String> {
    (balance < WALLET_MIN).then(|| {
        format!(
            "payee: the wallet {wallet} holds {} and a claim needs {}, most of which comes back; send it some",
            balance.in_ton(),
            WALLET_MIN.in_ton()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{config, directory, guest, node};

    #[tokio::test]
    async fn a_guest_without_collateral_is_said_at_the_start_and_whose_fault_it_is() {
        let directory = directory();
        let (_ledger, url) = node().await;
        let config = config(directory.path(), url);
        guest(&config, |_, _| async {});
        let proxy = Proxy::open(&config).expect("opens");
        let of_collateral = async || {
            let found = findings(&proxy).await;
            { found.into_iter() }
                .filter(|finding| finding.starts_with("collateral source: "))
                .collect::<Vec<_>>()
        };
        assert_eq!(of_collateral().await, Vec::<String>::new());
        std::fs::remove_file(directory.path().join("collateral.json")).expect("removed");
        let found = of_collateral().await;
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("clients cannot attest"), "{found:?}");
    }
}
