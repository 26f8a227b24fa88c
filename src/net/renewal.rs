//! Certificates run out and are replaced, by their operator or by this server: new connections are shown the new one,
//! without a restart. Connections that are there stay as they are.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::certificate;
use super::tls::{Files, Shown, TlsError};
use crate::clock::Clock;

/// Where a server's certificate comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Whoever has these files writes them anew in time.
    Operator(Files),
    /// The server makes it anew in time.
    Own {
        /// The server's `tls` directory.
        directory: PathBuf,
        /// What it is good for.
        names: Vec<String>,
    },
}

impl Source {
    /// The files as they are now, made if they are the server's own to make, and the CA that clients are to trust then.
    ///
    /// # Errors
    /// [`TlsError`] when they cannot be made.
    pub fn find(&self, now_s: i64) -> Result<(Files, Option<PathBuf>), TlsError> {
        match self {
            Source::Operator(files) => Ok((files.clone(), None)),
            Source::Own { directory, names } => {
                let made = certificate::find_or_make(directory, names, now_s)?;
                Ok((made.server, Some(made.ca)))
            }
        }
    }
}

/// Looks for a new certificate now and then.
pub struct Renewal {
    /// Where.
    pub source: Source,
    /// What is shown.
    pub shown: Arc<Shown>,
    /// What "expired" means now.
    pub clock: Clock,
}

impl Renewal {
    /// Looks every `pause`, until `stop`. What cannot be used is not shown: files may be read between the writing of one and
    /// of the other, and the next look finds both.
    pub async fn run(self, pause: Duration, stop: CancellationToken) {
        let mut told = None;
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            match self.look() {
                Ok(true) => tracing::info!("new connections are shown a new certificate"),
                Ok(false) => {}
                Err(error) => {
                    let error = error.to_string();
                    if told.as_ref() != Some(&error) {
                        tracing::warn!(%error, "the new certificate cannot be used: the old one is still shown");
                        told = Some(error);
                    }
                    continue;
                }
            }
            told = None;
        }
    }

    /// Shows what is there now; whether that is another certificate than before.
    ///
    /// # Errors
    /// [`TlsError`]: what was shown before still is.
    pub fn look(&self) -> Result<bool, TlsError> {
        let now_s = seconds(&self.clock);
        let (files, _) = self.source.find(now_s)?;
        self.shown.replace(&files, now_s)
    }
}

/// The wall clock, in seconds since 1970, as certificates count.
#[must_use]
pub fn seconds(clock: &Clock) -> i64 {
    i64::try_from(clock.wall_ms() / 1000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    /// Puts a certificate and its key where the operator's are, one after the other as an operator does.
    fn put(from: &Files, to: &Files, between: impl FnOnce()) {
        fs::copy(&from.certificate, &to.certificate).expect("copied");
        between();
        fs::copy(&from.key, &to.key).expect("copied");
        for file in [&to.certificate, &to.key] {
            fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("set");
        }
    }

    fn made(directory: &Path, now_s: i64) -> Files {
        certificate::find_or_make(directory, &["localhost".into()], now_s).expect("made").server
    }

    fn renewal(source: Source, clock: &Clock) -> Renewal {
        let (files, _) = source.find(seconds(clock)).expect("found");
        let shown = Arc::new(Shown::load(&files, seconds(clock)).expect("loaded"));
        Renewal { source, shown, clock: clock.clone() }
    }

    #[test]
    fn an_operators_new_certificate_is_shown_once_its_key_is_there_and_half_of_it_never() {
        let (first, second, there) = (tempfile::tempdir(), tempfile::tempdir(), tempfile::tempdir());
        let (first, second, there) = (first.expect("one"), second.expect("one"), there.expect("one"));
        let clock = Clock::system();
        let files = Files { certificate: there.path().join("server.pem"), key: there.path().join("server.key") };
        put(&made(first.path(), seconds(&clock)), &files, || ());
        let renewal = renewal(Source::Operator(files.clone()), &clock);
        assert!(!renewal.look().expect("the same"), "nothing is new");
        let before = renewal.shown.current();

        put(&made(second.path(), seconds(&clock)), &files, || {
            assert!(matches!(renewal.look(), Err(TlsError::Mismatch { .. })), "the key is still the old one");
            assert!(Arc::ptr_eq(&renewal.shown.current(), &before), "what was shown still is");
        });
        assert!(renewal.look().expect("both are there"));
        assert_ne!(renewal.shown.current().cert, before.cert);

        fs::write(&files.certificate, "nothing").expect("written");
        assert!(renewal.look().is_err());
    }

    #[test]
    fn a_server_that_runs_for_long_renews_its_own_certificate_in_time() {
        let directory = tempfile::tempdir().expect("a directory");
        let source = Source::Own { directory: directory.path().to_owned(), names: vec!["localhost".into()] };
        let now = Clock::system();
        // Made so long ago that it has less than a month left.
        let (files, _) = source.find(seconds(&now) - 70 * 86_400).expect("made");
        let shown = Arc::new(Shown::load(&files, seconds(&now)).expect("still good"));
        let before = shown.current();
        let renewal = Renewal { source, shown, clock: now };
        assert!(renewal.look().expect("renewed"));
        assert_ne!(renewal.shown.current().cert, before.cert);
        assert!(!renewal.look().expect("good for long"));
    }
}
