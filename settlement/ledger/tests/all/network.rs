//! A developer, a provider and a channel between them, on a ledger in memory. Keys are fixed: they guard simulated value only.

use ed25519_dalek::SigningKey;
use ledger::{Accepted, AccountState, Ledger, Refusal, TransactionView};
use settlement::{
    Address, ChainId, ChannelState, ChannelTerms, Nano, SignedVoucher, Transfer, Voucher, Wallet,
};

pub const START: u32 = 1_800_000_000;
pub const DELAY: u32 = 3_600;
pub const CLAIMS_UNTIL: u32 = START + 30 * 86_400;
pub const DEPOSIT: Nano = Nano(2_000_000_000);

/// The contract's own constants.
pub const RESERVE: u64 = 10_000_000;
pub const STATE_BITS: u64 = 17_000;
pub const STATE_CELLS: u64 = 32;

pub struct Network {
    pub ledger: Ledger,
    pub developer: Wallet,
    pub provider: Wallet,
    pub stranger: Wallet,
    pub voucher_key: SigningKey,
    pub payee_key: SigningKey,
    pub terms: ChannelTerms,
}

impl Network {
    /// Wallets have money, the channel is not deployed.
    pub fn without_channel(ledger: Ledger) -> Network {
        ledger.set_time(START);
        let [developer, provider, stranger] =
            [1, 2, 3].map(|n| Wallet::from_seed(&[n; 32], ChainId::EMBEDDED));
        for wallet in [&developer, &provider, &stranger] {
            ledger
                .faucet(&wallet.address(), Nano(10_000_000_000))
                .expect("the faucet gives");
        }
        let voucher_key = SigningKey::from_bytes(&[4; 32]);
        let payee_key = SigningKey::from_bytes(&[5; 32]);
        let terms = ChannelTerms {
            chain: ChainId::EMBEDDED,
            payer: developer.address(),
            payee: provider.address(),
            payer_key: voucher_key.verifying_key().to_bytes(),
            payee_key: payee_key.verifying_key().to_bytes(),
            close_delay_s: DELAY,
            claims_until: CLAIMS_UNTIL,
            salt: 1,
        };
        Network {
            ledger,
            developer,
            provider,
            stranger,
            voucher_key,
            payee_key,
            terms,
        }
    }

    pub fn on(ledger: Ledger) -> Network {
        let network = Network::without_channel(ledger);
        let deploy = network.terms.deploy(DEPOSIT, 1).expect("an amount");
        assert_eq!(network.at_channel(&network.developer, deploy), Ok(()));
        network
    }

    pub fn open() -> Network {
        Network::on(Ledger::in_memory().expect("a ledger in memory"))
    }

    pub fn seqno(&self, wallet: &Wallet) -> u32 {
        match self
            .ledger
            .account(&wallet.address())
            .expect("an account")
            .state
        {
            AccountState::Active { .. } => {
                let answer = self
                    .ledger
                    .run_get_method(&wallet.address(), "seqno", &[])
                    .expect("a wallet");
                answer.stack[0].to_u64().expect("a number") as u32
            }
            _ => 0,
        }
    }

    pub fn message(&self, wallet: &Wallet, transfer: Transfer) -> Vec<u8> {
        wallet
            .transfer(self.seqno(wallet), self.ledger.now() + 60, &[transfer])
            .expect("one transfer")
    }

    pub fn send(&self, wallet: &Wallet, transfer: Transfer) -> Accepted {
        self.ledger
            .send_external(&self.message(wallet, transfer))
            .expect("the wallet accepts")
    }

    /// Sends to the channel and says what the channel said: `Err(exit code)` if it refused.
    pub fn at_channel(&self, wallet: &Wallet, transfer: Transfer) -> Result<(), i32> {
        verdict(&self.send(wallet, transfer), &self.terms.address())
    }

    pub fn claim(&self, signed: &SignedVoucher) -> Result<(), i32> {
        self.at_channel(&self.provider, self.terms.insecure_claim(signed, 7))
    }

    /// The same from outside, without a wallet.
    pub fn external(&self, signed: &SignedVoucher) -> Result<Accepted, i32> {
        let sent = self.ledger.send_external(&signed.insecure_external_claim());
        sent.map_err(|error| match error.refusal() {
            Some(Refusal::NotAccepted { exit_code, .. }) => *exit_code,
            other => panic!("{other:?}"),
        })
    }

    pub fn voucher(&self, cumulative: u64) -> SignedVoucher {
        self.unsigned(cumulative).sign(&self.voucher_key)
    }

    /// What the contract keeps for its rent at this moment, by main network's prices.
    pub fn rent_ahead(&self) -> u64 {
        let left = self.terms.claims_until.saturating_sub(self.ledger.now());
        RESERVE + (u64::from(left) * (STATE_BITS + 500 * STATE_CELLS)).div_ceil(1 << 16)
    }

    pub fn unsigned(&self, cumulative: u64) -> Voucher {
        let channel = self.terms.address();
        Voucher {
            chain: ChainId::EMBEDDED,
            channel,
            cumulative: Nano(cumulative),
            usage_root: [6; 32],
        }
    }

    pub fn state(&self) -> ChannelState {
        let answer = self
            .ledger
            .run_get_method(&self.terms.address(), ChannelState::GET_METHOD, &[])
            .expect("a channel");
        assert_eq!(answer.exit_code, 0);
        let state = ChannelState::parse(&answer.stack).expect("a channel's state");
        state.matches(&self.terms).expect("this channel's state");
        state
    }

    pub fn paid(&self) -> u64 {
        self.state().paid.0
    }

    pub fn balance(&self, address: &Address) -> u64 {
        self.ledger.account(address).expect("an account").balance.0
    }

    /// Logical time of an account's last transaction.
    pub fn last_lt(&self, address: &Address) -> u64 {
        self.ledger.account(address).expect("an account").last_lt
    }

    /// No money appears or disappears.
    pub fn assert_conserved(&self) {
        let totals = self.ledger.totals().expect("totals");
        assert_eq!(
            totals.issued,
            totals.balances + totals.in_flight + totals.fees,
            "{totals:?}"
        );
    }
}

pub fn verdict(accepted: &Accepted, account: &Address) -> Result<(), i32> {
    let transaction = of(accepted, account).expect("the account has a transaction");
    match (transaction.exit_code, transaction.action_code) {
        (Some(0), Some(0)) => Ok(()),
        (Some(0), Some(action)) => Err(action),
        (code, _) => Err(code.unwrap_or(i32::MIN)),
    }
}

pub fn of<'a>(accepted: &'a Accepted, account: &Address) -> Option<&'a TransactionView> {
    accepted
        .transactions
        .iter()
        .find(|transaction| transaction.account == *account)
}
