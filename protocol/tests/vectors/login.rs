//! The example of a login proof (LOGIN-6), with everything that goes into it.

use std::fmt::Write as _;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use postrider_protocol::limits::{EXPORTER_BYTES, EXPORTER_LABEL, NONCE_BYTES};
use postrider_protocol::proof::signed_bytes;
use postrider_protocol::wire::{self, client_frame};
use serde::Serialize;
use serde_json::Value;

use crate::files::{bytes_of, to_hex};
use crate::frames::{client, counting};

/// The whole of proof.json; every value but the names is hex.
#[derive(Serialize)]
pub struct File {
    about: &'static str,
    exporter_label: &'static str,
    seed: String,
    public_key: String,
    exporter: String,
    nonce: String,
    app: &'static str,
    user: &'static str,
    device: &'static str,
    signed_bytes: String,
    signature: String,
    proof_frame: String,
}

pub fn file() -> File {
    let seed: [u8; 32] = counting(0);
    let exporter: [u8; EXPORTER_BYTES] = counting(0x40);
    let nonce: [u8; NONCE_BYTES] = counting(0x80);
    let (app, user, device) = ("dev", "zoë", "tablet");
    let key = Ed25519KeyPair::from_seed_unchecked(&seed).expect("32 bytes are a seed");
    let signed = signed_bytes(&exporter, &nonce, app, user, device);
    let signature = key.sign(&signed);
    let proof = wire::Proof { signature: signature.as_ref().to_vec().into() };
    File {
        about: "An Ed25519 login proof (LOGIN-6). The key is for this example only.",
        exporter_label: std::str::from_utf8(EXPORTER_LABEL).expect("a label is ASCII"),
        seed: to_hex(&seed),
        public_key: to_hex(key.public_key().as_ref()),
        exporter: to_hex(&exporter),
        nonce: to_hex(&nonce),
        app,
        user,
        device,
        signed_bytes: to_hex(&signed),
        signature: to_hex(signature.as_ref()),
        proof_frame: to_hex(&client(client_frame::Body::Proof(proof)).to_bytes()),
    }
}

/// The example as SPEC.md shows it.
pub fn as_markdown() -> String {
    let File { seed, public_key, exporter, nonce, app, user, device, signed_bytes, signature, .. } = file();
    let rows = [
        ("secret key (RFC 8032 seed)", seed),
        ("public key", public_key),
        ("TLS exporter", exporter),
        ("nonce", nonce),
        ("app, user, device", format!("{app}, {user}, {device}")),
        ("signed bytes", signed_bytes),
        ("signature", signature),
    ];
    let mut text = String::from("```text\n");
    for (name, value) in rows {
        writeln!(text, "{name}").expect("a string takes it");
        for line in value.chars().collect::<Vec<_>>().chunks(64) {
            writeln!(text, "  {}", line.iter().collect::<String>()).expect("a string takes it");
        }
    }
    text + "```\n"
}

/// Checks what the file says with nothing but what the file says.
pub fn verify(file: &Value) {
    let mut signed = bytes_of(file, "signed_bytes");
    let (exporter, nonce) = (bytes_of(file, "exporter"), bytes_of(file, "nonce"));
    let name = |key: &str| {
        let name = file[key].as_str().expect("names are strings").as_bytes();
        [&[0, u8::try_from(name.len()).expect("short")], name].concat()
    };
    let parts = [b"postrider/1 login\0".to_vec(), exporter, nonce, name("app"), name("user"), name("device")];
    assert_eq!(signed, parts.concat(), "LOGIN-6: the layout as SPEC.md gives it");

    let key = UnparsedPublicKey::new(&ED25519, bytes_of(file, "public_key"));
    let signature = bytes_of(file, "signature");
    key.verify(&signed, &signature).expect("the example verifies");
    for index in 0..signed.len() {
        signed[index] ^= 1;
        assert!(key.verify(&signed, &signature).is_err(), "byte {index} is under the signature");
        signed[index] ^= 1;
    }
}
