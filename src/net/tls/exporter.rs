//! The exporter of TLS 1.3 (RFC 8446, 7.5), which binds a login proof to its connection (LOGIN-6).
//!
//! rustls's unbuffered connections have no exporter of their own. What they have is the hook for key logs, which is
//! called, for the labels it asks for, on the thread that drives the handshake. `Tap` asks for the exporter's secret
//! alone, derives the one value the protocol exports, and keeps nothing else; `during` hands that value over.

use std::cell::Cell;

use aws_lc_rs::{digest, hkdf};
use postrider_protocol::limits::{EXPORTER_BYTES, EXPORTER_LABEL};
use rustls::KeyLog;

/// What a connection exports under [`EXPORTER_LABEL`], without context.
pub type Exported = [u8; EXPORTER_BYTES];

/// The key log's name of the exporter's secret.
const SECRET: &str = "EXPORTER_SECRET";

thread_local! {
    static EXPORTED: Cell<Option<Exported>> = const { Cell::new(None) };
}

/// Takes the exporter's secret while a handshake is driven, and no other.
#[derive(Debug)]
pub(super) struct Tap;

impl KeyLog for Tap {
    fn will_log(&self, label: &str) -> bool {
        label == SECRET
    }

    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        if label == SECRET {
            EXPORTED.set(export(secret));
        }
    }
}

/// Runs `drive` and returns what a handshake that got so far within it exports. Nothing is left for others.
pub(super) fn during<T>(drive: impl FnOnce() -> T) -> (T, Option<Exported>) {
    EXPORTED.set(None);
    let driven = drive();
    (driven, EXPORTED.take())
}

/// `TLS-Exporter(EXPORTER_LABEL, "", EXPORTER_BYTES)`. The secret is as long as the hash of the cipher suite.
fn export(secret: &[u8]) -> Option<Exported> {
    let (hkdf, hash) = match secret.len() {
        32 => (hkdf::HKDF_SHA256, &digest::SHA256),
        48 => (hkdf::HKDF_SHA384, &digest::SHA384),
        _ => return None,
    };
    let nothing = digest::digest(hash, b"");
    let mut derived = [0; 48];
    let derived = &mut derived[..secret.len()];
    expand_label(hkdf, secret, EXPORTER_LABEL, nothing.as_ref(), derived)?;
    let mut exported = [0; EXPORTER_BYTES];
    expand_label(hkdf, derived, b"exporter", nothing.as_ref(), &mut exported)?;
    Some(exported)
}

/// `HKDF-Expand-Label` (RFC 8446, 7.1).
fn expand_label(hkdf: hkdf::Algorithm, secret: &[u8], label: &[u8], context: &[u8], out: &mut [u8]) -> Option<()> {
    const PREFIX: &[u8] = b"tls13 ";
    let length = u16::try_from(out.len()).ok()?.to_be_bytes();
    let label_length = [u8::try_from(PREFIX.len() + label.len()).ok()?];
    let context_length = [u8::try_from(context.len()).ok()?];
    let info: [&[u8]; 6] = [&length, &label_length, PREFIX, label, &context_length, context];
    let secret = hkdf::Prk::new_less_safe(hkdf, secret);
    secret.expand(&info, Length(out.len())).ok()?.fill(out).ok()
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}
