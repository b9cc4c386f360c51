//! The registry contract in the TVM: what waits, what is immediate, who is refused, and with which exit code.

mod bounds;

use crate::network::{self, Network, START};
use ledger::{AccountState, Ledger};
use settlement::{
    Address, Ceilings, ChainId, Change, Contract, Entry, EntryName, Listed, Nano, Registry,
    RegistryItem, RegistryKey, RegistryState, RegistryTerms, RegistryView, Revocable, Tightening,
    Transfer, Wallet, exit, registry_exit as code,
};

const DAY: u32 = 86_400;
const DELAY: u32 = 2 * DAY;
const EXECUTABLE: u32 = 30 * DAY;
/// A registry whose admin is the developer and whose guardian is the provider.
struct Registered {
    network: Network,
    terms: RegistryTerms,
    registry: Registry,
}

fn id(n: u8) -> [u8; 32] {
    [n; 32]
}

fn image(n: u8) -> Change {
    let (digest, not_after) = (id(n), START + 365 * DAY);
    Change::Allow(Entry::Image { digest, not_after })
}

fn ceilings(all: u64) -> Ceilings {
    Ceilings {
        prompt: Nano(all),
        cached: Nano(all),
        completion: Nano(all),
        reasoning: Nano(all),
    }
}

fn model(n: u8, all: u64) -> Entry {
    Entry::Model {
        root: id(n),
        ceilings: ceilings(all),
    }
}

fn proxy(endpoint: &str) -> Change {
    Change::Allow(Entry::Proxy {
        key: id(9),
        region: *b"DE",
        endpoint: endpoint.into(),
    })
}

impl Registered {
    fn undeployed() -> Registered {
        let network = Network::without_channel(Ledger::in_memory().expect("a ledger in memory"));
        for wallet in [&network.developer, &network.provider, &network.stranger] {
            let given = network
                .ledger
                .faucet(&wallet.address(), Nano(1_000_000_000_000));
            given.expect("given");
        }
        let terms = RegistryTerms {
            chain: ChainId::EMBEDDED,
            admin: network.developer.address(),
            guardian: network.provider.address(),
            delay_s: DELAY,
            open_until: START + 30 * DAY,
            salt: 1,
        };
        let registry = Registry(terms.address());
        Registered {
            network,
            terms,
            registry,
        }
    }

    fn open() -> Registered {
        let registered = Registered::undeployed();
        assert_eq!(registered.open_it(), Ok(()));
        registered
    }

    fn open_it(&self) -> Result<(), i32> {
        self.at(&self.network.stranger, self.terms.open(1))
    }

    fn at(&self, from: &Wallet, transfer: Transfer) -> Result<(), i32> {
        network::verdict(&self.network.send(from, transfer), &self.terms.address())
    }

    fn propose(&self, change: &Change) -> Result<(), i32> {
        self.at(&self.network.developer, self.registry.propose(change, 1))
    }

    fn execute(&self, key: RegistryKey) -> Result<(), i32> {
        self.at(&self.network.stranger, self.registry.execute(&key, 1))
    }

    fn cancel(&self, key: RegistryKey) -> Result<(), i32> {
        self.at(&self.network.provider, self.registry.cancel(&key, 1))
    }

    /// By the guardian.
    fn tighten(&self, tightening: &Tightening) -> Result<(), i32> {
        let message = self.registry.tighten(tightening, 1);
        self.at(&self.network.provider, message)
    }

    fn wait(&self, seconds: u32) {
        let now = self.network.ledger.now();
        self.network.ledger.set_time(now + seconds);
    }

    /// Proposes, waits and executes.
    fn enact(&self, change: &Change) {
        assert_eq!(self.propose(change), Ok(()));
        self.wait(DELAY);
        assert_eq!(self.execute(change.key()), Ok(()));
    }

    fn state(&self) -> RegistryState {
        let answer = self.ask(RegistryState::GET_METHOD, &[]);
        RegistryState::parse(&answer).expect("a registry's state")
    }

    fn ask(
        &self,
        method: &str,
        stack: &[settlement::toncenter::StackItem],
    ) -> Vec<settlement::toncenter::StackItem> {
        let ledger = &self.network.ledger;
        let answer = ledger.run_get_method(&self.terms.address(), method, stack);
        answer.expect("a registry").stack
    }

    /// Of the image, the model and the GPU of this number, on the platform of this number.
    fn view(&self, n: u8) -> RegistryView {
        let (platform, id) = (Revocable::Platform(id(n)), id(n));
        let question = RegistryView::question(&id, &platform, &id, &id);
        let answer = self.ask(RegistryView::GET_METHOD, &question);
        RegistryView::parse(&answer).expect("a view")
    }

    fn listed(&self, proposals: bool) -> Vec<Listed> {
        let (mut all, mut last) = (Vec::new(), None);
        loop {
            let question = RegistryItem::question(proposals, last.as_ref());
            let item = RegistryItem::parse(&self.ask(RegistryItem::GET_METHOD, &question));
            let item = item.expect("an item").after(last.as_ref());
            let item = item.expect("in order");
            assert_eq!(item.version, self.state().version);
            let Some((key, listed)) = item.next else {
                return all;
            };
            all.push(listed);
            last = Some(key);
        }
    }

    fn counts(&self) -> (u16, u16, u16) {
        let state = self.state();
        (state.entries, state.revocations, state.proposals)
    }

    fn balance(&self) -> u64 {
        self.network.balance(&self.terms.address())
    }
}

#[test]
fn what_loosens_waits_is_on_the_chain_meanwhile_and_anyone_executes_it() {
    let at = Registered::open();
    assert_eq!(at.state().version, 1);
    assert_eq!(at.view(1).image_not_after, None);
    let change = image(1);
    assert_eq!(at.propose(&change), Ok(()));
    let executable_at = START + DELAY;
    let proposal = Listed::Proposal {
        change: change.clone(),
        executable_at,
    };
    assert_eq!(at.listed(true), [proposal]);
    assert_eq!(at.execute(change.key()), Err(code::TOO_EARLY));
    at.network.ledger.set_time(executable_at - 1);
    assert_eq!(at.execute(change.key()), Err(code::TOO_EARLY));
    assert_eq!(at.view(1).image_not_after, None);
    at.network.ledger.set_time(executable_at);
    assert_eq!(at.execute(change.key()), Ok(()));
    assert_eq!(at.view(1).image_not_after, Some(START + 365 * DAY));
    assert_eq!(at.execute(change.key()), Err(code::NOTHING_PROPOSED));
    assert_eq!((at.state().version, at.counts()), (3, (1, 0, 0)));

    at.enact(&Change::Allow(model(2, 50)));
    assert_eq!(at.view(2).ceilings, Some(ceilings(50)));
    let endpoint = "https://".to_owned() + &"a".repeat(66);
    at.enact(&proxy(&endpoint));
    at.enact(&Change::Fee(25));
    assert_eq!((at.state().fee_bps, at.counts()), (25, (3, 0, 0)));
    let changes = [image(1), Change::Allow(model(2, 50)), proxy(&endpoint)];
    let entries = changes.map(|change| match change {
        Change::Allow(entry) => Listed::Entry(entry),
        other => panic!("{other:?}"),
    });
    assert_eq!(at.listed(false), entries);
    // Another value for the same entry is no further entry.
    at.enact(&Change::Allow(model(2, 60)));
    assert_eq!(at.counts(), (3, 0, 0));
    at.network.assert_conserved();
}

#[test]
fn each_key_does_its_own_part_and_strangers_none() {
    let at = Registered::open();
    let (guardian, stranger) = (&at.network.provider, &at.network.stranger);
    let change = image(1);
    for other in [guardian, stranger] {
        let proposed = at.at(other, at.registry.propose(&change, 1));
        assert_eq!(proposed, Err(code::NOT_ADMIN));
        let withdrawn = at.at(other, at.registry.withdraw(1));
        assert_eq!(withdrawn, Err(code::NOT_ADMIN));
    }
    assert_eq!(at.propose(&change), Ok(()));
    let revoke = Tightening::Revoke(Revocable::Gpu(id(1)), 0);
    for message in [
        at.registry.cancel(&change.key(), 1),
        at.registry.tighten(&revoke, 1),
    ] {
        assert_eq!(at.at(stranger, message), Err(code::NOT_GUARDIAN));
    }
    assert_eq!(at.cancel(change.key()), Ok(()));
    assert_eq!(at.cancel(change.key()), Err(code::NOTHING_PROPOSED));
    assert_eq!(at.tighten(&revoke), Ok(()));
    let admins = at
        .registry
        .tighten(&Tightening::Revoke(Revocable::Platform(id(1)), 0), 1);
    assert_eq!(at.at(&at.network.developer, admins), Ok(()));
    assert_eq!(at.counts(), (0, 2, 0));
    // Whoever sends it, a message that is none is refused, and its value comes back.
    let plain = Transfer {
        bounce: true,
        ..Transfer::money(at.terms.address(), Nano(1_000_000_000))
    };
    assert_eq!(at.at(stranger, plain), Err(exit::UNKNOWN_MESSAGE));
    at.network.assert_conserved();
}

#[test]
fn a_revocation_is_immediate_and_beats_what_is_proposed() {
    let at = Registered::open();
    at.enact(&image(1));
    // One that is allowed, with a longer time on its way; and one that was never allowed.
    assert_eq!(at.propose(&image(1)), Ok(()));
    assert_eq!(at.propose(&image(2)), Ok(()));
    for n in [1, 2] {
        let revoke = Tightening::Revoke(Revocable::Image(id(n)), 7);
        assert_eq!(at.tighten(&revoke), Ok(()));
        assert_eq!(at.tighten(&revoke), Err(code::REVOKED), "once");
        let view = at.view(n);
        assert_eq!(view.image_not_after, None);
        assert_eq!(view.image_revoked_at, Some(at.network.ledger.now()));
        assert_eq!(at.propose(&image(n)), Err(code::REVOKED));
    }
    at.wait(DELAY);
    for n in [1, 2] {
        let executed = at.execute(image(n).key());
        assert_eq!(executed, Err(code::NOTHING_PROPOSED));
    }
    assert_eq!(at.counts(), (0, 2, 0));
    let revocation = Listed::Revocation {
        what: Revocable::Image(id(1)),
        at: at.network.ledger.now() - DELAY,
        reason: 7,
    };
    assert_eq!(at.listed(false)[0], revocation);
    // It ends by the timelock alone, and the image is not back by that.
    let restore = Change::Restore(Revocable::Image(id(1)));
    let unrevoked = Change::Restore(Revocable::Gpu(id(1)));
    assert_eq!(at.propose(&unrevoked), Err(code::NO_ENTRY));
    at.enact(&restore);
    let view = at.view(1);
    assert_eq!((view.image_revoked_at, view.image_not_after), (None, None));
    at.enact(&image(1));
    assert_eq!(at.counts(), (1, 1, 0));
}

#[test]
fn tightening_is_immediate_goes_one_way_and_ends_what_was_proposed() {
    let at = Registered::open();
    for change in [
        image(1),
        Change::Allow(model(2, 50)),
        proxy("http://a"),
        Change::Fee(25),
    ] {
        at.enact(&change);
        assert_eq!(at.propose(&change), Ok(()), "again, to be ended");
    }
    let limit = |entry: Entry| at.tighten(&Tightening::Limit(entry));
    let sooner = |not_after| Entry::Image {
        digest: id(1),
        not_after,
    };
    let last = START + 365 * DAY;
    for wider in [last, last + 1] {
        assert_eq!(limit(sooner(wider)), Err(code::NOT_TIGHTER));
    }
    assert_eq!(limit(sooner(last - 1)), Ok(()));
    assert_eq!(at.view(1).image_not_after, Some(last - 1));
    let mut mixed = ceilings(40);
    mixed.reasoning = Nano(51);
    let root = id(2);
    for wider in [ceilings(50), ceilings(51), mixed] {
        let model = Entry::Model {
            root,
            ceilings: wider,
        };
        assert_eq!(limit(model), Err(code::NOT_TIGHTER));
    }
    mixed.reasoning = Nano(50);
    let ceilings = mixed;
    assert_eq!(limit(Entry::Model { root, ceilings }), Ok(()));
    assert_eq!(at.view(2).ceilings, Some(mixed));
    for fee in [25, 26] {
        assert_eq!(at.tighten(&Tightening::Fee(fee)), Err(code::NOT_TIGHTER));
    }
    assert_eq!(at.tighten(&Tightening::Fee(0)), Ok(()));
    let Change::Allow(other) = proxy("http://b") else {
        panic!("an entry");
    };
    assert_eq!(limit(other), Err(code::KIND), "a proxy has no limit");
    let proxy_name = EntryName::Proxy(id(9));
    assert_eq!(at.tighten(&Tightening::Remove(proxy_name)), Ok(()));
    let again = at.tighten(&Tightening::Remove(proxy_name));
    assert_eq!(again, Err(code::NO_ENTRY));
    assert_eq!(at.counts(), (2, 0, 0), "no proposal is left");
    for name in [EntryName::Image(id(1)), EntryName::Model(id(2))] {
        assert_eq!(at.tighten(&Tightening::Remove(name)), Ok(()));
    }
    assert_eq!((at.counts(), at.listed(false).len()), ((0, 0, 0), 0));
    at.network.assert_conserved();
}

#[test]
fn admin_and_guardian_change_through_the_timelock_alone() {
    let at = Registered::open();
    let stranger = &at.network.stranger;
    let developer = &at.network.developer;
    let (to_guardian, to_admin) = (
        Change::Guardian(stranger.address()),
        Change::Admin(stranger.address()),
    );
    // A guardian stops its own replacement: both keys are needed against one owner's will.
    assert_eq!(at.propose(&to_guardian), Ok(()));
    assert_eq!(at.cancel(to_guardian.key()), Ok(()));
    at.enact(&to_guardian);
    assert_eq!(at.state().terms.guardian, stranger.address());
    assert_eq!(at.propose(&to_admin), Ok(()));
    let old = at.cancel(to_admin.key());
    assert_eq!(old, Err(code::NOT_GUARDIAN), "the old guardian");
    at.wait(DELAY);
    assert_eq!(at.execute(to_admin.key()), Ok(()));
    assert_eq!(at.propose(&image(1)), Err(code::NOT_ADMIN), "the old admin");
    let proposed = at.at(stranger, at.registry.propose(&image(1), 1));
    assert_eq!(proposed, Ok(()));
    assert_eq!(at.state().terms.admin, stranger.address());
    let withdrawn = at.at(developer, at.registry.withdraw(1));
    assert_eq!(withdrawn, Err(code::NOT_ADMIN));
}

#[test]
fn other_code_waits_as_all_that_loosens_and_is_the_code_that_was_proposed() {
    let at = Registered::open();
    let (new, other) = (Contract::Stake, Contract::Channel);
    let upgrade = Change::Code(new.code_hash());
    let execute = |code: &[u8]| {
        let message = at.registry.execute_code(code, 1).expect("code");
        at.at(&at.network.stranger, message)
    };
    assert_eq!(execute(new.code_boc()), Err(code::NOTHING_PROPOSED));
    assert_eq!(at.propose(&upgrade), Ok(()));
    assert_eq!(execute(new.code_boc()), Err(code::TOO_EARLY));
    at.wait(DELAY);
    assert_eq!(execute(other.code_boc()), Err(code::CODE));
    assert_eq!(at.execute(upgrade.key()), Err(code::CODE), "without code");
    let before = at.balance();
    assert_eq!(execute(new.code_boc()), Ok(()));
    assert_eq!(at.balance(), before);
    let ledger = &at.network.ledger;
    let gone = ledger.run_get_method(&at.terms.address(), RegistryState::GET_METHOD, &[]);
    assert_ne!(gone.expect("other code").exit_code, 0);
}

#[test]
fn of_cancel_and_execute_the_first_counts() {
    for cancels in [true, false] {
        let at = Registered::open();
        let change = image(1);
        assert_eq!(at.propose(&change), Ok(()));
        at.wait(DELAY);
        let both = match cancels {
            true => [at.cancel(change.key()), at.execute(change.key())],
            false => [at.execute(change.key()), at.cancel(change.key())],
        };
        assert_eq!(both, [Ok(()), Err(code::NOTHING_PROPOSED)]);
        let allowed = at.view(1).image_not_after.is_some();
        assert_eq!(allowed, !cancels);
    }
}

#[test]
fn a_proposal_is_void_after_its_time_and_a_second_one_waits_anew() {
    let at = Registered::open();
    let change = image(1);
    assert_eq!(at.propose(&change), Ok(()));
    at.wait(DELAY + EXECUTABLE + 1);
    assert_eq!(at.execute(change.key()), Err(code::VOID));
    assert_eq!(at.propose(&change), Ok(()), "in its place");
    assert_eq!(at.counts(), (0, 0, 1));
    at.wait(DELAY - 1);
    assert_eq!(at.propose(&change), Ok(()));
    at.wait(1);
    assert_eq!(at.execute(change.key()), Err(code::TOO_EARLY));
    at.wait(DELAY - 1 + EXECUTABLE);
    assert_eq!(at.execute(change.key()), Ok(()), "at its last moment");
}

#[test]
fn money_above_a_years_rent_comes_out_and_a_proposal_brings_what_is_missing() {
    let at = Registered::open();
    let poor = |transfer: Transfer| Transfer {
        value: Nano(100_000_000),
        ..transfer
    };
    let developer = &at.network.developer;
    assert_eq!(at.propose(&image(3)), Ok(()));
    for message in [
        at.registry.propose(&image(1), 1),
        at.registry.execute(&image(3).key(), 1),
        at.registry.cancel(&image(3).key(), 1),
        at.registry.tighten(&Tightening::Fee(0), 1),
        at.registry.withdraw(1),
    ] {
        let refused = at.at(developer, poor(message));
        assert_eq!(refused, Err(code::TOO_LITTLE_VALUE));
    }
    let gift = Transfer::money(at.terms.address(), Nano(3_000_000_000));
    at.network.send(&at.network.stranger, gift);
    let (before, had) = (at.balance(), at.network.balance(&developer.address()));
    assert_eq!(at.at(developer, at.registry.withdraw(1)), Ok(()));
    let gained = at.network.balance(&developer.address()) - had;
    assert!(gained > 2_900_000_000, "{gained}");
    let reserve = at.balance();
    assert!(before - reserve > 3_000_000_000, "{before} {reserve}");
    println!("a registry keeps {reserve} nanoTON");
    let again = at.at(developer, at.registry.withdraw(1));
    assert_eq!(again, Err(code::NOTHING_ABOVE));
    // Rent is taken from the reserve; the next proposal fills it up.
    at.wait(200 * DAY);
    assert_eq!(at.tighten(&Tightening::Fee(0)), Err(code::NOT_TIGHTER));
    assert!(at.balance() < reserve);
    assert_eq!(at.propose(&image(2)), Ok(()));
    assert_eq!(at.balance(), reserve);
    at.network.assert_conserved();
}

#[test]
fn values_out_of_form_are_refused_when_they_are_proposed() {
    let at = Registered::open();
    for endpoint in ["", &"a".repeat(75)] {
        assert_eq!(at.propose(&proxy(endpoint)), Err(code::VALUE));
    }
    assert_eq!(at.propose(&Change::Fee(501)), Err(code::VALUE));
    assert_eq!(at.propose(&Change::Fee(500)), Ok(()));
    let account = at.network.ledger.account(&at.terms.address());
    assert!(matches!(
        account.expect("read").state,
        AccountState::Active { .. }
    ));
    let nobody = Address {
        workchain: 0,
        hash: [0; 32],
    };
    assert_eq!(
        at.propose(&Change::Admin(nobody)),
        Ok(()),
        "and can be cancelled"
    );
    assert_eq!(at.cancel(Change::Admin(nobody).key()), Ok(()));
}
