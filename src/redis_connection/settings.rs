use std::time::Duration;

use redis::ConnectionInfo;
use redis::io::tcp::socket2::TcpKeepalive;

use crate::ConfigError;

/// The timeouts of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) response_timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) max_timeouts: u32,
    pub(super) ping_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            response_timeout: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(1),
            max_timeouts: 3,
            ping_timeout: Duration::from_secs(1),
        }
    }
}

impl Settings {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        const NAME: &str = "RedisConnection";
        ConfigError::check_timeout(NAME, "with_response_timeout", self.response_timeout)?;
        ConfigError::check_timeout(NAME, "with_connect_timeout", self.connect_timeout)?;
        ConfigError::check_positive(NAME, "with_max_timeouts", self.max_timeouts)?;
        ConfigError::check_timeout(NAME, "with_ping_timeout", self.ping_timeout)
    }
}

/// The idle time before the first keepalive probe, the time between probes, and the number of probes.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(5), 3);
/// The longest time without an acknowledgement of sent data.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// Adds the socket options that detect a host that has vanished, unless the address sets them.
pub(super) fn with_tcp_settings(info: ConnectionInfo) -> ConnectionInfo {
    let mut tcp = info.tcp_settings().clone().set_nodelay(true);
    if tcp.keepalive().is_none() {
        let (time, interval, retries) = KEEPALIVE;
        tcp = tcp.set_keepalive(TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(retries));
    }
    #[cfg(target_os = "linux")]
    if tcp.user_timeout().is_none() {
        tcp = tcp.set_user_timeout(USER_TIMEOUT);
    }
    info.set_tcp_settings(tcp)
}
