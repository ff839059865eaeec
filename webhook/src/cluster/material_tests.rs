use super::*;
use crate::serve::tls;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn made(names: &[String], now: OffsetDateTime) -> Material {
    Material::make(names, &Lives::default(), None, now).unwrap()
}

#[test]
fn what_is_made_serves_its_names_and_is_due_after_two_thirds_of_its_life() {
    let now = OffsetDateTime::now_utc();
    let both = names(&["webhook.agent-ready-system.svc", "10.0.0.1"]);
    let material = made(&both, now);
    assert!(material.serves(&both, now) && material.serves(&both[..1], now + Duration::days(89)));
    assert!(!material.leaf_due(now + Duration::days(59)) && material.leaf_due(now + Duration::days(61)));
    assert!(
        !material.serves(&both, now + Duration::days(91)) && !material.serves(&both, now - Duration::days(1))
    );
    assert!(!material.serves(&names(&["other.svc"]), now));
    assert!(material.authority.signs(now) && !material.authority.signs(now + Duration::days(3651)));
    assert!(
        !material.authority.due(now + Duration::days(2400))
            && material.authority.due(now + Duration::days(2440))
    );
    let read = Material::from_secret(&material.to_secret()).unwrap();
    assert!(read == material);
}

#[test]
fn a_short_life_is_not_eaten_by_the_clocks_allowance() {
    let now = OffsetDateTime::now_utc();
    let lives = Lives { leaf: Duration::seconds(30), ..Lives::default() };
    let material = Material::make(&names(&["a.svc"]), &lives, None, now).unwrap();
    assert!(
        !material.leaf_due(now + Duration::seconds(15)) && material.leaf_due(now + Duration::seconds(21))
    );
    assert!(!material.leaf_older_than(Duration::seconds(5), &lives, now + Duration::seconds(4)));
    assert!(material.leaf_older_than(Duration::seconds(5), &lives, now + Duration::seconds(6)));
}

#[test]
fn a_renewal_keeps_the_authority_and_the_names() {
    let now = OffsetDateTime::now_utc();
    let first = made(&names(&["a.svc"]), now);
    let renewed = first.renew(&names(&["10.0.0.1"]), &Lives::default(), now).unwrap();
    assert!(renewed.authority == first.authority && renewed.bundle == first.bundle);
    assert!(renewed.serves(&names(&["a.svc", "10.0.0.1"]), now));
}

#[test]
fn what_does_not_belong_together_is_not_served() {
    let now = OffsetDateTime::now_utc();
    let name = names(&["a.svc"]);
    let (first, later) = (made(&name, now), made(&name, now + Duration::SECOND));
    assert!(!Material { key: later.key.clone(), ..first.clone() }.serves(&name, now));
    assert!(!Material { certificate: later.certificate, key: later.key, ..first.clone() }.serves(&name, now));
    let mixed = Authority { key: later.authority.key, ..first.authority.clone() };
    assert!(!mixed.signs(now));
    let mut data = first.to_secret();
    data.remove(CERTIFICATE);
    let read = Material::from_secret(&data).unwrap();
    assert!(read.authority.signs(now) && !read.serves(&name, now));
}

#[test]
fn a_secret_of_an_earlier_version_or_of_another_program_is_read() {
    let now = OffsetDateTime::now_utc();
    let first = made(&names(&["a.svc"]), now);
    let mut data = first.to_secret();
    data.remove(BUNDLE);
    assert!(Material::from_secret(&data).unwrap() == first);
    data.remove(CA_KEY);
    let read = Material::from_secret(&data).unwrap();
    assert!(read.serves(&names(&["a.svc"]), now) && !read.authority.signs(now));
    data.insert(CA.to_owned(), ByteString(vec![0xff]));
    assert!(matches!(Material::from_secret(&data), Err(MaterialError::Missing(CA))));
}

#[test]
fn a_bundle_always_has_its_authorities() {
    let now = OffsetDateTime::now_utc();
    let (first, other) = (made(&names(&["a.svc"]), now), made(&names(&["a.svc"]), now + Duration::SECOND));
    let mut data = first.to_secret();
    data.insert(BUNDLE.to_owned(), ByteString(other.bundle.clone().into_bytes()));
    let read = Material::from_secret(&data).unwrap();
    assert!(contains(&read.bundle, &first.bundle) && contains(&read.bundle, &other.bundle));
    assert_eq!(issuer_ends_at(&read.bundle, &read.certificate), ends_at(&first.authority.certificate));
    assert_eq!(issuer_ends_at(&other.bundle, &read.certificate), 0);
}

#[tokio::test]
async fn a_client_that_trusts_the_authority_accepts_the_chain_before_and_after_a_renewal() {
    runtime::crypto::install();
    let now = OffsetDateTime::now_utc();
    let first = made(&names(&["127.0.0.1"]), now);
    let renewed = first.renew(&[], &Lives::default(), now).unwrap();
    for material in [&first, &renewed] {
        let acceptor = tokio_rustls::TlsAcceptor::from(
            tls::server_config(&material.certificate, &material.key).unwrap(),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
            stream.read_exact(&mut [0; 12]).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        });
        tls::self_test(address, "127.0.0.1", &first.bundle).await.unwrap();
        server.await.unwrap();
    }
}
