//! What a configured registry changes: no job goes to what it does not allow, and the program says what it was told.

use crate::developer::chrysalis;
use crate::world::{World, chat_body};
use client::{Client, ClientError, Transport};
use ledger::{AccountState, Ledger};
use serde_json::Value;
use settlement::{
    Address, Ceilings, ChainId, Change, Entry, EntryName, Nano, Registry, RegistryRefused,
    RegistryTerms, Revocable, Tightening, Transfer, Wallet,
};
use tokio::net::TcpListener;

const DAY: u32 = 86_400;

/// A ledger with the channel of a world and a registry, whose admin and guardian is one wallet.
pub(crate) struct Chain {
    pub(crate) ledger: Ledger,
    pub(crate) node: String,
    pub(crate) wallet: Wallet,
    terms: RegistryTerms,
    registry: Registry,
}

impl Chain {
    pub(crate) async fn of(world: &World) -> Chain {
        let ledger = Ledger::in_memory().expect("a ledger");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let node = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(ledger::serve(ledger.clone(), listener));
        let wallet = Wallet::from_seed(&[5; 32], ChainId::EMBEDDED);
        let money = ledger.faucet(&wallet.address(), Nano(100_000_000_000));
        money.expect("money");

        let terms = RegistryTerms {
            chain: ChainId::EMBEDDED,
            admin: wallet.address(),
            guardian: wallet.address(),
            delay_s: DAY,
            open_until: ledger.now() + DAY,
            salt: 1,
        };
        let registry = Registry(terms.address());
        let chain = Chain {
            ledger,
            node,
            wallet,
            terms,
            registry,
        };
        let now = chain.ledger.now().into();
        let channel = world.guest.terms().deploy(Nano(1_000_000_000), now);
        chain.send(channel.expect("an amount"));
        chain.send(chain.terms.open(1));
        chain
    }

    pub(crate) fn send(&self, transfer: Transfer) {
        let wallet = self.wallet.address();
        let seqno = match self.ledger.account(&wallet).expect("an account").state {
            AccountState::Active { .. } => {
                let answer = self.ledger.run_get_method(&wallet, "seqno", &[]);
                answer.expect("a wallet").stack[0]
                    .to_u64()
                    .expect("a number") as u32
            }
            _ => 0,
        };
        let until = self.ledger.now() + 60;
        let message = self.wallet.transfer(seqno, until, &[transfer]);
        let sent = self.ledger.send_external(&message.expect("signed"));
        let sent = sent.expect("taken");
        let codes = sent.transactions.iter().map(|view| view.exit_code);
        assert!(codes.flatten().all(|code| code == 0), "{sent:?}");
    }

    fn allow(&self, entry: Entry) {
        let change = Change::Allow(entry);
        self.send(self.registry.propose(&change, 1));
        self.ledger.set_time(self.ledger.now() + DAY);
        self.send(self.registry.execute(&change.key(), 1));
    }

    fn tighten(&self, tightening: &Tightening) {
        self.send(self.registry.tighten(tightening, 1));
    }

    fn client(&self, world: &World, registry: Option<Address>) -> Client {
        let mut config = world.config();
        config.chain.registry = registry;
        config.state = world.directory.path().join("books");
        std::fs::create_dir_all(&config.state).expect("a directory");
        // Each client has books of its own: they run one after the other.
        config.state = config.state.join(hex::encode(fresh()));
        let client = Client::open(config, true).expect("a client");
        let [proxy, node] = [&world.address, &self.node].map(|url| Transport::new(url));
        client.through(proxy.expect("a url"), node.expect("a url"))
    }

    /// What a client of this registry says before it seals a chat.
    async fn refusal(&self, world: &World) -> RegistryRefused {
        let client = self.client(world, Some(self.terms.address()));
        let before = world.guest.jobs();
        let asked = client.chat(&chat_body(false), &mut |_| ()).await;
        assert_eq!(world.guest.jobs(), before, "nothing was sent");
        match asked {
            Err(ClientError::Registry { registry, why }) => {
                assert_eq!(registry, self.terms.address());
                why
            }
            other => panic!("{other:?}"),
        }
    }
}

fn fresh() -> [u8; 8] {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("random");
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn no_job_goes_to_what_the_registry_does_not_allow_and_no_older_view_counts() {
    let world = World::start(3600).await;
    let chain = Chain::of(&world).await;
    let registry = chain.terms.address();
    let session = chain.client(&world, None).attest().await.expect("a worker");
    assert!(session.registry().is_none());
    let (peer, keyset) = (session.worker().peer(), session.keyset());
    let digest = wire::image_digest(&peer.registers).0;
    let offer = keyset.model("tiny-chat").expect("an offer");
    let (root, prices) = (offer.root.0, offer.prices);

    assert_eq!(
        chain.refusal(&world).await,
        RegistryRefused::ImageNotAllowed
    );
    let not_after = chain.ledger.now() + 365 * DAY;
    chain.allow(Entry::Image { digest, not_after });
    assert_eq!(
        chain.refusal(&world).await,
        RegistryRefused::ModelNotAllowed
    );
    let mut ceilings = Ceilings {
        prompt: prices.prompt,
        cached: prices.cached,
        completion: prices.completion,
        reasoning: prices.completion,
    };
    chain.allow(Entry::Model { root, ceilings });
    let client = chain.client(&world, Some(registry));
    let answer = client.chat(&chat_body(false), &mut |_| ()).await;
    assert_eq!(answer.expect("at its ceilings").text, "hello world");
    let session = client.session().await.expect("a worker");
    let seen = session.registry().expect("a registry");
    assert_eq!((seen.version, seen.image_not_after), (5, not_after));

    ceilings.prompt = Nano(prices.prompt.0 - 1);
    chain.tighten(&Tightening::Limit(Entry::Model { root, ceilings }));
    let (what, got, most) = ("prompt", prices.prompt, ceilings.prompt);
    let dear = RegistryRefused::Price { what, got, most };
    assert_eq!(chain.refusal(&world).await, dear);

    // A node that is behind: the same registry, as it was before.
    let behind = Chain::of(&world).await;
    let stale = Chain {
        registry: chain.registry,
        terms: chain.terms.clone(),
        ..behind
    };
    stale.send(stale.terms.open(1));
    let (got, least) = (1, 6);
    let old = RegistryRefused::Old { got, least };
    assert_eq!(stale.refusal(&world).await, old);

    let platform = Revocable::platform(&peer.ppid).expect("16 bytes");
    chain.tighten(&Tightening::Revoke(platform, 3));
    let revoked = chain.refusal(&world).await;
    assert_eq!(
        revoked,
        RegistryRefused::PlatformRevoked(chain.ledger.now())
    );
    chain.tighten(&Tightening::Remove(EntryName::Model(root)));
    chain.tighten(&Tightening::Revoke(Revocable::Image(digest), 1));
    let revoked = chain.refusal(&world).await;
    assert_eq!(revoked, RegistryRefused::ImageRevoked(chain.ledger.now()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_shows_the_registry_and_says_how_old_its_view_is() {
    let world = World::start(3600).await;
    let chain = Chain::of(&world).await;
    let session = chain.client(&world, None).attest().await.expect("a worker");
    let digest = wire::image_digest(&session.worker().peer().registers).0;
    let not_after = u32::MAX;
    chain.allow(Entry::Image { digest, not_after });
    let gpu = Revocable::Gpu([7; 32]);
    chain.tighten(&Tightening::Revoke(gpu, 2));
    chain.send(chain.registry.propose(&Change::Fee(30), 1));
    let directory = world.directory.path();
    let node = format!("\"toncenter\":\"{}\"", world.address);
    let text = world.config_text();
    assert!(text.contains(&node));
    let registry = chain.terms.address();
    let with = format!(
        "\"toncenter\":\"{}\",\"registry\":\"{registry}\"",
        chain.node
    );
    std::fs::write(directory.join("client.yaml"), text.replace(&node, &with)).expect("written");
    std::fs::write(directory.join("without.yaml"), &text).expect("written");

    let show = ["registry", "show", "--config", "client.yaml"];
    let shown = chrysalis(directory, &show, "").await;
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    for line in [
        format!("registry      {registry}"),
        format!(
            "image         {} until {not_after} (Unix seconds)",
            hex::encode(digest)
        ),
        "proposed      network fee 30 basis points, from".into(),
        format!("revoked       GPU {}", hex::encode([7; 32])),
    ] {
        assert!(shown.out.contains(&line), "{line}: {}", shown.out);
    }
    let json = chrysalis(directory, &[&show[..], &["--json"]].concat(), "").await;
    let json: Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!(json["version"], 5);
    assert_eq!(json["listed"].as_array().map(Vec::len), Some(3));
    assert!(json["age_s"].as_u64().is_some_and(|age| age <= 120));

    let root = ["--insecure-test-root", "root.der", "--json"];
    let verify = |config: &'static str| {
        let target = ["verify", &world.address, "--config", config];
        [&target[..], &root]
            .concat()
            .into_iter()
            .map(String::from)
            .collect::<Vec<_>>()
    };
    let run = async |config| {
        let arguments = verify(config);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let ran = chrysalis(directory, &arguments, "").await;
        serde_json::from_str::<Value>(&ran.out).expect("JSON")
    };
    let verdict = run("client.yaml").await;
    assert_eq!(verdict["registry"]["version"], 5, "{verdict}");
    let claims = verdict["claims"].as_array().expect("claims");
    assert!(claims.iter().any(|claim| claim["about"] == "registry"));
    let verdict = run("without.yaml").await;
    assert_eq!(verdict["registry"], Value::Null);
    let unproved = verdict["not_proved"].to_string();
    assert!(unproved.contains("no registry is configured"), "{unproved}");
    let missing = ["registry", "show", "--config", "without.yaml"];
    let ran = chrysalis(directory, &missing, "").await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("chain.registry"), "{}", ran.err);

    chain.tighten(&Tightening::Revoke(Revocable::Image(digest), 1));
    let refused = run("client.yaml").await;
    assert_eq!(refused["verified"], false);
    let reason = refused["reason"].as_str().expect("text");
    assert!(reason.contains("image was revoked"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_and_guardian_change_the_registry_and_see_first_what_would_be_sent() {
    let world = World::start(3600).await;
    let chain = Chain::of(&world).await;
    let directory = world.directory.path();
    let node = format!("\"toncenter\":\"{}\"", world.address);
    let registry = chain.terms.address();
    let write = |name: &str, seed: u8| {
        let with = format!(
            "\"toncenter\":\"{}\",\"registry\":\"{registry}\"",
            chain.node
        );
        let text = world.config_text().replace(&node, &with);
        let key = format!("{{\"wallet_key_file\":\"{name}.key\",");
        let text = text.replacen('{', &key, 1);
        std::fs::write(directory.join(format!("{name}.yaml")), text).expect("written");
        let file = directory.join(format!("{name}.key"));
        std::fs::write(&file, hex::encode([seed; 32])).expect("written");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&file, private).expect("set");
    };
    write("admin", 5);
    write("other", 6);
    let other = Wallet::from_seed(&[6; 32], ChainId::EMBEDDED).address();
    chain
        .ledger
        .faucet(&other, Nano(5_000_000_000))
        .expect("money");
    let image = format!("image:{}", hex::encode([7; 32]));
    let allow = format!("{image}:4000000000");
    let run = async |config: &str, what: &[&str]| {
        let config = format!("{config}.yaml");
        let with = [&["registry"], what, &["--config", &config]].concat();
        chrysalis(directory, &with, "").await
    };
    let version = async || {
        let shown = run("admin", &["show", "--json"]).await;
        let shown: Value = serde_json::from_str(&shown.out).expect("JSON");
        shown["version"].as_u64().expect("a number")
    };
    let dry = run("admin", &["propose", &allow, "--dry-run"]).await;
    assert_eq!(dry.code, Some(0), "{}", dry.err);
    assert!(
        dry.out.contains("nothing was sent") && dry.out.contains("0.800000000 TON"),
        "{}",
        dry.out
    );
    assert_eq!(version().await, 1);
    let stranger = run("other", &["propose", &allow]).await;
    assert_eq!(stranger.code, Some(1));
    assert!(
        stranger.err.contains("only the admin's wallet"),
        "{}",
        stranger.err
    );
    for (config, what) in [
        ("admin", &["propose", &allow][..]),
        ("other", &["execute", &image]),
        ("admin", &["tighten", &format!("{image}:3000000000")]),
        ("admin", &["propose", "fee:10"]),
        ("admin", &["cancel", "fee"]),
        ("admin", &["revoke", &image, "--reason", "4"]),
    ] {
        let before = version().await;
        let ran = run(config, what).await;
        assert_eq!(ran.code, Some(0), "{what:?}: {}", ran.err);
        assert_eq!(version().await, before + 1, "{what:?}");
        if what[0] == "propose" {
            chain.ledger.set_time(chain.ledger.now() + DAY);
        }
    }
    let shown = run("admin", &["show"]).await.out;
    let revoked = format!("revoked       image {}", hex::encode([7; 32]));
    assert!(
        shown.contains(&revoked) && shown.contains("reason 4"),
        "{shown}"
    );
    // A node had said once that there is a version which there is not.
    let trust = client::trust::TrustStore::open(&directory.join("trust.sqlite")).expect("opens");
    let lie = trust.remember_registry(&registry, 1_000_000);
    lie.expect("remembered");
    let refused = run("admin", &["show"]).await;
    assert!(
        refused.err.contains("version 1000000 is"),
        "{}",
        refused.err
    );
    let dry = run("admin", &["forget", "--dry-run"]).await;
    assert!(
        dry.out.contains("would forget version 1000000"),
        "{}",
        dry.out
    );
    assert_eq!(run("admin", &["show"]).await.code, Some(1));
    let forgotten = run("admin", &["forget", "--json"]).await;
    let said: Value = serde_json::from_str(&forgotten.out).expect("JSON");
    assert_eq!(said["version"], 1_000_000);
    assert!(
        forgotten.err.contains("any version is accepted"),
        "{}",
        forgotten.err
    );
    assert_eq!(version().await, 7);
}
