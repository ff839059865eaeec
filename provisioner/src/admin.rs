//! `provisioner admin`: the first platform operator, and invitations.

use std::io::{Read, Write};

use anyhow::{Context, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use contract::Owner;
use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    identity::{Passwords, password::acceptable},
    settings::{AdminCommand, AdminSettings},
    state::pool,
};

/// Longest password that is read from standard input, in bytes.
const INPUT_BYTES_MAX: u64 = 4096;

/// Does what is asked for.
pub async fn run(settings: AdminSettings) -> anyhow::Result<()> {
    let pool = pool(&settings.platform_database_url, settings.ca_file.as_deref(), 1)?;
    match settings.command {
        AdminCommand::Create { email, password } => create(&pool, &email, password).await,
        AdminCommand::Invite { days } => invite(&pool, days).await,
    }
}

/// Makes a platform operator. An existing user gets the role and the new password.
async fn create(pool: &PgPool, email: &str, password: Option<String>) -> anyhow::Result<()> {
    // The prefix does not matter: this checks the address alone.
    Owner::from_email("x", email)?;
    let email = email.trim().to_lowercase();
    let password = match password {
        Some(password) => password,
        None => read_password()?,
    };
    acceptable(&password)?;
    let hash = Passwords::default().hash(password).await?;
    sqlx::query!(
        "INSERT INTO users (id, email, password_hash, platform_operator) VALUES ($1, $2, $3, true)
         ON CONFLICT (lower(email)) DO UPDATE SET platform_operator = true, password_hash = excluded.password_hash",
        Uuid::now_v7(),
        email,
        hash,
    )
    .execute(pool)
    .await
    .context("writing the user")?;
    say(&format!("{email} is a platform operator"))
}

fn read_password() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(INPUT_BYTES_MAX)
        .read_to_string(&mut text)
        .context("reading the password")?;
    let password = text.trim_end_matches(['\r', '\n']);
    ensure!(!password.is_empty(), "no password: give it on standard input or in ADMIN_PASSWORD");
    Ok(password.to_owned())
}

/// Makes an invitation code of 256 random bits.
async fn invite(pool: &PgPool, days: u32) -> anyhow::Result<()> {
    let code = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    sqlx::query!(
        "INSERT INTO registration_invites (code_hash, expires_at) VALUES (sha256($1), now() + make_interval(days => $2))",
        code.as_bytes(),
        i32::try_from(days).unwrap_or(i32::MAX),
    )
    .execute(pool)
    .await
    .context("writing the invitation")?;
    say(&code)
}

fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").context("writing to standard output")
}
