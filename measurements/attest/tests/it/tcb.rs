//! What a policy makes of a platform's state: each state, its advisories, days of grace, and words that keep them apart.

use crate::common::{Case, NOW_UNIX_S};
use attest::{Advisories, Refusal, TcbStatus};
use simulator::{Flaws, Platform};

const LEVEL_UNIX_S: u64 = 1_710_288_000; // 2024-03-13
const QUOTING_ENCLAVE_LEVEL_UNIX_S: u64 = 1_691_539_200; // 2023-08-09
const ADVISORY: &str = "SIMULATED-SA-00001";

fn on(platform: Platform) -> Case {
    Case::simulated(Flaws {
        platform,
        ..Flaws::default()
    })
}

#[test]
fn a_platform_with_something_against_it_is_refused_unless_state_and_advisory_are_named() {
    for (platform, status) in [
        (Platform::SwHardeningNeeded, TcbStatus::SwHardeningNeeded),
        (
            Platform::ConfigurationNeeded,
            TcbStatus::ConfigurationNeeded,
        ),
        (
            Platform::ConfigurationAndSwHardeningNeeded,
            TcbStatus::ConfigurationAndSwHardeningNeeded,
        ),
        (Platform::OutOfDate, TcbStatus::OutOfDate),
        (Platform::ModuleOutOfDate, TcbStatus::OutOfDate),
        (
            Platform::OutOfDateConfigurationNeeded,
            TcbStatus::OutOfDateConfigurationNeeded,
        ),
        (Platform::TdRelaunchAdvised, TcbStatus::TdRelaunchAdvised),
    ] {
        let mut case = on(platform);
        let advisories = vec![ADVISORY.to_owned()];
        let refused = Refusal::TcbRefused {
            status,
            advisories: advisories.clone(),
        };
        assert_eq!(case.refusal(), refused);
        case.policy.advisories = Advisories::Any;
        assert_eq!(case.refusal(), refused);

        case.policy.advisories = Advisories::Only(vec!["SIMULATED-SA-00002".into()]);
        case.policy.tcb_statuses.push(status);
        let unread = Refusal::AdvisoriesRefused {
            status,
            advisories: advisories.clone(),
        };
        assert_eq!(case.refusal(), unread);
        case.policy.advisories = Advisories::Only(advisories.clone());
        let peer = case.verify().unwrap();
        assert_eq!((peer.tcb_status, &peer.advisories), (status, &advisories));
        assert_eq!(
            (peer.tcb_level_unix_s, peer.grace_ends_unix_s),
            (LEVEL_UNIX_S, None)
        );
    }
}

#[test]
fn grace_accepts_an_outdated_platform_for_days_after_the_date_of_its_level() {
    for platform in [Platform::OutOfDate, Platform::ModuleOutOfDate] {
        let mut case = on(platform);
        case.policy.advisories = Advisories::Any;
        let days = u32::try_from((NOW_UNIX_S - LEVEL_UNIX_S).div_ceil(86_400)).unwrap();
        case.policy.out_of_date_grace_days = days;
        let peer = case.verify().unwrap();
        assert_eq!(
            (peer.tcb_status, peer.grace_ends_unix_s),
            (
                TcbStatus::OutOfDate,
                Some(LEVEL_UNIX_S + u64::from(days) * 86_400)
            )
        );
        case.policy.out_of_date_grace_days = days - 1;
        let over = Refusal::GraceOver {
            status: TcbStatus::OutOfDate,
            grace_days: days - 1,
            days: u64::from(days - 1),
            advisories: vec![ADVISORY.into()],
        };
        assert_eq!(case.refusal(), over);
    }
}

#[test]
fn grace_counts_from_the_older_of_platform_and_quoting_enclave() {
    let mut case = Case::simulated(Flaws {
        platform: Platform::OutOfDate,
        quoting_enclave_out_of_date: true,
        ..Flaws::default()
    });
    case.policy.advisories = Advisories::Any;
    case.policy.out_of_date_grace_days = 3000;
    let ends = QUOTING_ENCLAVE_LEVEL_UNIX_S + 3000 * 86_400;
    assert_eq!(case.verify().unwrap().grace_ends_unix_s, Some(ends));
    let mut enclave_alone = Case::simulated(Flaws {
        quoting_enclave_out_of_date: true,
        ..Flaws::default()
    });
    assert!(matches!(
        enclave_alone.refusal(),
        Refusal::TcbRefused {
            status: TcbStatus::OutOfDate,
            ..
        }
    ));
    enclave_alone.policy.out_of_date_grace_days = 3000;
    assert_eq!(
        enclave_alone.verify().unwrap().grace_ends_unix_s,
        Some(ends)
    );
}

#[test]
fn grace_helps_nobody_who_is_worse_than_old() {
    for platform in [
        Platform::SwHardeningNeeded,
        Platform::ConfigurationNeeded,
        Platform::OutOfDateConfigurationNeeded,
        Platform::TdRelaunchAdvised,
        Platform::Revoked,
        Platform::BelowEveryLevel,
    ] {
        let mut case = on(platform);
        case.policy.advisories = Advisories::Any;
        case.policy.out_of_date_grace_days = u32::MAX;
        let refusal = case.refusal();
        assert!(
            matches!(
                refusal,
                Refusal::TcbRefused { .. } | Refusal::BelowEveryTcbLevel { .. }
            ),
            "{refusal:?}"
        );
    }
}

/// Four outcomes that are easily taken for one another, and what each tells the operator.
#[test]
fn old_revoked_expired_and_below_every_level_are_never_confused() {
    let sentence = |case: Case| case.refusal().to_string();
    let old = sentence(on(Platform::OutOfDate));
    let revoked = sentence(on(Platform::Revoked));
    let revoked_certificate = sentence(Case::simulated(Flaws {
        platform_certificate_revoked: true,
        ..Flaws::default()
    }));
    let below = sentence(on(Platform::BelowEveryLevel));
    let expired = sentence({
        let mut case = on(Platform::OutOfDate);
        case.now_unix_s = NOW_UNIX_S + 31 * 86_400;
        case
    });
    let all = [&old, &revoked, &revoked_certificate, &below, &expired];
    for (words, only_in) in [
        ("OutOfDate", &old),
        ("fixes are missing", &old),
        ("keys of this platform leaked", &revoked),
        ("was revoked by its issuer", &revoked_certificate),
        ("below every level", &below),
        ("fetch fresh collateral", &expired),
        ("expired", &expired),
    ] {
        for sentence in all {
            assert_eq!(
                sentence.contains(words),
                sentence == only_in,
                "{words}: {sentence}"
            );
        }
    }
}

#[test]
fn a_revoked_platform_is_refused_whatever_the_policy_says() {
    let mut case = Case::simulated(Flaws {
        platform: Platform::Revoked,
        ..Flaws::default()
    });
    case.policy.tcb_statuses.push(TcbStatus::Revoked);
    assert!(matches!(
        case.refusal(),
        Refusal::TcbRefused {
            status: TcbStatus::Revoked,
            ..
        }
    ));
}

#[test]
fn a_platform_below_every_level_is_refused() {
    let case = Case::simulated(Flaws {
        platform: Platform::BelowEveryLevel,
        ..Flaws::default()
    });
    assert!(matches!(case.refusal(), Refusal::BelowEveryTcbLevel { .. }));
}
