//! What must hold between values. The first fault found is told, with its key.

use std::collections::HashSet;
use std::net::SocketAddr;

use postrider_protocol::{limits, name};

use super::{Config, LoginMethod};

/// A value that cannot be, alone or beside another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Section and key, as in `listen.address`.
    pub key: &'static str,
    /// What is wrong and what to do, in one line.
    pub what: String,
}

const SMALLEST_STORE_BYTES: u64 = 1024 * 1024;
const LARGEST_SEGMENT_BYTES: u64 = 1024 * 1024 * 1024;
const LONGEST_MS: u32 = 24 * 60 * 60 * 1000;

/// Checks every value against the protocol's limits and against the others.
///
/// # Errors
/// The first [`Fault`].
pub fn check(config: &Config) -> Result<(), Fault> {
    addresses(config)?;
    connections(config)?;
    certificate(config)?;
    apps(config)?;
    bounds(config)
}

fn addresses(config: &Config) -> Result<(), Fault> {
    require(!config.data.as_os_str().is_empty(), "data", || "the data directory has no name".into())?;
    require(!config.listen.address.is_empty(), "listen.address", || "there is no address to listen on".into())?;
    let mut seen = HashSet::new();
    for address in config.listen.address.iter().filter(|address| address.port() != 0) {
        require(seen.insert(address), "listen.address", || format!("{address} is there twice"))?;
    }
    Ok(())
}

fn connections(config: &Config) -> Result<(), Fault> {
    let listen = &config.listen;
    between("listen.login_timeout_ms", listen.login_timeout_ms, 100, 10 * 60 * 1000)?;
    between("listen.idle_timeout_ms", listen.idle_timeout_ms, limits::MIN_IDLE_TIMEOUT_MS, LONGEST_MS)?;
    between(
        "listen.max_frame_bytes",
        listen.max_frame_bytes,
        limits::MAX_LOGIN_FRAME_BYTES as u32,
        limits::MAX_FRAME_BYTES as u32,
    )?;
    let room = listen.max_frame_bytes - limits::FRAME_OVERHEAD_BYTES as u32;
    let content = config.limits.content_bytes;
    require(content >= 1, "limits.content_bytes", || "0 would let no message through".into())?;
    require(content <= room, "limits.content_bytes", || {
        format!(
            "{content} does not fit a frame: listen.max_frame_bytes is {}, which leaves {room} bytes for content",
            listen.max_frame_bytes
        )
    })
}

fn certificate(config: &Config) -> Result<(), Fault> {
    let tls = &config.tls;
    match (&tls.certificate, &tls.key) {
        (Some(_), None) => fault("tls.certificate", "a certificate needs its private key: set tls.key too"),
        (None, Some(_)) => fault("tls.key", "a key needs its certificate: set tls.certificate too"),
        (None, None) if tls.names.is_empty() => {
            fault("tls.names", "a certificate must be good for at least one name; or set tls.certificate and tls.key")
        }
        _ => Ok(()),
    }
}

fn apps(config: &Config) -> Result<(), Fault> {
    require(!config.app.is_empty(), "app", || "there is no [[app]]: nobody could log in".into())?;
    let mut seen = HashSet::new();
    for app in &config.app {
        name::check("the app's name", &app.name).map_err(|bad| Fault { key: "app", what: bad.detail })?;
        require(seen.insert(&app.name), "app", || format!("there are two apps named {:?}", app.name))?;
        require(!app.login.is_empty(), "app", || {
            format!("app {:?} allows no login; give it login = [\"device-key\"] or [\"open\"]", app.name)
        })?;
        let reachable = config.listen.address.iter().find(|address| !is_loopback(address));
        if let Some(address) = reachable
            && app.allows(LoginMethod::Open)
            && !app.allow_open_off_loopback
        {
            return fault(
                "app",
                format!(
                    "app {:?} allows open login and {address} is not loopback: anybody could be anybody; set \
                     allow_open_off_loopback = true in [[app]] if that is meant, or use login = [\"device-key\"]",
                    app.name
                ),
            );
        }
    }
    Ok(())
}

fn bounds(config: &Config) -> Result<(), Fault> {
    require(config.limits.inbox_entries >= 1, "limits.inbox_entries", || "0 would let no message through".into())?;
    let (outbound, frame) = (config.limits.outbound_bytes, config.listen.max_frame_bytes);
    require(outbound >= frame, "limits.outbound_bytes", || {
        format!("{outbound} is less than one frame: listen.max_frame_bytes is {frame}")
    })?;
    between("retention.ttl_days", config.retention.ttl_days, 1, 3650)?;
    for (key, bytes) in
        [("store.cache_bytes", config.store.cache_bytes), ("store.queue_bytes", config.store.queue_bytes)]
    {
        require(bytes >= SMALLEST_STORE_BYTES, key, || format!("{bytes} is less than {SMALLEST_STORE_BYTES}"))?;
    }
    between("store.segment_bytes", config.store.segment_bytes, SMALLEST_STORE_BYTES, LARGEST_SEGMENT_BYTES)?;
    between("store.segments", config.store.segments, 2, 64)?;
    let level = &config.log.level;
    require(is_level(level), "log.level", || {
        format!("`{level}` is no level; use error, warn, info, debug or trace, or \"info,postrider::net=debug\"")
    })?;
    between("shutdown.spread_ms", config.shutdown.spread_ms, 0, LONGEST_MS)?;
    between("shutdown.grace_ms", config.shutdown.grace_ms, 0, LONGEST_MS)
}

/// Whether only this machine can reach the address; an IPv4 address written as IPv6 is judged as what it is.
fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// A bare word must be a level: the log's parser would take any other for a module's name and log nothing.
fn is_level(directives: &str) -> bool {
    let level = |word: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&word);
    let sound = |part: &str| match part.rsplit_once('=') {
        Some((module, word)) => !module.is_empty() && level(word),
        None => level(part),
    };
    directives.split(',').map(str::trim).all(sound)
        && directives.parse::<tracing_subscriber::filter::EnvFilter>().is_ok()
}

fn between<N: Copy + PartialOrd + std::fmt::Display>(
    key: &'static str,
    value: N,
    least: N,
    most: N,
) -> Result<(), Fault> {
    require((least..=most).contains(&value), key, || format!("{value} is not between {least} and {most}"))
}

fn require(holds: bool, key: &'static str, what: impl FnOnce() -> String) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(Fault { key, what: what() }) }
}

fn fault(key: &'static str, what: impl Into<String>) -> Result<(), Fault> {
    Err(Fault { key, what: what.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::App;

    fn fault_of(change: impl FnOnce(&mut Config)) -> Fault {
        let mut config = Config::default();
        change(&mut config);
        check(&config).expect_err("this must not pass")
    }

    #[test]
    fn the_defaults_hold() {
        assert_eq!(check(&Config::default()), Ok(()));
    }

    #[test]
    fn open_login_off_loopback_is_refused_unless_asked_for_by_name() {
        let wide = |config: &mut Config| config.listen.address.push("0.0.0.0:7222".parse().unwrap());
        let fault = fault_of(wide);
        assert_eq!(
            fault.what,
            "app \"dev\" allows open login and 0.0.0.0:7222 is not loopback: anybody could be anybody; set \
             allow_open_off_loopback = true in [[app]] if that is meant, or use login = [\"device-key\"]"
        );
        let mut config = Config::default();
        wide(&mut config);
        config.app[0].allow_open_off_loopback = true;
        assert_eq!(check(&config), Ok(()));
        config.app = vec![App { login: vec![LoginMethod::DeviceKey], ..App::development() }];
        assert_eq!(check(&config), Ok(()));
    }

    #[test]
    fn loopback_is_judged_by_what_the_address_is() {
        for (text, loopback) in
            [("127.8.0.1:1", true), ("[::1]:1", true), ("[::ffff:127.0.0.1]:1", true), ("[::]:1", false)]
        {
            assert_eq!(is_loopback(&text.parse().unwrap()), loopback, "{text}");
        }
    }

    #[test]
    fn each_bound_names_its_key() {
        let key = |change: fn(&mut Config)| fault_of(change).key;
        assert_eq!(key(|c| c.listen.address.clear()), "listen.address");
        assert_eq!(key(|c| c.listen.max_frame_bytes = 1024 * 1024 + 1), "listen.max_frame_bytes");
        assert_eq!(key(|c| c.listen.idle_timeout_ms = 999), "listen.idle_timeout_ms");
        assert_eq!(key(|c| c.limits.content_bytes = 65_536 - 255), "limits.content_bytes");
        assert_eq!(key(|c| c.limits.outbound_bytes = 65_535), "limits.outbound_bytes");
        assert_eq!(key(|c| c.tls.certificate = Some("a.pem".into())), "tls.certificate");
        assert_eq!(key(|c| c.tls.key = Some("a.key".into())), "tls.key");
        assert_eq!(key(|c| c.app.push(App::development())), "app");
        assert_eq!(key(|c| c.app[0].login.clear()), "app");
        assert_eq!(key(|c| c.app[0].name = "a\nb".into()), "app");
        assert_eq!(key(|c| c.retention.ttl_days = 0), "retention.ttl_days");
        assert_eq!(key(|c| c.store.queue_bytes = 1), "store.queue_bytes");
        assert_eq!(key(|c| c.log.level = "loud".into()), "log.level");
    }

    #[test]
    fn log_levels_may_be_given_by_module() {
        for (level, sound) in [("debug", true), ("info,postrider::net=debug", true), ("net", false), ("x=loud", false)]
        {
            assert_eq!(is_level(level), sound, "{level}");
        }
    }
}
