//! The owner's password: hashed for a new owner, checked for one who is known. Tens of milliseconds of one core, beside
//! everything else.

use sqlx::query_scalar;
use time::OffsetDateTime;

use super::World;
use crate::{
    identity::throttle::{self, Bucket},
    tenancy::{CauseKind, Failure, Run, uncancelled},
};

/// Proves that an owner who has an account asks, by its password. A new owner has nothing to prove.
pub async fn prove_owner(world: &World, run: &Run) -> Result<(), Failure> {
    if !run.password_expected || run.outputs().password_hash.is_some() {
        return Ok(());
    }
    let Some(password) = &run.password else {
        return Err(Failure::permanent(
            CauseKind::PasswordLost,
            "the service stopped before the password was hashed, and keeps no password: ask again with a new Idempotency-Key",
        ));
    };
    let email = run.operation.email.clone();
    let Some(stored) = stored_hash(world, email.clone()).await? else { return Ok(()) };
    if !check(world, email, password.expose().to_owned(), stored).await? {
        return Err(Failure::permanent(
            CauseKind::WrongPassword,
            "this email address is registered with another password: log in, or use that password",
        ));
    }
    run.remember(|outputs| outputs.owner_known = true);
    Ok(())
}

/// Hashes a new owner's password, unless it was hashed before a crash.
pub async fn hash(world: &World, run: &Run) -> Result<(), Failure> {
    let outputs = run.outputs();
    let Some(password) =
        run.password.as_ref().filter(|_| !outputs.owner_known && outputs.password_hash.is_none())
    else {
        return Ok(());
    };
    let hash = world.passwords.hash(password.expose().to_owned()).await;
    let hash = hash.map_err(|error| Failure::transient(error.to_string()))?;
    run.remember(|outputs| outputs.password_hash = Some(hash));
    Ok(())
}

/// Whether the password that was sent is that of the owner's account; not if a crash lost it.
pub async fn is_the_accounts(world: &World, run: &Run) -> Result<bool, Failure> {
    let email = run.operation.email.clone();
    match (&run.password, stored_hash(world, email.clone()).await?) {
        (Some(password), Some(stored)) => check(world, email, password.expose().to_owned(), stored).await,
        _ => Ok(false),
    }
}

/// Checks a known owner's password. It counts as a login does: this is no way around the limit on guessing.
async fn check(world: &World, email: String, password: String, stored: String) -> Result<bool, Failure> {
    let (pool, now) = (world.platform.clone(), OffsetDateTime::now_utc());
    let buckets = [Bucket::email(&email, world.guesses_max)];
    let counted = buckets.clone();
    let allowed =
        uncancelled(world.call_max, async move { throttle::count(&pool, &counted, now).await }).await?;
    if let Err(throttled) = allowed {
        let seconds = throttled.retry_after_seconds;
        let detail =
            format!("too many wrong passwords for this email address: try again in {seconds} seconds");
        return Err(Failure::permanent(CauseKind::Throttled, detail));
    }
    let right = world.passwords.verify(password, Some(stored)).await;
    let right = right.map_err(|error| Failure::transient(error.to_string()))?;
    if right {
        let pool = world.platform.clone();
        uncancelled(world.call_max, async move { throttle::forgive(&pool, &buckets, now).await }).await?;
    }
    Ok(right)
}

/// The hash of a user who is known already.
async fn stored_hash(world: &World, email: String) -> Result<Option<String>, Failure> {
    let pool = world.platform.clone();
    uncancelled(world.call_max, async move {
        let stored = query_scalar!("SELECT password_hash FROM users WHERE lower(email) = $1", email);
        Ok(stored.fetch_optional(&pool).await?.flatten())
    })
    .await
}
