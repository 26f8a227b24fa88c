//! The servers that are compared: where they come from, how they are configured, what they speak.
//!
//! # Layout
//! - [`running`]: one of them, started on a directory of its own and stopped again

pub mod running;

use std::path::Path;
use std::process::Command;

use crate::wire::jetstream::JetStream;
use crate::wire::mqtt::Mqtt;
use crate::wire::nats::Nats;
use crate::wire::postrider::Postrider;
use crate::wire::xmpp::Xmpp;
use crate::wire::{Side, Wire};

/// One server in one configuration: a row of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Peer {
    /// As `--only` says it.
    pub name: &'static str,
    /// What runs.
    pub program: Program,
    /// The file below `config`, and what is in it; `@DIR@`, `@PORT@`, `@CERTIFICATE@` and `@KEY@` are filled in.
    pub configuration: Option<(&'static str, &'static str)>,
    /// That in a few words: what it does for a message it has acked.
    pub summary: &'static str,
    /// The row whose figures for connections are this one's, too.
    pub connects_like: Option<&'static str>,
}

/// What runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Ours.
    Postrider,
    /// NATS core.
    Nats,
    /// NATS with a stream.
    JetStream,
    /// An MQTT broker in C.
    Mosquitto,
    /// An XMPP server in Erlang.
    Ejabberd,
    /// An XMPP server in Lua.
    Prosody,
}

macro_rules! configuration {
    ($file:literal) => {
        Some((concat!("config/", $file), include_str!(concat!("../config/", $file))))
    };
}

/// All of them, in the order of the table.
pub const PEERS: &[Peer] = &[
    Peer {
        name: "postrider",
        program: Program::Postrider,
        configuration: None,
        summary: "as it comes: on stable storage before the ack",
        connects_like: None,
    },
    Peer {
        name: "nats",
        program: Program::Nats,
        configuration: configuration!("nats.conf"),
        summary: "core: no acks, nothing stored",
        connects_like: None,
    },
    Peer {
        name: "nats-jetstream",
        program: Program::JetStream,
        configuration: configuration!("nats-jetstream.conf"),
        summary: "one stream in files, synced every 2 minutes",
        connects_like: Some("nats"),
    },
    Peer {
        name: "mosquitto",
        program: Program::Mosquitto,
        configuration: configuration!("mosquitto.conf"),
        summary: "QoS 1, saved every 30 minutes and at its end",
        connects_like: None,
    },
    Peer {
        name: "mosquitto-saving",
        program: Program::Mosquitto,
        configuration: configuration!("mosquitto-saving.conf"),
        summary: "QoS 1, saved every second",
        connects_like: Some("mosquitto"),
    },
    Peer {
        name: "ejabberd",
        program: Program::Ejabberd,
        configuration: configuration!("ejabberd.yml"),
        summary: "XEP-0184 and -0198, Mnesia, few modules",
        connects_like: None,
    },
    Peer {
        name: "prosody",
        program: Program::Prosody,
        configuration: configuration!("prosody.cfg.lua"),
        summary: "XEP-0184 and -0198, its own files, few modules",
        connects_like: None,
    },
];

impl Peer {
    /// The driver of what it speaks.
    #[must_use]
    pub fn wire(&self, side: Side) -> Box<dyn Wire> {
        match self.program {
            Program::Postrider => Box::new(Postrider::new(side)),
            Program::Nats => Box::new(Nats::new(side)),
            Program::JetStream => Box::new(JetStream::new(side)),
            Program::Mosquitto => Box::new(Mqtt::new(side)),
            Program::Ejabberd | Program::Prosody => Box::new(Xmpp::new(side)),
        }
    }

    /// Whether messages wait for those who are away.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.program != Program::Nats
    }

    /// Its version.
    ///
    /// # Errors
    /// One line, when it is not there.
    pub fn version(&self, postrider: &Path) -> Result<String, String> {
        let package = match self.program {
            Program::Postrider => {
                let output = Command::new(postrider).arg("--version").output();
                let output = output.map_err(|error| format!("cannot run {}: {error}", postrider.display()))?;
                let version = String::from_utf8_lossy(&output.stdout);
                return Ok(version.split_whitespace().last().unwrap_or("unknown").to_owned());
            }
            Program::Nats | Program::JetStream => "nats-server",
            Program::Mosquitto => "mosquitto",
            Program::Ejabberd => "ejabberd",
            Program::Prosody => "prosody",
        };
        let missing = || format!("not installed: apt-get install {package}");
        let output = Command::new("dpkg-query").args(["-W", "-f=${Status}\t${Version}", package]).output();
        let output = output.map_err(|_| missing())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.split_once('\t').filter(|(status, _)| status.ends_with(" installed"));
        version.map(|(_, version)| version.to_owned()).ok_or_else(missing)
    }
}
