//! I1: login with email and password, and an access token for one organization that nobody can forge.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, jwk::JwkSet};
use reqwest::Method;
use serde_json::{Value, json};
use tests::Platform;
use tests::api::{Api, Organization, PASSWORD, Process, make_user};

/// An organization on the journeys' platform, and its removal whatever the test came to.
async fn with_organization<F: Future<Output = Result<()>>>(
    test: impl FnOnce(Api, Organization) -> F,
) -> Result<()> {
    let platform = Platform::shared().await?;
    let organization = Organization::create(platform.data()).await?;
    let api = Api::at(platform.provisioner_url())?;
    let result = test(api, organization.clone()).await;
    organization.remove().await?;
    result
}

/// What a token says, unverified.
fn claims(token: &str) -> Result<Value> {
    let payload = token.split('.').nth(1).context("a payload")?;
    Ok(serde_json::from_slice(&B64.decode(payload)?)?)
}

/// The key that the deployed provisioner signs with: an attacker does not have it, these tests do.
async fn signing_key() -> Result<EncodingKey> {
    let platform = Platform::shared().await?;
    let pem = std::fs::read(platform.host().state().join("keys/signing-1.pem"))?;
    Ok(EncodingKey::from_ec_pem(&pem)?)
}

async fn published(api: &Api) -> Result<JwkSet> {
    Ok(serde_json::from_str(&api.get("/.well-known/jwks.json").await?.expect(200)?.text)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_gives_a_token_that_the_published_keys_verify() -> Result<()> {
    with_organization(|api, organization| async move {
        let email = organization.member("admin").await?;
        let answer = api.try_login(&email.to_uppercase(), PASSWORD, None).await?.expect(200)?;
        assert_eq!(answer.header("cache-control"), "no-store");
        let body = answer.json();
        let token = body["access_token"].as_str().context("a token")?;
        assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!(3600)));

        let keys = published(&api).await?;
        let header = jsonwebtoken::decode_header(token)?;
        let key = keys.find(header.kid.as_deref().context("a kid")?).context("the key is published")?;
        let mut rules = Validation::new(Algorithm::ES256);
        rules.set_audience(&["agent-ready-api"]);
        let told = jsonwebtoken::decode::<Value>(token, &DecodingKey::from_jwk(key)?, &rules)?.claims;
        assert_eq!(told["org_id"], organization.id);
        assert_eq!(told["user_role"], "admin");
        assert!(told["permissions"].as_array().context("a list")?.contains(&json!("configs:write")));
        assert!(told["jti"].is_string() && told["sub"] == body["user_id"]);
        assert_eq!(told["exp"].as_i64().unwrap() - told["iat"].as_i64().unwrap(), 3600);

        let session = api.with_token(token);
        session.get(&organization.configs()).await?.expect(200)?;
        let again = api.login(&email, None).await?;
        assert_ne!(claims(again.token())?["jti"], told["jti"], "each token has its own id");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn several_memberships_are_told_only_to_who_knows_the_password() -> Result<()> {
    with_organization(|api, first| async move {
        let platform = Platform::shared().await?;
        let email = first.member("owner").await?;
        let second = Organization::create(platform.data()).await?;
        second.join(&email, "viewer").await?;
        let result = async {
            let wrong = api.try_login(&email, "wrong password", None).await?.problem(401)?;
            assert!(wrong.get("organizations").is_none());
            let ambiguous = api.try_login(&email, PASSWORD, None).await?.problem(409)?;
            let listed: Vec<_> = ambiguous["organizations"].as_array().context("a list")?.iter().collect();
            assert_eq!(listed.len(), 2);
            for (id, role) in [(&first.id, "owner"), (&second.id, "viewer")] {
                assert!(listed.iter().any(|item| item["id"] == **id && item["role"] == role), "{listed:?}");
                let session = api.login(&email, Some(id)).await?;
                let told = claims(session.token())?;
                assert_eq!((&told["org_id"], &told["user_role"]), (&json!(id), &json!(role)));
            }
            let stranger = uuid::Uuid::new_v4().to_string();
            api.try_login(&email, PASSWORD, Some(&stranger)).await?.problem(403)?;
            Ok(())
        }
        .await;
        second.remove().await?;
        result
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_learns_which_addresses_are_known() -> Result<()> {
    with_organization(|api, organization| async move {
        let mut measured = Vec::new();
        // Again where the machine was busy with other things: who leaks it does so every time.
        while measured.len() < 4 {
            let best = refused_in(&api, &organization.member("viewer").await?).await?;
            measured.push(best);
            if (0.4..2.5).contains(&(best[0].as_secs_f64() / best[1].as_secs_f64())) {
                return Ok(());
            }
        }
        bail!("known and unknown addresses differ: {measured:?}")
    })
    .await
}

/// The shortest time until a wrong password is refused, for this address and for one that nobody has.
async fn refused_in(api: &Api, known: &str) -> Result<[Duration; 2]> {
    // A new one each time: failures for it are counted too.
    let unknown = format!("nobody-{}@tests.example", uuid::Uuid::new_v4().simple());
    let (mut best, mut answers) = ([Duration::MAX; 2], [Value::Null, Value::Null]);
    // In turn, so that whatever else the machine does meets both alike.
    for _ in 0..6 {
        for (index, email) in [known, &unknown].into_iter().enumerate() {
            let asked = Instant::now();
            answers[index] = api.try_login(email, "wrong password", None).await?.problem(401)?;
            best[index] = best[index].min(asked.elapsed());
        }
    }
    assert_eq!(answers[0], answers[1], "one answer for both");
    Ok(best)
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_throttled_for_one_address_and_not_for_others() -> Result<()> {
    with_organization(|api, organization| async move {
        let (victim, other) = (organization.member("owner").await?, organization.member("owner").await?);
        let mut guesses = tokio::task::JoinSet::new();
        for _ in 0..30 {
            let (api, victim) = (api.clone(), victim.clone());
            guesses.spawn(async move { api.try_login(&victim, "a guess", None).await });
        }
        let mut tried = 0;
        while let Some(answer) = guesses.join_next().await {
            tried += usize::from(answer??.status == 401);
        }
        // A window may have turned over in between; without throttling it would be 30.
        assert!(tried <= 20, "{tried} guesses were tried");
        let refused = api.try_login(&victim, PASSWORD, None).await?;
        if refused.status != 200 {
            let wait: u64 = refused.header("retry-after").parse().context("Retry-After")?;
            refused.problem(429)?;
            assert!((1..=300).contains(&wait));
        }
        api.login(&other, None).await?;
        Ok(())
    })
    .await
}

/// The token with its header and payload changed; the signature stays.
fn altered(token: &str, change: impl FnOnce(&mut Value, &mut Value)) -> Result<String> {
    let parts: Vec<&str> = token.split('.').collect();
    let read = |part: &str| anyhow::Ok(serde_json::from_slice::<Value>(&B64.decode(part)?)?);
    let (mut header, mut payload) = (read(parts[0])?, read(parts[1])?);
    change(&mut header, &mut payload);
    Ok(format!("{}.{}.{}", B64.encode(header.to_string()), B64.encode(payload.to_string()), parts[2]))
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_tokens_are_refused() -> Result<()> {
    with_organization(|api, organization| async move {
        let email = organization.member("viewer").await?;
        let viewer = api.login(&email, None).await?;
        let told = claims(viewer.token())?;
        let public = published(&api).await?.keys.remove(0);
        let point = DecodingKey::from_jwk(&public)?.try_get_as_bytes()?.to_vec();

        let mut forged = Vec::new();
        for none in ["none", "None", "nOnE"] {
            let changed = altered(viewer.token(), |header, payload| {
                header["alg"] = json!(none);
                payload["user_role"] = json!("owner");
            })?;
            let bare = format!("{}.", changed.rsplit_once('.').context("a signature")?.0);
            forged.extend([changed, bare]);
        }
        let mut header = Header::new(Algorithm::HS256);
        header.kid.clone_from(&public.common.key_id);
        for secret in [serde_json::to_vec(&public)?, point] {
            forged.push(jsonwebtoken::encode(&header, &told, &EncodingKey::from_secret(&secret))?);
        }
        for (name, value) in [
            ("user_role", json!("owner")),
            ("org_id", json!(uuid::Uuid::new_v4())),
            ("exp", json!(told["exp"].as_i64().unwrap_or(0) + 3600)),
        ] {
            forged.push(altered(viewer.token(), |_, payload| payload[name] = value)?);
        }
        // Signed by a key of the attacker's own, which the header brings along.
        let own = rcgen::KeyPair::generate()?.serialize_pem();
        let own = EncodingKey::from_ec_pem(own.as_bytes())?;
        let mut header = Header::new(Algorithm::ES256);
        header.jwk = Some(jsonwebtoken::jwk::Jwk::from_encoding_key(&own, Algorithm::ES256)?);
        header.kid.clone_from(&public.common.key_id);
        forged.push(jsonwebtoken::encode(&header, &told, &own)?);
        forged.extend([String::new(), "a.b.c".into(), "x".repeat(20_000)]);

        for token in forged {
            let answer = api.with_token(&token).get(&organization.configs()).await?;
            // A header that long is refused before anyone reads it.
            assert!(matches!(answer.status.as_u16(), 401 | 431), "{} for {token}", answer.status);
        }
        viewer.get(&organization.configs()).await?.expect(200)?;
        Ok(())
    })
    .await
}

/// With the real key: what the signature alone does not tell.
#[tokio::test(flavor = "multi_thread")]
async fn well_signed_tokens_of_another_time_or_purpose_are_refused() -> Result<()> {
    with_organization(|api, organization| async move {
        let email = organization.member("owner").await?;
        let told = claims(api.login(&email, None).await?.token())?;
        let key = signing_key().await?;
        let mut header = Header::new(Algorithm::ES256);
        header.kid.clone_from(&published(&api).await?.keys[0].common.key_id);
        let issued = told["iat"].as_i64().context("iat")?;
        let status = async |changes: &[(&str, Value)]| {
            let mut changed = told.clone();
            for (name, value) in changes {
                changed[*name] = value.clone();
            }
            let token = jsonwebtoken::encode(&header, &changed, &key)?;
            anyhow::Ok(api.with_token(&token).get(&organization.configs()).await?.status.as_u16())
        };
        assert_eq!(status(&[]).await?, 200, "the control: this key is the real one");
        let past = [("iat", json!(issued - 7200)), ("exp", json!(issued - 3600))];
        let future = [("iat", json!(issued + 600)), ("exp", json!(issued + 4200))];
        let long = [("exp", json!(issued + 86_400))];
        assert_eq!(status(&past).await?, 401);
        assert_eq!(status(&future).await?, 401);
        assert_eq!(status(&long).await?, 401);
        assert_eq!(status(&[("aud", json!("another-api"))]).await?, 401);
        assert_eq!(status(&[("iss", json!("https://evil.example"))]).await?, 401);
        assert_eq!(status(&[("org_id", Value::Null)]).await?, 401);
        assert_eq!(status(&[("user_role", json!("operator"))]).await?, 401);
        assert_eq!(status(&[("user_role", json!("root"))]).await?, 401);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_the_platform_and_no_values() -> Result<()> {
    with_organization(|api, organization| async move {
        let platform = Platform::shared().await?;
        let owner = api.login(&organization.member("owner").await?, None).await?;
        let email = format!("operator-{}@tests.example", uuid::Uuid::new_v4().simple());
        make_user(platform.data(), &email, true).await?;
        let operator = api.login(&email, None).await?;
        let told = claims(operator.token())?;
        assert_eq!(told["user_role"], "operator");
        assert!(told.get("org_id").is_none());

        let all = operator.get(&format!("/api/organizations/{}", organization.id)).await?.expect(200)?.json();
        assert_eq!(all["id"], organization.id);
        operator.get(&organization.configs()).await?.problem(403)?;
        operator.put(&format!("{}/ai/x", organization.configs()), json!({"value": 1})).await?.problem(403)?;
        let own = owner.get("/api/organizations").await?.expect(200)?.json();
        let ids: Vec<_> =
            own["organizations"].as_array().context("a list")?.iter().map(|one| &one["id"]).collect();
        assert_eq!(ids, [&json!(organization.id)], "an owner sees the own organization alone");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_make_no_sense_get_a_clear_problem() -> Result<()> {
    with_organization(|api, organization| async move {
        let login = "/api/auth/login";
        let send = async |kind: &str, body: &'static str| {
            let client = reqwest::Client::builder().no_proxy().build()?;
            let url = format!("{}{login}", Platform::shared().await?.provisioner_url());
            let answer = client.post(url).header("content-type", kind).body(body).send().await?;
            let (status, kind) = (answer.status().as_u16(), answer.headers()["content-type"].clone());
            assert_eq!(kind, "application/problem+json", "{status}");
            anyhow::Ok(status)
        };
        assert_eq!(send("text/plain", "{}").await?, 415);
        assert_eq!(send("application/json", "{\"email\":").await?, 400);
        assert_eq!(send("application/json", "{\"email\":\"a@b\"}").await?, 422);
        assert_eq!(send("application/json", "[]").await?, 422);
        api.post(login, json!({"email": "a@b", "password": "x".repeat(2 << 20)})).await?.problem(413)?;
        api.post(login, json!({"email": "", "password": ""})).await?.problem(401)?;
        let bare = api.get(&organization.configs()).await?;
        assert!(bare.header("www-authenticate").starts_with("Bearer"), "{:?}", bare.headers);
        bare.problem(401)?;
        api.send(Method::GET, &organization.configs(), &[("authorization", "Basic YTpi")], &Value::Null)
            .await?
            .problem(401)?;
        api.send(Method::PATCH, login, &[], &Value::Null).await?.problem(405)?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_signing_key_takes_over_and_the_old_one_still_verifies() -> Result<()> {
    with_organization(|_, organization| async move {
        let platform = Platform::shared().await?;
        let keys = tempfile::tempdir()?;
        let put = |name: &str| {
            let pem = rcgen::KeyPair::generate()?.serialize_pem();
            anyhow::Ok(std::fs::write(keys.path().join(name), pem)?)
        };
        put("2026-01.pem")?;
        let directory = keys.path().to_string_lossy().into_owned();
        let process = Process::start(platform, &[("SIGNING_KEYS_DIR", &directory)]).await?;
        let email = organization.member("viewer").await?;
        let before = process.api.login(&email, None).await?;
        let kid = |token: &str| anyhow::Ok(jsonwebtoken::decode_header(token)?.kid);

        put("2026-02.pem")?;
        let deadline = Instant::now() + Duration::from_secs(20);
        let after = loop {
            let session = process.api.login(&email, None).await?;
            if kid(session.token())? != kid(before.token())? {
                break session;
            }
            anyhow::ensure!(Instant::now() < deadline, "the new key is not used");
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        assert_eq!(published(&process.api).await?.keys.len(), 2);
        before.get(&organization.configs()).await?.expect(200)?;
        after.get(&organization.configs()).await?.expect(200)?;

        std::fs::remove_file(keys.path().join("2026-01.pem"))?;
        while before.get(&organization.configs()).await?.status != 401 {
            anyhow::ensure!(Instant::now() < deadline, "the retired key is still trusted");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        after.get(&organization.configs()).await?.expect(200)?;
        Ok(())
    })
    .await
}
