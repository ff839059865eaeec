use time::Duration;

use super::*;
use crate::cluster::material::ends_at;

const LIVES: Lives =
    Lives { authority: Duration::days(300), leaf: Duration::days(30), overlap: Duration::hours(1) };

/// A Secret, a registered bundle, and a clock.
struct World {
    secret: Option<Material>,
    registered: Option<String>,
    now: OffsetDateTime,
}

impl World {
    fn new() -> Self {
        let mut world = Self { secret: None, registered: None, now: OffsetDateTime::now_utc() };
        assert!(world.step());
        world
    }

    fn names() -> Vec<String> {
        vec!["webhook.svc".to_owned()]
    }

    /// One step; whether it changed the Secret. The bundle is registered afterwards, as a replica does.
    fn step(&mut self) -> bool {
        let names = Self::names();
        let trusted = self.secret.as_ref().map(|secret| secret.bundle.clone());
        let at = Circumstances {
            names: &names,
            lives: LIVES,
            registered: self.registered.as_deref(),
            trusted: trusted.as_deref(),
            now: self.now,
        };
        let next = step(self.secret.as_ref(), &at).unwrap();
        let changed = next.is_some();
        let before = self.registered.take();
        self.secret = next.or(self.secret.take());
        let secret = self.present();
        assert!(secret.serves(&names, self.now), "what is served is always valid");
        // A certificate may be met as soon as the Secret has it: it must have been trusted before.
        if let Some(before) = before {
            assert!(
                contains(&before, &secret.authority.certificate),
                "a leaf before its authority was trusted"
            );
        }
        self.registered = Some(self.present().bundle.clone());
        changed
    }

    fn present(&self) -> &Material {
        self.secret.as_ref().unwrap()
    }

    fn authorities(&self) -> usize {
        self.present().bundle.matches("BEGIN CERTIFICATE").count()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }
}

#[test]
fn a_young_secret_is_left_alone() {
    let mut world = World::new();
    assert!(!world.step());
    world.pass(Duration::days(19));
    assert!(!world.step());
    world.pass(Duration::days(2));
    let before = world.present().clone();
    assert!(world.step());
    assert!(
        world.present().authority == before.authority && world.present().certificate != before.certificate
    );
    assert!(!world.step());
}

#[test]
fn an_authority_is_replaced_in_three_stages() {
    let mut world = World::new();
    for _ in 0..12 {
        world.pass(Duration::days(17));
        world.step();
        world.step();
    }
    let first = world.present().clone();
    assert!(first.next.is_some() && world.authorities() == 2, "announced");
    assert!(first.authority == World::new().present().authority || first.next.is_some());
    world.pass(Duration::minutes(59));
    assert!(!world.step(), "not every API server has had its hour");
    world.pass(Duration::minutes(2));
    assert!(world.step());
    assert!(Some(&world.present().authority) == first.next.as_ref() && world.authorities() == 2, "promoted");
    assert!(!world.step());
    world.pass(Duration::minutes(61));
    assert!(world.step());
    assert_eq!(world.authorities(), 1, "the old one goes");
    assert!(!world.step());
}

#[test]
fn an_authority_that_is_not_registered_signs_nothing() {
    let mut world = World::new();
    let mut secret = world.present().clone();
    secret.authority.key = String::new();
    world.secret = Some(secret);
    let registered = world.registered.clone();
    assert!(world.step(), "a lost key starts a rotation");
    assert!(world.present().next.is_some());
    world.pass(Duration::days(1));
    world.registered = registered;
    let before = world.present().clone();
    let names = World::names();
    let at = Circumstances {
        names: &names,
        lives: LIVES,
        registered: world.registered.as_deref(),
        trusted: None,
        now: world.now,
    };
    assert!(step(Some(&before), &at).unwrap().is_none());
}

#[test]
fn a_lost_leaf_is_signed_by_whoever_can() {
    let mut world = World::new();
    for key_too in [false, true] {
        let mut secret = world.present().clone();
        secret.certificate = String::new();
        if key_too {
            secret.authority.key = String::new();
        }
        world.secret = Some(secret.clone());
        world.registered = None;
        assert!(world.step());
        assert!(
            contains(&world.present().bundle, &secret.authority.certificate),
            "the old one is still trusted"
        );
        assert_eq!(world.present().authority == secret.authority, !key_too);
    }
}

#[test]
fn after_the_loss_of_the_secret_what_was_trusted_stays_so_for_a_while() {
    let mut world = World::new();
    let before = world.present().clone();
    let names = World::names();
    let at = Circumstances {
        names: &names,
        lives: LIVES,
        registered: None,
        trusted: Some(&before.bundle),
        now: world.now,
    };
    world.secret = step(None, &at).unwrap();
    assert!(world.authorities() == 2 && contains(&world.present().bundle, &before.bundle));
    world.pass(Duration::minutes(61));
    world.registered = None;
    assert!(world.step());
    assert_eq!(world.authorities(), 1);
}

#[test]
fn a_leaf_never_outlives_its_authority() {
    let lives = Lives { leaf: Duration::days(400), ..LIVES };
    let made = Material::make(&World::names(), &lives, None, OffsetDateTime::now_utc()).unwrap();
    assert_eq!(ends_at(&made.certificate), ends_at(&made.authority.certificate));
}
