use super::*;

fn open(path: &Path, channel: u8) -> Result<Budget, BudgetError> {
    let channel = Address {
        workchain: 0,
        hash: [channel; 32],
    };
    Budget::open(
        path,
        ChainId::EMBEDDED,
        channel,
        SigningKey::from_bytes(&[7; 32]),
    )
}

fn voucher(cumulative: u64, key: u8) -> SignedVoucher {
    let voucher = Voucher {
        chain: ChainId::EMBEDDED,
        channel: Address {
            workchain: 0,
            hash: [1; 32],
        },
        cumulative: Nano(cumulative),
        usage_root: [0; 32],
    };
    voucher.sign(&SigningKey::from_bytes(&[key; 32]))
}

#[test]
fn two_clients_on_one_state_file_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let first = open(&path, 1).unwrap();
    assert!(matches!(open(&path, 1), Err(BudgetError::InUse(_))));
    drop(first);
    assert!(open(&path, 1).is_ok());
    assert!(matches!(
        open(&path, 2),
        Err(BudgetError::Another {
            what: "channel",
            ..
        })
    ));
}

#[test]
fn the_payees_echo_heals_a_restored_backup_and_nothing_else_does() {
    let directory = tempfile::tempdir().unwrap();
    let budget = open(&directory.path().join("state"), 1).unwrap();
    assert_eq!(budget.adopt(&voucher(50, 7)), Ok(true));
    assert_eq!(budget.adopt(&voucher(40, 7)), Ok(false));
    assert_eq!(budget.adopt(&voucher(60, 8)), Err(BudgetError::NotOurs));
    assert_eq!(budget.cumulative(), Ok(Nano(50)));
    assert_eq!(budget.unacknowledged(), Ok(None));
}

#[test]
fn a_day_has_a_limit_for_each_key_and_for_all_that_counts_what_is_in_flight() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let own = KeyLimits {
        job: Some(Nano(30)),
        day: Some(Nano(50)),
    };
    let limits = Limits {
        day: Some(Nano(100)),
        keys: [("ci".to_owned(), own)].into(),
    };
    let budget = open(&path, 1).unwrap().limited(limits.clone());
    let reserve =
        |amount, key: &str| budget.reserve(Nano(amount), Nano(1_000_000), &Spender::named(key));
    assert!(matches!(
        reserve(31, "ci"),
        Err(BudgetError::JobLimit { max: Nano(30), .. })
    ));
    let first = reserve(30, "ci").unwrap();
    assert!(matches!(
        reserve(21, "ci"),
        Err(BudgetError::DayInFlight { .. })
    ));
    let second = reserve(70, "default").unwrap();
    assert!(matches!(
        reserve(1, "default"),
        Err(BudgetError::DayInFlight { .. })
    ));
    drop((first, second));
    assert_eq!(budget.in_flight(), Nano(0));
    let row = |day: u64, key: &str, cost: u64| {
        let connection = budget.lock();
        let receipt = [day as u8, cost as u8].repeat(16);
        let row = params![receipt, day as i64, key, cost as i64];
        {
            connection.execute(
                "INSERT INTO spent VALUES (?1, ?2, 'm', ?3, 1, 0, 2, ?4)",
                row,
            )
        }
        .unwrap();
    };
    let today = today().unwrap();
    row(today - 1, "ci", 49);
    row(today, "ci", 25);
    assert!(matches!(
        reserve(26, "ci"),
        Err(BudgetError::DayLimit {
            spent: Nano(25),
            ..
        })
    ));
    assert!(reserve(25, "ci").is_ok(), "yesterday is over");
    assert!(matches!(
        reserve(76, "other"),
        Err(BudgetError::DayLimit { .. })
    ));
    let spent = budget.spent_since(today - 1).unwrap();
    let spent: Vec<_> = { spent.iter() }
        .map(|spent| (spent.day, spent.key.as_str(), spent.jobs, spent.cost))
        .collect();
    let expected = [(today - 1, "ci", 1, Nano(49)), (today, "ci", 1, Nano(25))];
    assert_eq!(spent, expected);
    // What was spent is on disk: a program that starts again begins where it was.
    drop(budget);
    let budget = open(&path, 1).unwrap().limited(limits);
    let again = budget.reserve(Nano(26), Nano(1_000_000), &Spender::named("ci"));
    assert!(matches!(again, Err(BudgetError::DayLimit { .. })));
}

#[test]
fn jobs_in_flight_together_stay_within_the_deposit() {
    let directory = tempfile::tempdir().unwrap();
    let budget = open(&directory.path().join("state"), 1).unwrap();
    budget.adopt(&voucher(50, 7)).unwrap();
    let reserve = |amount| budget.reserve(Nano(amount), Nano(100), &Spender::default());
    let first = reserve(40).unwrap();
    assert!(matches!(reserve(11), Err(BudgetError::InFlight { .. })));
    assert!(matches!(reserve(51), Err(BudgetError::Deposit { .. })));
    drop(first);
    assert!(reserve(50).is_ok());
}
