//! Before anything is connected: which limit of this machine would be hit, and how to raise it.

use std::net::SocketAddr;

use rustix::process::{Resource, getrlimit, setrlimit};

use super::BenchError;

/// Descriptors of this process that are no connections to the server.
const OWN_DESCRIPTORS: u64 = 64;

/// Of a source's ports, the part that is counted on: others use some, and closed connections hold theirs for a minute.
const USABLE_PORTS_PERCENT: u64 = 90;

/// The most source addresses: 127.0.0.1 to 127.0.255.254, less than would make names wrap.
pub const MAX_SOURCES: u16 = 250;

/// What this machine allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open files of one process; `None` is without limit.
    pub open_files: Option<u64>,
    /// Ports for outgoing connections, per source address and server.
    pub ports: u64,
}

impl Limits {
    /// Those of this machine, with the limit of open files raised as far as it may be.
    #[must_use]
    pub fn find() -> Self {
        Self { open_files: raise_open_files(), ports: ports().unwrap_or(16_384) }
    }

    /// From how many source addresses so many connections are to be made; 0 leaves the choice to the system. `asked` is
    /// what the command says.
    ///
    /// # Errors
    /// [`BenchError::Limit`] with what would be hit and how to raise it.
    pub fn sources(self, connections: u64, server: SocketAddr, asked: Option<u16>) -> Result<u16, BenchError> {
        let files = connections + OWN_DESCRIPTORS;
        if let Some(limit) = self.open_files.filter(|limit| *limit < files) {
            let room = limit.saturating_sub(OWN_DESCRIPTORS);
            return Err(BenchError::Limit(format!(
                "{connections} connections need {files} open files, and this process may have {limit}: ask for at most \
                 {room} connections, or raise the limit (`ulimit -n {files}` as root, LimitNOFILE of systemd, or \
                 /etc/security/limits.conf)"
            )));
        }
        let local = server.is_ipv4() && server.ip().is_loopback();
        if asked.is_some_and(|asked| asked > 0) && !local {
            return Err(BenchError::Limit(format!("--source-addresses needs a server on 127.0.0.1, not {server}")));
        }
        let usable = (self.ports * USABLE_PORTS_PERCENT / 100).max(1);
        let needed = connections.div_ceil(usable);
        let sources = asked.map_or(needed, u64::from);
        if sources.max(1) < needed || (needed > 1 && !local) || needed > u64::from(MAX_SOURCES) {
            return Err(BenchError::Limit(format!(
                "{connections} connections to {server} do not fit the {} ports of one source address: ask for at most \
                 {usable} connections, or widen the range (`sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"`){}",
                self.ports,
                if local { ", or give more --source-addresses" } else { "" }
            )));
        }
        let chosen = if asked.is_none() && needed <= 1 { 0 } else { sources };
        Ok(u16::try_from(chosen).unwrap_or(MAX_SOURCES))
    }
}

fn raise_open_files() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    if setrlimit(Resource::Nofile, limit).is_ok() { limit.maximum } else { before }
}

fn ports() -> Option<u64> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut bounds = range.split_whitespace().map(str::parse::<u64>);
    let (first, last) = (bounds.next()?.ok()?, bounds.next()?.ok()?);
    Some((last + 1).saturating_sub(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { open_files: Some(20_000), ports: 10_000 };

    fn sources(connections: u64, server: &str, asked: Option<u16>) -> Result<u16, String> {
        LIMITS.sources(connections, server.parse().unwrap(), asked).map_err(|error| error.to_string())
    }

    #[test]
    fn as_many_source_addresses_are_taken_as_the_ports_need() {
        assert_eq!(sources(9_000, "127.0.0.1:1", None), Ok(0));
        assert_eq!(sources(9_001, "127.0.0.1:1", None), Ok(2));
        assert_eq!(sources(9_000, "127.0.0.1:1", Some(3)), Ok(3));
        assert_eq!(sources(9_000, "[::1]:1", Some(0)), Ok(0));
    }

    #[test]
    fn a_limit_that_would_be_hit_is_told_with_the_way_to_raise_it() {
        let files = sources(19_937, "127.0.0.1:1", None).unwrap_err();
        assert!(files.contains("ulimit -n 20001") && files.contains("at most 19936"), "{files}");
        assert_eq!(sources(19_936, "127.0.0.1:1", None), Ok(3));
        let ports = sources(9_001, "10.0.0.1:1", None).unwrap_err();
        assert!(ports.contains("ip_local_port_range") && ports.contains("at most 9000"), "{ports}");
        assert!(sources(9_001, "127.0.0.1:1", Some(1)).unwrap_err().contains("--source-addresses"));
        assert!(sources(1, "10.0.0.1:1", Some(2)).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_ports() {
        assert!(ports().unwrap() > 0);
    }
}
