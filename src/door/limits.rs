//! How much may go through the door.

use std::time::Duration;

/// The door's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; more are told so and closed. Each takes up to two of the process's open files, of which there are
    /// often 1,024.
    pub connections: usize,
    /// New connections a second, in the long run.
    pub new_per_second: u32,
    /// New connections at once on top of that.
    pub burst: u32,
    /// Size of a request's header, in bytes; at least 8,192.
    pub header_bytes: usize,
    /// Time for a request's header, also for the next one on an open connection.
    pub header_time: Duration,
    /// Time for the first bytes through a tunnel.
    pub hello_time: Duration,
    /// Time for resolving a name.
    pub resolve_time: Duration,
    /// Time for connecting, all addresses of a name together.
    pub connect_time: Duration,
    /// A connection on which nothing moves for so long is closed.
    pub idle_time: Duration,
    /// Bytes that one connection may send out.
    pub upload_bytes: u64,
    /// Bytes that all may send out within an hour.
    pub upload_bytes_per_hour: u64,
    /// Events that wait to be recorded, beside one for each connection.
    pub waiting_events: usize,
    /// How long an attempt waits for its event to find room.
    pub record_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            new_per_second: 100,
            burst: 400,
            header_bytes: 32 << 10,
            header_time: Duration::from_secs(15),
            hello_time: Duration::from_secs(10),
            resolve_time: Duration::from_secs(10),
            connect_time: Duration::from_secs(15),
            idle_time: Duration::from_mins(10),
            upload_bytes: 256 << 20,
            upload_bytes_per_hour: 2 << 30,
            waiting_events: 4_096,
            record_time: Duration::from_secs(2),
        }
    }
}
