-- Prosody, lean: what one-to-one chat needs and nothing else. TLS 1.3 from the first byte, no traffic limits; accounts
-- and messages for those who are away in its own files, plain passwords, so that a login costs no password hashing.
pidfile = "@DIR@/prosody.pid"
data_path = "@DIR@/data"
run_as_root = true
network_backend = "epoll"
interfaces = { "127.0.0.1" }
c2s_ports = {}
c2s_direct_tls_ports = { @PORT@ }
s2s_ports = {}
modules_enabled = { "roster", "saslauth", "tls", "offline", "smacks" }
modules_disabled = { "s2s" }
authentication = "internal_plain"
storage = "internal"
ssl = { key = "@KEY@", certificate = "@CERTIFICATE@", protocol = "tlsv1_3" }
c2s_direct_tls_ssl = ssl
c2s_tcp_backlog = 4096
network_settings = { tcp_backlog = 4096 }
gc = { mode = "generational" }
log = { warn = "*console" }
VirtualHost "localhost"
