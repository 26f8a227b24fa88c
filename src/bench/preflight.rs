//! Before anything is connected: how the run is spread, which limit of this machine would be hit all the same, and how
//! to raise it.

use std::net::{Ipv4Addr, SocketAddr};

use rustix::process::{Resource, getrlimit, setrlimit};

use super::BenchError;

/// Descriptors of this process that are no connections to the server.
const OWN_DESCRIPTORS: u64 = 64;

/// Of a source's ports, the part that is counted on: others use some, and closed connections hold theirs for a minute.
const USABLE_PORTS_PERCENT: u64 = 90;

/// The most source addresses: 127.0.0.1 to 127.0.0.250.
pub const MAX_SOURCES: u64 = 250;

/// The most generator processes, and the most servers.
pub const MAX_PROCESSES: u64 = 64;

/// What this machine allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open files of one process; `None` is without limit.
    pub open_files: Option<u64>,
    /// Open files of all processes together; `None` is not known.
    pub system_files: Option<u64>,
    /// Ports for outgoing connections, per source address and server.
    pub ports: u64,
}

/// What the command says about it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes {
    /// Generator processes; `None` is as many as it takes.
    pub processes: Option<u16>,
    /// Servers of the run's own; `None` is as many as it takes.
    pub servers: Option<u16>,
    /// Source addresses; `None` is as many as it takes.
    pub source_addresses: Option<u16>,
}

/// Where the load goes.
#[derive(Clone, Copy, Debug)]
pub enum Toward {
    /// Servers of the run's own, on 127.0.0.1.
    Own,
    /// A server that is there, whose process may have so many files open, if that is known.
    There(SocketAddr, Option<u64>),
}

/// How a run is spread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The source addresses of each generator process; none leaves the choice to the system.
    pub sources: Vec<Vec<Ipv4Addr>>,
    /// Servers of the run's own. The processes take turns on them.
    pub servers: u32,
}

impl Plan {
    /// Generator processes.
    #[must_use]
    pub fn processes(&self) -> u32 {
        u32::try_from(self.sources.len()).unwrap_or(u32::MAX)
    }
}

impl Limits {
    /// Those of this machine, with the limit of open files raised as far as it may be.
    #[must_use]
    pub fn find() -> Self {
        let (first, last) = outgoing_ports();
        let ports = u64::from(last.saturating_sub(first)) + 1;
        let system_files = std::fs::read_to_string("/proc/sys/fs/file-max").ok();
        let system_files = system_files.and_then(|files| files.trim().parse().ok());
        Self { open_files: raise_open_files(), system_files, ports }
    }

    /// How so many connections, which can be divided into at most so many parts, are made.
    ///
    /// # Errors
    /// [`BenchError::Limit`] with what would be hit and how to raise it.
    pub fn plan(self, connections: u64, divisible_by: u32, toward: Toward, wishes: Wishes) -> Result<Plan, BenchError> {
        let limit = |text: String| Err(BenchError::Limit(text));
        let room = self.open_files.map_or(u64::MAX, |files| files.saturating_sub(OWN_DESCRIPTORS).max(1));
        if let Toward::There(server, Some(files)) = toward
            && connections + OWN_DESCRIPTORS > files
        {
            return limit(format!(
                "{connections} connections need {} open files of the server {server}, whose process may have {files}: \
                 {}, and start it again",
                connections + OWN_DESCRIPTORS,
                raise(connections + OWN_DESCRIPTORS)
            ));
        }
        let both_ends = if matches!(toward, Toward::Own) { 2 * connections } else { connections };
        if let Some(files) = self.system_files.filter(|files| *files < both_ends) {
            return limit(format!(
                "{connections} connections need {both_ends} open files on this machine, which allows {files}: raise it \
                 (`sysctl -w fs.file-max={}`)",
                2 * both_ends
            ));
        }
        let least = connections.div_ceil(room).max(1);
        let servers = match toward {
            Toward::Own => wishes.servers.map_or(least, u64::from).max(1),
            Toward::There(..) => 1,
        };
        // Each server has as many processes as any other.
        let processes = wishes.processes.map_or(least, u64::from).max(servers).next_multiple_of(servers);
        if processes < least || servers < least && matches!(toward, Toward::Own) {
            return limit(format!(
                "{connections} connections need {} open files, and a process here may have {}: ask for at least {least} \
                 --processes (and --servers), or {}",
                connections + OWN_DESCRIPTORS,
                room + OWN_DESCRIPTORS,
                raise(connections + OWN_DESCRIPTORS)
            ));
        }
        if processes > u64::from(divisible_by) || processes > MAX_PROCESSES {
            let most = u64::from(divisible_by).min(MAX_PROCESSES);
            return limit(format!(
                "this needs {processes} generator processes, and the scenario as it is can be spread over {most}: ask for \
                 less, or {}",
                raise(connections + OWN_DESCRIPTORS)
            ));
        }
        self.sources(connections.div_ceil(servers), connections, processes, toward, wishes.source_addresses)
            .map(|sources| Plan { sources, servers: u32::try_from(servers).unwrap_or(u32::MAX) })
    }

    /// The source addresses of each process, where each server has so many of the connections.
    fn sources(
        self,
        of_server: u64,
        connections: u64,
        processes: u64,
        toward: Toward,
        asked: Option<u16>,
    ) -> Result<Vec<Vec<Ipv4Addr>>, BenchError> {
        let limit = |text: String| Err(BenchError::Limit(text));
        let (server, local) = match toward {
            Toward::Own => ("a server of its own".to_owned(), true),
            Toward::There(server, _) => (server.to_string(), server.is_ipv4() && server.ip().is_loopback()),
        };
        if asked.is_some_and(|asked| asked > 0) && !local {
            return limit(format!("--source-addresses needs a server on 127.0.0.1, not {server}"));
        }
        let usable = (self.ports * USABLE_PORTS_PERCENT / 100).max(1);
        let needed = if of_server <= usable { 1 } else { connections.div_ceil(usable).max(processes) };
        let sources = asked.map_or(needed, u64::from);
        if sources.max(1) < needed || (needed > 1 && !local) || needed.max(sources) > MAX_SOURCES {
            return limit(format!(
                "{of_server} connections to {server} do not fit the {} ports of one source address: ask for at most \
                 {usable} connections, or widen the range (`sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"`){}",
                self.ports,
                if local { ", or give more --source-addresses" } else { "" }
            ));
        }
        if asked.unwrap_or(0) == 0 && needed <= 1 {
            return Ok(vec![Vec::new(); usize::try_from(processes).unwrap_or(1)]);
        }
        let address = |n: u64| Ipv4Addr::new(127, 0, 0, u8::try_from(n % MAX_SOURCES + 1).unwrap_or(1));
        // Each process has addresses of its own, as far as there are enough.
        let each = sources.div_ceil(processes).max(1);
        Ok((0..processes)
            .map(|process| (0..each).map(|n| address((process * each + n) % sources.max(1))).collect())
            .collect())
    }
}

fn raise(files: u64) -> String {
    format!("raise the limit (`ulimit -n {files}` as root, LimitNOFILE of systemd, or /etc/security/limits.conf)")
}

fn raise_open_files() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    if setrlimit(Resource::Nofile, limit).is_ok() { limit.maximum } else { before }
}

/// The first port that the system gives to outgoing connections.
#[must_use]
pub fn first_outgoing_port() -> u16 {
    outgoing_ports().0
}

/// The first and the last; where the system does not say, those that IANA has set aside.
fn outgoing_ports() -> (u16, u16) {
    let read = || {
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
        let mut bounds = range.split_whitespace().map(str::parse::<u16>);
        Some((bounds.next()?.ok()?, bounds.next()?.ok()?))
    };
    read().unwrap_or((49_152, 65_535))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { open_files: Some(20_000), system_files: Some(1_000_000), ports: 10_000 };

    fn there(server: &str) -> Toward {
        Toward::There(server.parse().unwrap(), None)
    }

    fn plan(connections: u64, toward: Toward, wishes: Wishes) -> Result<Plan, String> {
        LIMITS.plan(connections, u32::MAX, toward, wishes).map_err(|error| error.to_string())
    }

    /// How many source addresses each process has, and how many servers there are.
    fn spread(connections: u64, toward: Toward, wishes: Wishes) -> (Vec<usize>, u32) {
        let plan = plan(connections, toward, wishes).unwrap();
        (plan.sources.iter().map(Vec::len).collect(), plan.servers)
    }

    fn from(sources: u16) -> Wishes {
        Wishes { source_addresses: Some(sources), ..Wishes::default() }
    }

    #[test]
    fn as_many_source_addresses_are_taken_as_the_ports_need() {
        let local = || there("127.0.0.1:1");
        assert_eq!(spread(9_000, local(), Wishes::default()), (vec![0], 1));
        assert_eq!(spread(9_001, local(), Wishes::default()), (vec![2], 1));
        assert_eq!(spread(9_000, local(), from(3)), (vec![3], 1));
        assert_eq!(spread(9_000, there("[::1]:1"), from(0)), (vec![0], 1));
    }

    #[test]
    fn what_does_not_fit_one_process_is_spread_over_several_and_over_servers_where_they_are_our_own() {
        assert_eq!(spread(19_936, Toward::Own, Wishes::default()), (vec![3], 1));
        assert_eq!(spread(50_000, Toward::Own, Wishes::default()), (vec![2; 3], 3));
        assert_eq!(spread(50_000, there("127.0.0.1:1"), Wishes::default()), (vec![2; 3], 1));
        let wishes = Wishes { processes: Some(3), servers: Some(2), source_addresses: None };
        assert_eq!(spread(100, Toward::Own, wishes), (vec![0; 4], 2));
        let plan = plan(50_000, there("127.0.0.1:1"), Wishes::default()).unwrap();
        let mut all = plan.sources.concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 6, "nobody shares an address");
    }

    #[test]
    fn a_limit_that_would_be_hit_is_told_with_the_way_to_raise_it() {
        let one = Wishes { processes: Some(1), ..Wishes::default() };
        let files = plan(19_937, there("127.0.0.1:1"), one).unwrap_err();
        assert!(files.contains("ulimit -n 20001") && files.contains("at least 2 --processes"), "{files}");
        let of_server = Toward::There("127.0.0.1:1".parse().unwrap(), Some(1024));
        let files = plan(1_000, of_server, Wishes::default()).unwrap_err();
        assert!(files.contains("ulimit -n 1064") && files.contains("of the server"), "{files}");
        let files = plan(600_000, Toward::Own, Wishes::default()).unwrap_err();
        assert!(files.contains("fs.file-max"), "{files}");
        let divided = LIMITS.plan(60_000, 2, Toward::Own, Wishes::default()).unwrap_err().to_string();
        assert!(divided.contains("spread over 2"), "{divided}");
        let ports = plan(9_001, there("10.0.0.1:1"), Wishes::default()).unwrap_err();
        assert!(ports.contains("ip_local_port_range") && ports.contains("at most 9000"), "{ports}");
        assert!(plan(9_001, there("127.0.0.1:1"), from(1)).unwrap_err().contains("--source-addresses"));
        assert!(plan(1, there("10.0.0.1:1"), from(2)).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_ports() {
        let (first, last) = outgoing_ports();
        assert!(0 < first && first < last);
    }
}
