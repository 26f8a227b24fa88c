//! The device's key and what it signs.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use postrider_protocol::limits::{PUBLIC_KEY_BYTES, SIGNATURE_BYTES};

use crate::{Key, StateError};

/// An Ed25519 key pair.
#[derive(Debug)]
pub(crate) struct DeviceKey(Ed25519KeyPair);

impl DeviceKey {
    /// A new key, and its form in the state.
    pub(crate) fn generate() -> Result<(Self, Key), StateError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| unusable("made"))?;
        let key = Key(document.as_ref().to_vec());
        Ok((Self::load(&key)?, key))
    }

    pub(crate) fn load(key: &Key) -> Result<Self, StateError> {
        Ed25519KeyPair::from_pkcs8(&key.0).map(Self).map_err(|_| unusable("read"))
    }

    pub(crate) fn public(&self) -> [u8; PUBLIC_KEY_BYTES] {
        fixed(self.0.public_key().as_ref())
    }

    pub(crate) fn sign(&self, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        fixed(self.0.sign(bytes).as_ref())
    }
}

fn unusable(verb: &str) -> StateError {
    StateError::Io { action: "use the device key".into(), detail: format!("it cannot be {verb} as Ed25519 PKCS#8") }
}

fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("Ed25519 keys and signatures have one length")
}
