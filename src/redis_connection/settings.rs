use std::num::NonZeroU32;
use std::time::Duration;

use redis::ConnectionInfo;
use redis::io::tcp::socket2::TcpKeepalive;

/// How long a connection is waited for, and asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) response_timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) max_timeouts: NonZeroU32,
    pub(super) ping_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            response_timeout: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(1),
            max_timeouts: NonZeroU32::new(3).unwrap_or(NonZeroU32::MIN),
            ping_timeout: Duration::from_secs(1),
        }
    }
}

impl Settings {
    /// Timers count in milliseconds.
    pub(super) fn at_least_a_millisecond(mut self) -> Self {
        for timeout in [&mut self.response_timeout, &mut self.connect_timeout, &mut self.ping_timeout] {
            *timeout = (*timeout).max(Duration::from_millis(1));
        }
        self
    }
}

/// How long nothing comes before the peer's kernel is asked, how long it may take, and how often it is asked.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(5), 3);
/// How long what was sent may go without an acknowledgement.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// Adds what finds a host that is gone, unless the address has it already.
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
