//! A simulated guest is accepted, and every guest, platform or evidence beside it is refused for its own reason.

use crate::common::{Case, NOW_UNIX_S, random};
use attest::{
    Collateral, Comparison, Policy, Refusal, ReportType, Root, RootClass, TcbStatus, inspect,
};
use registers::{Digest48, Register, ReportData};
use simulator::{Flaws, Platform, SimulatedModule};

#[test]
fn a_simulated_guest_is_accepted_under_its_own_root_and_says_so() {
    let case = Case::simulated(Flaws::default());
    let peer = case.verify().unwrap();
    assert_eq!(peer.root, RootClass::InsecureTest);
    assert_eq!(peer.root.to_string(), "insecure-test");
    assert_eq!(peer.registers, *crate::common::manifest().registers());
    assert_eq!(peer.tcb_status, TcbStatus::UpToDate);
    assert_eq!(peer.report_data, case.report_data);
    assert_eq!(peer.advisories, Vec::<String>::new());
    assert_eq!(peer.collateral_expires_unix_s, NOW_UNIX_S + 30 * 86_400);
}

#[test]
fn verifying_twice_gives_the_same_answer() {
    let case = Case::simulated(Flaws::default());
    assert_eq!(case.verify(), case.verify());
}

#[test]
fn a_version_5_quote_is_accepted_too() {
    let case = Case::simulated(Flaws {
        quote_version_5: true,
        ..Flaws::default()
    });
    assert_eq!(
        case.verify().unwrap().registers,
        *crate::common::manifest().registers()
    );
}

#[test]
fn an_extended_report_is_accepted_and_its_service_tds_are_looked_at() {
    let flaws = || Flaws {
        quote_extended: true,
        ..Flaws::default()
    };
    let peer = Case::simulated(flaws()).verify().unwrap();
    assert_eq!(peer.report, ReportType::Td15Ex);
    assert_eq!(peer.registers, *crate::common::manifest().registers());

    let bound = Digest48([9; 48]);
    let later = Case::simulated(Flaws {
        current_service_td: Some(bound),
        ..flaws()
    });
    let td_attributes = 1 << 28;
    assert_eq!(
        later.refusal(),
        Refusal::ServiceTd {
            mr_service_td: bound,
            td_attributes
        }
    );
    let inside = Case::simulated(Flaws {
        vm_id: 2,
        ..flaws()
    });
    assert_eq!(inside.refusal(), Refusal::Partitioned { vm_id: 2 });
    assert_eq!(
        inspected(&inside, false, false),
        Err(Refusal::Partitioned { vm_id: 2 })
    );
}

fn inspected(
    case: &Case,
    policy: bool,
    report_data: bool,
) -> Result<(Comparison, Comparison), Refusal> {
    inspect(
        &case.quote,
        &case.collateral,
        report_data.then_some(&case.report_data),
        policy.then_some(&case.policy),
        &case.root,
        case.now_unix_s,
    )
    .map(|inspected| (inspected.guest, inspected.report_data))
}

#[test]
fn an_inspection_says_what_it_did_not_compare_and_refuses_all_else() {
    use Comparison::{Equal, NotCompared};
    let mut case = Case::simulated(Flaws {
        mr_owner: Some(Digest48([6; 48])),
        ..Flaws::default()
    });
    assert_eq!(
        inspected(&case, false, false),
        Ok((NotCompared, NotCompared))
    );
    assert_eq!(inspected(&case, false, true), Ok((NotCompared, Equal)));
    assert!(matches!(
        inspected(&case, true, false),
        Err(Refusal::MrOwner { .. })
    ));
    case.policy.mr_owner = Digest48([6; 48]);
    assert_eq!(inspected(&case, true, false), Ok((Equal, NotCompared)));
    case.report_data.0[0] ^= 1;
    assert_eq!(inspected(&case, true, false), Ok((Equal, NotCompared)));
    assert!(matches!(
        inspected(&case, false, true),
        Err(Refusal::ReportDataMismatch { .. })
    ));

    // Whatever verification refuses of platform and attributes, an inspection refuses too, in the same words.
    for flaws in [
        Flaws {
            td_attributes_set: 1,
            ..Flaws::default()
        },
        Flaws {
            td_attributes_set: 1 << 63,
            ..Flaws::default()
        },
        Flaws {
            xfam: Some(0b01),
            ..Flaws::default()
        },
        Flaws {
            platform: Platform::OutOfDate,
            ..Flaws::default()
        },
        Flaws {
            platform_certificate_revoked: true,
            ..Flaws::default()
        },
        Flaws {
            seam_attributes: 1,
            ..Flaws::default()
        },
    ] {
        let case = Case::simulated(flaws);
        assert_eq!(inspected(&case, false, false), Err(case.refusal()));
    }
}

#[test]
fn empty_policy_accepts_nobody() {
    let mut case = Case::simulated(Flaws::default());
    case.policy.registers.clear();
    assert_eq!(case.refusal(), Refusal::EmptyPolicy);
    assert_eq!(inspected(&case, true, true), Err(Refusal::EmptyPolicy));
    let mut case = Case::simulated(Flaws::default());
    case.policy.tcb_statuses.clear();
    assert!(matches!(
        case.refusal(),
        Refusal::TcbRefused {
            status: TcbStatus::UpToDate,
            ..
        }
    ));
}

fn check_attributes(set: u64, clear: u64, expected: impl FnOnce(u64) -> Refusal) {
    let flaws = Flaws {
        td_attributes_set: set,
        td_attributes_clear: clear,
        ..Flaws::default()
    };
    let td_attributes = (1 << 28 | set) & !clear;
    assert_eq!(Case::simulated(flaws).refusal(), expected(td_attributes));
}

#[test]
fn a_guest_under_debug_is_refused() {
    check_attributes(1, 0, |td_attributes| Refusal::Debug { td_attributes });
}

#[test]
fn a_guest_under_profiling_is_refused() {
    check_attributes(1 << 5, 0, |td_attributes| Refusal::Debug { td_attributes });
    check_attributes(1 << 7, 0, |td_attributes| Refusal::Debug { td_attributes });
}

#[test]
fn a_guest_without_sept_ve_disable_is_refused() {
    check_attributes(0, 1 << 28, |td_attributes| Refusal::SeptVeDisable {
        td_attributes,
    });
}

#[test]
fn a_migratable_guest_is_refused() {
    check_attributes(1 << 29, 0, |td_attributes| Refusal::Migratable {
        td_attributes,
    });
}

#[test]
fn a_guest_with_perfmon_is_refused() {
    check_attributes(1 << 63, 0, |td_attributes| Refusal::Perfmon {
        td_attributes,
    });
}

#[test]
fn a_guest_with_an_unlisted_attribute_is_refused() {
    let allowed = Case::simulated(Flaws::default())
        .policy
        .td_attributes_allowed;
    // Key locker, TDX Connect provisioning agent, a reserved bit.
    for bit in [31, 62, 40] {
        check_attributes(1 << bit, 0, |got| Refusal::TdAttributes { got, allowed });
    }
}

#[test]
fn a_guest_with_harmless_attributes_is_accepted() {
    // Protection keys, linear address space separation.
    let flaws = Flaws {
        td_attributes_set: 1 << 30 | 1 << 27,
        ..Flaws::default()
    };
    assert!(Case::simulated(flaws).verify().is_ok());
}

#[test]
fn a_guest_with_a_service_td_is_refused() {
    let service_td = Digest48([3; 48]);
    let flaws = Flaws {
        mr_service_td: Some(service_td),
        ..Flaws::default()
    };
    let refusal = Case::simulated(flaws).refusal();
    assert_eq!(
        refusal,
        Refusal::ServiceTd {
            mr_service_td: service_td,
            td_attributes: 1 << 28
        }
    );
    check_attributes(1 << 17, 0, |td_attributes| Refusal::ServiceTd {
        mr_service_td: Digest48::ZERO,
        td_attributes,
    });
}

#[test]
fn a_module_of_another_signer_is_refused_even_if_its_collateral_vouches_for_it() {
    let got = Digest48([4; 48]);
    let vouched = Flaws {
        seam_signer: Some(got),
        ..Flaws::default()
    };
    assert_eq!(
        Case::simulated(vouched).refusal(),
        Refusal::SeamSigner { got }
    );
    let unlisted = Flaws {
        seam_signer_unlisted: Some(got),
        ..Flaws::default()
    };
    assert_eq!(
        Case::simulated(unlisted).refusal(),
        Refusal::SeamSigner { got }
    );
    let attributes = Flaws {
        seam_attributes: 1,
        ..Flaws::default()
    };
    assert_eq!(
        Case::simulated(attributes).refusal(),
        Refusal::SeamAttributes { got: 1 }
    );
}

#[test]
fn xfam_outside_the_policy_is_refused() {
    let policy = Case::simulated(Flaws::default()).policy;
    let (required, allowed) = (policy.xfam_required, policy.xfam_allowed);
    // Processor trace, user interrupts, last-branch records, a reserved bit; no SSE.
    for got in [
        0x602e7 | 1 << 8,
        0x602e7 | 1 << 14,
        0x602e7 | 1 << 15,
        0x602e7 | 1 << 40,
        0b01,
    ] {
        let refusal = Case::simulated(Flaws {
            xfam: Some(got),
            ..Flaws::default()
        })
        .refusal();
        assert_eq!(
            refusal,
            Refusal::Xfam {
                got,
                required,
                allowed
            }
        );
    }
    assert!(
        Case::simulated(Flaws {
            xfam: Some(0b11),
            ..Flaws::default()
        })
        .verify()
        .is_ok()
    );
}

#[test]
fn what_the_host_chose_must_be_what_the_policy_says() {
    let (got, allowed) = (Digest48([6; 48]), Digest48::ZERO);
    let mut case = Case::simulated(Flaws {
        mr_config_id: Some(got),
        ..Flaws::default()
    });
    assert_eq!(case.refusal(), Refusal::MrConfigId { got, allowed });
    case.policy.mr_config_id = got;
    assert!(case.verify().is_ok());

    let mut case = Case::simulated(Flaws {
        mr_owner: Some(got),
        ..Flaws::default()
    });
    assert_eq!(case.refusal(), Refusal::MrOwner { got, allowed });
    case.policy.mr_owner = got;
    assert!(case.verify().is_ok());

    let mut case = Case::simulated(Flaws {
        mr_owner_config: Some(got),
        ..Flaws::default()
    });
    assert_eq!(case.refusal(), Refusal::MrOwnerConfig { got, allowed });
    case.policy.mr_owner_config = got;
    assert!(case.verify().is_ok());
}

#[test]
fn collateral_older_than_some_already_seen_is_refused() {
    let mut case = Case::simulated(Flaws {
        tcb_evaluation_number: Some(17),
        ..Flaws::default()
    });
    case.policy.tcb_evaluation_number_min = 18;
    assert_eq!(
        case.refusal(),
        Refusal::EvaluationNumber { got: 17, min: 18 }
    );
    case.policy.tcb_evaluation_number_min = 17;
    assert_eq!(case.verify().unwrap().tcb_evaluation_number, 17);
}

#[test]
fn another_root_is_refused() {
    let mut case = Case::simulated(Flaws::default());
    let stranger = SimulatedModule::new(NOW_UNIX_S, &mut random("stranger")).unwrap();
    case.root = Root::insecure_test(stranger.root_der().to_vec()).unwrap();
    assert!(matches!(case.refusal(), Refusal::Root { .. }));
    case.root = Root::intel();
    assert!(matches!(case.refusal(), Refusal::Root { .. }));
}

#[test]
fn a_platform_certified_under_another_root_of_the_same_name_is_refused() {
    let case = Case::simulated(Flaws {
        platform_under_another_root: true,
        ..Flaws::default()
    });
    let refusal = case.refusal();
    assert!(
        matches!(refusal, Refusal::Chain { .. } | Refusal::Root { .. }),
        "{refusal:?}"
    );
}

#[test]
fn a_revoked_certificate_is_refused() {
    let case = Case::simulated(Flaws {
        platform_certificate_revoked: true,
        ..Flaws::default()
    });
    assert!(matches!(case.refusal(), Refusal::CertificateRevoked { .. }));
}

#[test]
fn an_unlisted_quoting_enclave_is_refused() {
    let case = Case::simulated(Flaws {
        quoting_enclave_unlisted: true,
        ..Flaws::default()
    });
    assert!(matches!(case.refusal(), Refusal::QuotingEnclave { .. }));
}

#[test]
fn collateral_of_a_stranger_or_of_another_platform_is_refused() {
    let case = Case::simulated(Flaws {
        collateral_signed_by_other_key: true,
        ..Flaws::default()
    });
    assert!(matches!(
        case.refusal(),
        Refusal::CollateralSignature { .. }
    ));
    let case = Case::simulated(Flaws {
        collateral_for_another_platform: true,
        ..Flaws::default()
    });
    assert!(matches!(
        case.refusal(),
        Refusal::CollateralForAnotherPlatform { .. }
    ));
    let mut case = Case::simulated(Flaws::default());
    let stranger = SimulatedModule::new(NOW_UNIX_S, &mut random("stranger")).unwrap();
    case.collateral = Collateral::from_json(stranger.collateral_json()).unwrap();
    assert!(matches!(case.refusal(), Refusal::Root { .. }));
}

#[test]
fn time_outside_the_collateral_is_refused() {
    let mut case = Case::simulated(Flaws::default());
    case.now_unix_s = NOW_UNIX_S + 31 * 86_400;
    assert!(matches!(case.refusal(), Refusal::CollateralExpired { .. }));
    case.now_unix_s = NOW_UNIX_S - 2 * 86_400;
    assert!(matches!(
        case.refusal(),
        Refusal::CollateralNotYetValid { .. }
    ));
    case.now_unix_s = u64::MAX;
    case.refusal();
}

#[test]
fn every_register_must_match() {
    for (at, register) in [
        Register::Mrtd,
        Register::Rtmr0,
        Register::Rtmr1,
        Register::Rtmr2,
        Register::Rtmr3,
    ]
    .iter()
    .enumerate()
    {
        let mut case = Case::simulated(Flaws::default());
        let mut expected = *crate::common::manifest().registers();
        let value = if at == 0 {
            &mut expected.mrtd
        } else {
            &mut expected.rtmr[at - 1]
        };
        let got = *value;
        value.0[47] ^= 1;
        let allowed = vec![*value];
        case.policy = Policy::exact(expected);
        assert_eq!(
            case.refusal(),
            Refusal::RegisterMismatch {
                register: *register,
                got,
                allowed
            }
        );
    }
}

#[test]
fn other_report_data_is_refused() {
    let mut case = Case::simulated(Flaws::default());
    let got = case.report_data;
    for at in [0, 31, 63] {
        case.report_data = got;
        case.report_data.0[at] ^= 1;
        assert_eq!(
            case.refusal(),
            Refusal::ReportDataMismatch {
                got: Box::new(got),
                expected: Box::new(case.report_data)
            }
        );
    }
    case.report_data = ReportData([0; 64]);
    assert!(matches!(case.refusal(), Refusal::ReportDataMismatch { .. }));
}
