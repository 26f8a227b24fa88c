//! Tests against a real server over real TLS, in one binary.
//!
//! # Layout
//! - [`support`]: a server to test, a client that can say anything, and conversation scripts
//! - the other modules: one a subject, each test a sentence

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod support;

mod auditor;
mod bench;
#[cfg(target_os = "linux")]
mod bounded_memory;
mod broken_links;
mod command_line;
mod conformance;
mod conversations;
mod devices;
mod durability;
mod enrollment;
#[cfg(target_os = "linux")]
mod hostile;
mod misuse;
mod operator;
mod receipts;
mod sending;
mod several_nodes;
