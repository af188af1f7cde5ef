//! From a target to a connection: the policy, the name, its addresses, the first of them that answers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::address;
use super::answer::Refusal;
use super::event::Reason;
use super::live::Counted;
use super::name::{NameFault, Target};
use super::open::Inner;
use super::record::Attempt;
use super::rule::Decision;

/// Most addresses of a name that are tried.
const MOST_ADDRESSES: usize = 8;

/// Why a text is no target, as a refusal.
pub(super) fn bad_target(fault: NameFault) -> Refusal {
    let reason = match fault {
        NameFault::IpLiteral => Reason::IpLiteral,
        NameFault::BadPort | NameFault::NotAuthority => Reason::BadRequest,
        _ => Reason::BadName,
    };
    Refusal::new(reason, fault.to_string())
}

impl Inner {
    /// Connects an attempt to its target, or says why not. The attempt knows either.
    pub(super) async fn dial(
        &self,
        attempt: &mut Attempt,
        target: &Target,
    ) -> Result<Counted<TcpStream>, Refusal> {
        let dialled = self.dial_unnoted(attempt, target).await.map_err(|refusal| refusal.of(target));
        if let Err(refusal) = &dialled {
            if refusal.is_failure() {
                attempt.fail(refusal.reason, &refusal.detail);
            } else {
                attempt.refuse(refusal.reason, &refusal.detail);
            }
        }
        dialled
    }

    async fn dial_unnoted(
        &self,
        attempt: &mut Attempt,
        target: &Target,
    ) -> Result<Counted<TcpStream>, Refusal> {
        attempt.name(target);
        // Entered before the rules are read, so that whoever changes them finds it.
        let live = self.registry.enter(target.clone());
        attempt.live = Some(std::sync::Arc::clone(&live));
        let (private, by) = match self.policy().decide(target, self.clock.now()) {
            Decision::Allowed { private, by } => (private, by),
            Decision::NotAllowed => return Err(Refusal::new(Reason::NotAllowed, "")),
            Decision::Denied(rule) => {
                return Err(Refusal::new(Reason::DeniedByRule, format!("[[deny]] {rule}")));
            }
        };
        attempt.reserve(self.limits.record_time).await.map_err(|why| Refusal::new(why, ""))?;
        attempt.allow(&by);
        let connect = async {
            if target.host.is_alias() {
                let connected = timeout(self.limits.connect_time, self.outside.connect_host(target.port));
                attempt.reach(IpAddr::V4(Ipv4Addr::LOCALHOST));
                return connected
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                    .map_err(|error| Refusal::new(Reason::Unreachable, format!("on this machine: {error}")));
            }
            let addresses = self.addresses(target, private).await?;
            self.first_of(attempt, target.port, &addresses, &live.is_private).await
        };
        let stream = tokio::select! {
            stream = connect => stream?,
            () = live.end.cancelled() => {
                return Err(Refusal::new(live.why().unwrap_or(Reason::Closing), ""));
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "small packets may wait");
        }
        Ok(Counted { stream, live })
    }

    /// The addresses of a name that may be connected to.
    async fn addresses(&self, target: &Target, private: bool) -> Result<Vec<IpAddr>, Refusal> {
        let resolved = timeout(self.limits.resolve_time, self.outside.resolve(&target.host)).await;
        let all = match resolved {
            Ok(Ok(all)) if !all.is_empty() => all,
            Ok(Ok(_)) => return Err(Refusal::new(Reason::Unresolved, "the name has no address")),
            Ok(Err(error)) => return Err(Refusal::new(Reason::Unresolved, error.to_string())),
            Err(_) => return Err(Refusal::new(Reason::Unresolved, "the resolver did not answer in time")),
        };
        let mut first = None;
        let mut good = Vec::new();
        for own in all {
            match address::special(own) {
                Some(kind) if !(private && kind.is_for_private_rules()) => {
                    first = first.or(Some((own, kind)));
                }
                _ if good.len() < MOST_ADDRESSES && !good.contains(&own) => good.push(own),
                _ => {}
            }
        }
        match (good.is_empty(), first) {
            (true, Some((own, kind))) => {
                Err(Refusal::new(Reason::PrivateAddress, format!("{} is at {own}, {kind}", target.host)))
            }
            _ => Ok(good),
        }
    }

    /// A connection to the first address that answers.
    async fn first_of(
        &self,
        attempt: &mut Attempt,
        port: u16,
        addresses: &[IpAddr],
        is_private: &std::sync::atomic::AtomicBool,
    ) -> Result<TcpStream, Refusal> {
        let deadline = Instant::now() + self.limits.connect_time;
        let mut last = io::Error::from(io::ErrorKind::TimedOut);
        let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        for own in addresses {
            // Each has its share of what is left, so that the first cannot use up all the time.
            let share = deadline.saturating_duration_since(Instant::now()) / left.max(1);
            left = left.saturating_sub(1);
            attempt.reach(*own);
            is_private.store(address::special(*own).is_some(), Ordering::Relaxed);
            let connected = self.outside.connect(SocketAddr::new(*own, port));
            match timeout_at(Instant::now() + share, connected).await {
                Ok(Ok(stream)) => return Ok(stream),
                // Ours, and not the system's.
                Ok(Err(error))
                    if error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none() =>
                {
                    return Err(Refusal::new(Reason::PrivateAddress, format!("{own}: {error}")));
                }
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(Refusal::new(Reason::Unreachable, last.to_string()))
    }
}
