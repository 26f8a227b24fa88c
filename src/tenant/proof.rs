//! Device keys: whether a signature proves that the client holds one (LOGIN-6).

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use postrider_protocol::limits::{EXPORTER_BYTES, NONCE_BYTES, PUBLIC_KEY_BYTES, SIGNATURE_BYTES};
use postrider_protocol::proof::signed_bytes;
use postrider_protocol::session::server::Hello;

/// What binds a proof to one connection.
pub struct Binding {
    /// Exported from the TLS connection.
    pub exporter: [u8; EXPORTER_BYTES],
    /// What the server challenged with.
    pub nonce: [u8; NONCE_BYTES],
}

/// Whether `signature` was made with the private half of `key`, on this connection, for the names in `hello`.
#[must_use]
pub fn holds(
    key: &[u8; PUBLIC_KEY_BYTES],
    binding: &Binding,
    hello: &Hello,
    signature: &[u8; SIGNATURE_BYTES],
) -> bool {
    let signed = signed_bytes(&binding.exporter, &binding.nonce, &hello.app, &hello.user, &hello.device);
    UnparsedPublicKey::new(&ED25519, key).verify(&signed, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
    use postrider_protocol::session::server::Method;

    use super::*;

    #[test]
    fn a_proof_holds_for_its_own_key_connection_and_names_only() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[3; 32]).expect("a seed");
        let key: [u8; 32] = pair.public_key().as_ref().try_into().expect("32 bytes");
        let hello = Hello {
            app: "dev".into(),
            user: "alice".into(),
            device: "laptop".into(),
            device_id: 0,
            cursor: 0,
            window: 1,
            agent: String::new(),
            method: Method::DeviceKey,
        };
        let binding = Binding { exporter: [1; 32], nonce: [2; 32] };
        let signed = signed_bytes(&[1; 32], &[2; 32], "dev", "alice", "laptop");
        let signature: [u8; 64] = pair.sign(&signed).as_ref().try_into().expect("64 bytes");

        assert!(holds(&key, &binding, &hello, &signature));
        assert!(!holds(&[4; 32], &binding, &hello, &signature));
        assert!(!holds(&key, &Binding { exporter: [9; 32], nonce: [2; 32] }, &hello, &signature));
        assert!(!holds(&key, &Binding { exporter: [1; 32], nonce: [9; 32] }, &hello, &signature));
        assert!(!holds(&key, &binding, &Hello { user: "bob".into(), ..hello.clone() }, &signature));
        assert!(!holds(&key, &binding, &Hello { device: "phone".into(), ..hello }, &signature));
    }
}
