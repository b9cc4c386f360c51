//! What a client leaves on the disk, and what it learns from it.

use super::*;

#[tokio::test]
async fn what_was_learned_of_platforms_outlives_the_purse() {
    let flaws = |number| Flaws {
        tcb_evaluation_number: Some(number),
        ..Flaws::default()
    };
    let new = World::start_with(3600, flaws(90)).await;
    chat(&new.client().unwrap()).await.unwrap();
    // Another purse and another channel, and a host that shows collateral from before.
    let old = World::start_with(3600, flaws(89)).await;
    copy(&new, "trust.sqlite", "kept.sqlite");
    let mut config = old.config();
    config.trust = Some(new.directory.path().join("kept.sqlite"));
    let error = Client::open(config, true)
        .unwrap()
        .attest()
        .await
        .err()
        .unwrap();
    let told = error.to_string();
    assert!(told.contains("89") && told.contains("90"), "{told}");
}

#[tokio::test]
async fn what_is_secret_is_for_this_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::start(3600).await;
    let at = |name: &str| world.directory.path().join(name);
    let set = |name: &str, mode| {
        std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set("payer.key", 0o644);
    let error = world.client().err().unwrap().to_string();
    assert!(
        error.contains("payer.key") && error.contains("0644"),
        "{error}"
    );
    set("payer.key", 0o400);
    drop(world.client().unwrap());
    for name in ["state.sqlite", "trust.sqlite"] {
        let mode = std::fs::metadata(at(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn another_machine_behind_the_same_address_is_another_platform() {
    let mut world = World::start(3600).await;
    let platform = async |world: &World| {
        let session = world.client().unwrap().attest().await;
        session.unwrap().platform()
    };
    assert_eq!(platform(&world).await, Platform::First);
    assert_eq!(platform(&world).await, Platform::Known);
    world.replace_machine().await;
    assert_eq!(platform(&world).await, Platform::Another);
    assert_eq!(platform(&world).await, Platform::Known);
}
