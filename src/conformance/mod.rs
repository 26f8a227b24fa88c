//! The specification's rules as a program: `postrider conformance` tries them on a server, or plays a strict server for a
//! client.
//!
//! It judges by the wire alone and shares nothing with the server's rooms but the making of certificates, so it serves
//! authors of other servers and clients as well as ours. It can say what is wrong on purpose: frames are written as
//! bytes.
//!
//! # Layout
//! - [`server`]: the checks on a server, one file a subject
//! - [`client`]: the strict server, the acts it plays, and the referee that watches the client
//! - [`report`]: what was found
//! - [`requirement`]: the rules' own words
//! - [`link`]: frames and bytes over any stream

pub mod client;
pub mod link;
pub mod report;
pub mod requirement;
pub mod server;

use std::path::PathBuf;

/// Why there is no report. One line: what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// The CA.
    #[error("cannot use the CA certificate {path}: {why}")]
    Ca {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The address of the server is not one.
    #[error("{server}: {why}; give --server as host:port")]
    Address {
        /// As it was given.
        server: String,
        /// Why.
        why: String,
    },
    /// Nothing to judge.
    #[error("cannot connect to {server}: {why}; check the address, the CA file, and that the server runs")]
    Unreachable {
        /// As it was given.
        server: String,
        /// Why.
        why: String,
    },
    /// The strict server cannot listen.
    #[error("cannot listen on {address}: {why}; give --listen another address")]
    Listen {
        /// As it was given.
        address: String,
        /// Why.
        why: String,
    },
    /// The strict server has no certificate.
    #[error("cannot make a certificate in {directory}: {why}")]
    Certificate {
        /// Where it was to be.
        directory: PathBuf,
        /// Why.
        why: String,
    },
    /// No client came.
    #[error("no client connected within {seconds} s; start it as the first lines say, or wait longer with --patience")]
    NobodyCame {
        /// How long was waited.
        seconds: u64,
    },
}
