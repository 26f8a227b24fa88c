//! Every bound of the protocol, in one place, with the relations between them checked at compile time.
//!
//! A server may lower some of them by configuration; it may never raise one above its `MAX_` value here, so a client
//! can size its buffers from this file alone (LIMIT-1).

/// The protocol version this crate speaks (`Hello.version`).
pub const VERSION: u32 = 1;

/// The ALPN protocol name of version 1 (TLS-2).
pub const ALPN: &[u8] = b"postrider/1";

/// The TCP port a server listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 7222;

/// Bytes in the length prefix of a frame.
pub const LENGTH_PREFIX_BYTES: usize = 4;

/// The largest frame body before login, in bytes.
pub const MAX_LOGIN_FRAME_BYTES: usize = 8 * 1024;

/// The largest frame body after login, in bytes, unless the server is configured otherwise.
pub const DEFAULT_FRAME_BYTES: usize = 64 * 1024;

/// The largest frame body any server may be configured to take, in bytes.
pub const MAX_FRAME_BYTES: usize = 1024 * 1024;

/// What a frame may need around the content of one message, in bytes: tags, ids, two names, two lengths.
pub const FRAME_OVERHEAD_BYTES: usize = 256;

/// The longest user or device name, in bytes of UTF-8 (NAME-1).
pub const MAX_NAME_BYTES: usize = 64;

/// The longest app name, in bytes of UTF-8.
pub const MAX_APP_NAME_BYTES: usize = 64;

/// The longest `Hello.agent`, in bytes; what is longer is cut in logs.
pub const MAX_AGENT_BYTES: usize = 64;

/// Devices a user may have at once.
pub const MAX_DEVICES: usize = 16;

/// Sends that may wait for an answer at once on one connection (`Welcome.send_window`).
pub const SEND_WINDOW: usize = 256;

/// Answers a server keeps per device, so that a repeated `send_id` gets the first answer (SEND-4).
pub const KEPT_ANSWERS: usize = 256;

/// How far past the confirmed position a server streams, in positions, when `Hello.window` is 0.
pub const DEFAULT_WINDOW: u32 = 4096;

/// The widest `Hello.window`; what is above it counts as this.
pub const MAX_WINDOW: u32 = 65_536;

/// Bytes of `Challenge.nonce`.
pub const NONCE_BYTES: usize = 32;

/// Bytes of an Ed25519 public key.
pub const PUBLIC_KEY_BYTES: usize = 32;

/// Bytes of an Ed25519 signature.
pub const SIGNATURE_BYTES: usize = 64;

/// Bytes taken from the TLS exporter to bind a proof to its connection (LOGIN-6).
pub const EXPORTER_BYTES: usize = 32;

/// The TLS exporter's label for login proofs (LOGIN-6).
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-postrider-login";

/// The longest one-time code, in bytes, with its separators.
pub const MAX_CODE_BYTES: usize = 64;

/// How long a server waits for the whole login, in milliseconds, unless configured otherwise.
pub const DEFAULT_LOGIN_TIMEOUT_MS: u32 = 10_000;

/// How long a connection may send nothing, in milliseconds, unless configured otherwise.
pub const DEFAULT_IDLE_TIMEOUT_MS: u32 = 120_000;

/// The shortest idle timeout a server may be configured with, in milliseconds.
pub const MIN_IDLE_TIMEOUT_MS: u32 = 1_000;

const _: () = {
    assert!(MAX_LOGIN_FRAME_BYTES <= DEFAULT_FRAME_BYTES);
    assert!(DEFAULT_FRAME_BYTES <= MAX_FRAME_BYTES);
    assert!(FRAME_OVERHEAD_BYTES >= 2 * MAX_NAME_BYTES + 64);
    // A whole Hello with the longest names fits the frame limit that holds before login.
    assert!(MAX_APP_NAME_BYTES + 2 * MAX_NAME_BYTES + MAX_AGENT_BYTES + MAX_CODE_BYTES + 256 <= MAX_LOGIN_FRAME_BYTES);
    // A client that keeps within its window never asks for an answer that is gone.
    assert!(SEND_WINDOW <= KEPT_ANSWERS);
    assert!(DEFAULT_WINDOW <= MAX_WINDOW);
    assert!(MIN_IDLE_TIMEOUT_MS <= DEFAULT_IDLE_TIMEOUT_MS);
};
