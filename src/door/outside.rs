//! What is beyond the door: names are resolved here, and connections made to addresses that were looked at.
//!
//! **Invariant:** a name is resolved once a connection; what was resolved is what is connected to.

use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::name::Host;

/// Names that are resolved at once. The system's resolver holds a thread for each, also after the door has stopped waiting.
const MOST_LOOKUPS: usize = 32;

/// The world beyond the door, so that tests can script it.
pub trait Outside: Debug + Send + Sync {
    /// The addresses of a name. The door puts a time limit around it.
    fn resolve<'a>(&'a self, host: &'a Host) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
    /// A connection to an address that was looked at.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>>;
    /// A connection to a port of this machine's loopback.
    fn connect_host(&self, port: u16) -> BoxFuture<'_, io::Result<TcpStream>>;
}

/// The system's resolver and network.
#[derive(Debug)]
pub struct System {
    lookups: Arc<Semaphore>,
}

impl Default for System {
    fn default() -> Self {
        Self { lookups: Arc::new(Semaphore::new(MOST_LOOKUPS)) }
    }
}

impl Outside for System {
    fn resolve<'a>(&'a self, host: &'a Host) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let slot = Arc::clone(&self.lookups).acquire_owned().await.map_err(io::Error::other)?;
            let name = host.as_str().to_owned();
            let looked = tokio::task::spawn_blocking(move || {
                let found = (name.as_str(), 0).to_socket_addrs();
                drop(slot);
                found.map(|found| found.map(|address| address.ip()).collect())
            });
            looked.await.map_err(io::Error::other)?
        })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            // A public address of this very machine: its other services are not what the rule meant.
            if stream.local_addr()?.ip() == address.ip() {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    "the address is one of this machine's own",
                ));
            }
            Ok(stream)
        })
    }

    fn connect_host(&self, port: u16) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(async move {
            match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
                Err(_) => TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await,
                stream => stream,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_of_this_machine_is_not_what_a_rule_means() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let system = System::default();
        let error = system.connect(address).await.unwrap_err();
        assert!(error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none(), "{error}");
        assert!(system.connect_host(address.port()).await.is_ok());
        let found = system.resolve(&Host::parse("localhost").unwrap()).await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty(), "{found:?}");
    }
}
