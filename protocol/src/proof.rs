//! What a device signs to prove that it holds its key (LOGIN-6).

use crate::limits::{EXPORTER_BYTES, NONCE_BYTES};

/// The first bytes of everything a device key signs here, so that a signature serves no other protocol.
const CONTEXT: &[u8] = b"postrider/1 login\0";

/// The bytes under the Ed25519 signature: context, TLS exporter, nonce, then app, user and device, each behind a
/// two-byte big-endian length. The exporter ties them to one TLS connection, so a man in the middle gains nothing by
/// passing them on; the lengths keep (`ab`, `c`) and (`a`, `bc`) apart.
#[must_use]
pub fn signed_bytes(
    exporter: &[u8; EXPORTER_BYTES],
    nonce: &[u8; NONCE_BYTES],
    app: &str,
    user: &str,
    device: &str,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(CONTEXT.len() + EXPORTER_BYTES + NONCE_BYTES + 6 + app.len() + user.len() + 64);
    bytes.extend_from_slice(CONTEXT);
    bytes.extend_from_slice(exporter);
    bytes.extend_from_slice(nonce);
    for name in [app, user, device] {
        let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(name.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_trade_letters() {
        let of = |app, user| signed_bytes(&[1; 32], &[2; 32], app, user, "d");
        assert_ne!(of("ab", "c"), of("a", "bc"));
    }
}
