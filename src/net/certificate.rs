//! The certificate a server makes for itself on its first run: a local CA, and a server certificate under it.
//!
//! Clients on this machine trust the CA, not the server certificate, so that this one can be renewed without telling
//! them: it is made anew when it runs out or when the configured names change.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use time::{Duration, OffsetDateTime};

use super::private::{self, Secrecy};
use super::tls::{Files, TlsError};

const CA_LIFETIME: Duration = Duration::days(3650);
/// With [`BACKDATED`] what Mozilla's modern profile takes at most, 90 days.
const LIFETIME: Duration = Duration::days(89);
/// A server certificate with less than this left is made anew.
const RENEW_BEFORE: Duration = Duration::days(30);
/// Clocks of clients may be this much behind.
const BACKDATED: Duration = Duration::days(1);

/// What is in a server's `tls` directory.
#[derive(Clone, Debug)]
pub struct Made {
    /// What clients trust.
    pub ca: PathBuf,
    /// What the server shows.
    pub server: Files,
}

/// Finds or makes CA and server certificate in `directory`, good for `names`.
///
/// # Errors
/// [`TlsError`] when a file cannot be read or written.
pub fn find_or_make(directory: &Path, names: &[String], now_s: i64) -> Result<Made, TlsError> {
    let now = OffsetDateTime::from_unix_timestamp(now_s).map_err(making)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(making)?;
    let path = |name: &str| directory.join(name);
    let (ca, ca_key) = (path("ca.pem"), path("ca.key"));
    let server = Files { certificate: path("server.pem"), key: path("server.key") };

    if !ca.exists() {
        let key = new_key()?;
        let certificate = ca_params(now)?.self_signed(&key).map_err(making)?;
        write_private(&ca_key, &key.serialize_pem())?;
        write_private(&ca, &certificate.pem())?;
    }
    if !is_good(&server, names, now) {
        let ca_key = KeyPair::from_pem(&read(&ca_key, Secrecy::Key)?).map_err(making)?;
        let issuer = Issuer::from_ca_cert_pem(&read(&ca, Secrecy::Certificate)?, ca_key).map_err(making)?;
        let key = new_key()?;
        let certificate = server_params(names, now)?.signed_by(&key, &issuer).map_err(making)?;
        write_private(&server.key, &key.serialize_pem())?;
        write_private(&server.certificate, &certificate.pem())?;
        write_private(&path("names"), &names.join("\n"))?;
    }
    Ok(Made { ca, server })
}

fn new_key() -> Result<KeyPair, TlsError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(making)
}

fn ca_params(now: OffsetDateTime) -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::new(Vec::new()).map_err(making)?;
    params.distinguished_name.push(DnType::CommonName, "Postrider local CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.not_before = now - BACKDATED;
    params.not_after = now + CA_LIFETIME;
    Ok(params)
}

fn server_params(names: &[String], now: OffsetDateTime) -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::new(names.to_vec()).map_err(making)?;
    params.distinguished_name.push(DnType::CommonName, "Postrider");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = now - BACKDATED;
    params.not_after = now + LIFETIME;
    Ok(params)
}

/// Whether the server certificate is there, made for these names, and good for a while.
fn is_good(server: &Files, names: &[String], now: OffsetDateTime) -> bool {
    let made_for = fs::read_to_string(server.certificate.with_file_name("names"));
    let fresh = expiry(&server.certificate).is_some_and(|until| until > (now + RENEW_BEFORE).unix_timestamp());
    fresh && server.key.exists() && made_for.is_ok_and(|made_for| made_for == names.join("\n"))
}

/// When a certificate runs out, in seconds since 1970; `None` if it cannot be read.
fn expiry(certificate: &Path) -> Option<i64> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(&fs::read(certificate).ok()?).ok()?;
    let parsed = pem.parse_x509().ok()?;
    Some(parsed.validity().not_after.timestamp())
}

fn read(path: &Path, secrecy: Secrecy) -> Result<String, TlsError> {
    let unusable = |why: String| TlsError::Unusable { path: path.to_owned(), why };
    String::from_utf8(private::read(path, secrecy)?).map_err(|error| unusable(error.to_string()))
}

/// Writes a whole file or leaves the old one; only the owner may read it.
fn write_private(path: &Path, text: &str) -> Result<(), TlsError> {
    let write = || -> io::Result<()> {
        let mut temporary = path.to_owned().into_os_string();
        temporary.push(".new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| TlsError::Making(format!("{}: {error}", path.display())))
}

fn making(error: impl std::fmt::Display) -> TlsError {
    TlsError::Making(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::net::tls::Shown;

    const NOW: i64 = 1_800_000_000;

    fn names() -> Vec<String> {
        vec!["localhost".into(), "127.0.0.1".into()]
    }

    #[test]
    fn the_first_run_makes_a_certificate_that_rustls_takes_and_only_the_owner_reads_the_keys() {
        let directory = tempfile::tempdir().expect("a directory");
        let made = find_or_make(directory.path(), &names(), NOW).expect("made");
        Shown::load(&made.server, NOW).expect("rustls takes it");
        for file in [&made.server.key, &directory.path().join("ca.key")] {
            let mode = fs::metadata(file).expect("it is there").permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}", file.display());
        }
    }

    #[test]
    fn the_ca_stays_and_the_server_certificate_is_renewed_in_time_or_for_other_names() {
        let directory = tempfile::tempdir().expect("a directory");
        let read = |made: &Made| (fs::read(&made.ca).expect("ca"), fs::read(&made.server.certificate).expect("server"));
        let first = read(&find_or_make(directory.path(), &names(), NOW).expect("made"));
        assert_eq!(read(&find_or_make(directory.path(), &names(), NOW + 86_400).expect("found")), first);

        let later = NOW + (LIFETIME - RENEW_BEFORE).whole_seconds() + 86_400;
        let renewed = read(&find_or_make(directory.path(), &names(), later).expect("renewed"));
        assert!(renewed.0 == first.0 && renewed.1 != first.1);
        let renamed = read(&find_or_make(directory.path(), &["chat.example".into()], later).expect("renamed"));
        assert!(renamed.0 == first.0 && renamed.1 != renewed.1);
    }

    #[test]
    fn an_expired_certificate_is_refused_at_start_with_its_date() {
        let directory = tempfile::tempdir().expect("a directory");
        let made = find_or_make(directory.path(), &names(), NOW).expect("made");
        let error = Shown::load(&made.server, NOW + 100 * 86_400).expect_err("expired");
        assert!(matches!(&error, TlsError::Expired { until, .. } if until.contains("2027")), "{error}");
    }

    #[test]
    fn files_that_others_can_read_or_write_are_refused_with_the_command_that_mends_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let made = find_or_make(directory.path(), &names(), NOW).expect("made");
        let loosen = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
        let refusal = || Shown::load(&made.server, NOW).expect_err("loose").to_string();

        loosen(&made.server.key, 0o604);
        assert!(refusal().ends_with(&format!("run: chmod 600 {}", made.server.key.display())), "{}", refusal());
        loosen(&made.server.key, 0o600);
        loosen(&made.server.certificate, 0o666);
        assert!(refusal().ends_with(&format!("run: chmod 644 {}", made.server.certificate.display())), "{}", refusal());
        loosen(&made.server.certificate, 0o644);
        Shown::load(&made.server, NOW).expect("mended");

        loosen(&directory.path().join("ca.key"), 0o644);
        let error = find_or_make(directory.path(), &["chat.example".into()], NOW).expect_err("loose");
        assert!(error.to_string().contains("ca.key"), "{error}");
    }

    #[test]
    fn files_that_are_no_certificates_are_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let made = find_or_make(directory.path(), &names(), NOW).expect("made");
        let missing = Files { certificate: directory.path().join("nope.pem"), ..made.server.clone() };
        assert!(Shown::load(&missing, NOW).expect_err("missing").to_string().contains("nope.pem"));
        let swapped = Files { certificate: made.server.key.clone(), key: made.server.certificate };
        assert!(matches!(Shown::load(&swapped, NOW), Err(TlsError::Unusable { .. })));
    }
}
