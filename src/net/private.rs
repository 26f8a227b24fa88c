//! Files that others must not read or write: keys and certificates.
//!
//! A server that starts with a key that everybody can read has no key; so it does not start, and says what to do.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::tls::TlsError;

/// What a file is for; it decides who may do what with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// A private key: nobody but its owner reads it; where root owns it, a group may, which is how distributions share
    /// keys with services.
    Key,
    /// A certificate: anybody may read it, nobody but its owner replaces it.
    Certificate,
}

/// Reads a whole file whose permissions are as tight as they must be. What is judged is what is read: the open file.
///
/// # Errors
/// [`TlsError::Loose`] with the command that mends it; [`TlsError::Unusable`] when it cannot be read.
pub fn read(path: &Path, secrecy: Secrecy) -> Result<Vec<u8>, TlsError> {
    let unusable = |error: io::Error| TlsError::Unusable { path: path.to_owned(), why: error.to_string() };
    let mut file = File::open(path).map_err(unusable)?;
    let metadata = file.metadata().map_err(unusable)?;
    let (mode, owner) = (metadata.mode() & 0o777, metadata.uid());
    let ours = rustix::process::geteuid().as_raw();
    if !is_trusted(owner, ours) {
        return Err(TlsError::Foreign { path: path.to_owned(), owner, ours });
    }
    let wanted = mode & !too_much(secrecy, owner);
    if wanted != mode {
        return Err(TlsError::Loose { path: path.to_owned(), mode, wanted });
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(unusable)?;
    Ok(bytes)
}

/// Whoever owns a file can change its permissions: that is us or root.
const fn is_trusted(owner: u32, ours: u32) -> bool {
    owner == 0 || owner == ours
}

/// The permissions that a file must not have.
const fn too_much(secrecy: Secrecy, owner: u32) -> u32 {
    match secrecy {
        Secrecy::Certificate => 0o022,
        Secrecy::Key if owner == 0 => 0o037,
        Secrecy::Key => 0o077,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_its_owners_and_a_certificate_is_everybodys_to_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        fs::write(&path, "x").expect("written");
        let group = if rustix::process::geteuid().is_root() { 0o640 } else { 0o600 };
        for (secrecy, mode, wanted) in [
            (Secrecy::Key, 0o600, 0o600),
            (Secrecy::Key, 0o400, 0o400),
            (Secrecy::Key, 0o640, group),
            (Secrecy::Key, 0o644, group),
            (Secrecy::Key, 0o604, 0o600),
            (Secrecy::Key, 0o660, group),
            (Secrecy::Certificate, 0o644, 0o644),
            (Secrecy::Certificate, 0o666, 0o644),
            (Secrecy::Certificate, 0o664, 0o644),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
            match read(&path, secrecy) {
                Ok(_) => assert_eq!(mode, wanted, "{secrecy:?} {mode:o}"),
                Err(error @ TlsError::Loose { .. }) => {
                    assert_ne!(mode, wanted, "{secrecy:?} {mode:o}");
                    assert!(error.to_string().contains(&format!("chmod {wanted:o} ")), "{error}");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn a_key_that_another_user_owns_is_not_ours_to_trust() {
        assert!(is_trusted(0, 1000) && is_trusted(1000, 1000));
        assert!(!is_trusted(1001, 1000) && !is_trusted(1000, 0));
    }
}
