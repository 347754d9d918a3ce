//! How much one subnet may ask for.
//!
//! Two budgets, one for requests and a much smaller one for what makes this node (and its voters)
//! build something, and places for streams, which are not used up but held. Out of scope: connections and timeouts ([`crate::web::server`]).
//!
//! A client is its subnet: an IPv4 /24 or an IPv6 /56, which is what one customer of one provider
//! gets, so that owning many addresses buys nothing.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ipnet::IpNet;
use tokio_util::sync::CancellationToken;

/// So many seconds' worth of requests may come at once: a page brings its assets and tiles along.
const BURST_SECONDS: u32 = 4;

/// How often subnets that were not seen lately are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// The numbers of one node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Requests a second from one subnet.
    pub requests_per_second: NonZeroU32,
    /// Builds that one subnet may start in an hour.
    pub build_starts_per_hour: NonZeroU32,
    /// Open streams in all.
    pub max_streams: NonZeroU32,
    /// Open streams of one subnet.
    pub max_streams_per_subnet: NonZeroU32,
    /// Networks that the limits of a subnet do not hold for.
    pub exempt: Vec<IpNet>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            requests_per_second: NonZeroU32::new(50).expect("50 is not 0"),
            build_starts_per_hour: NonZeroU32::new(60).expect("60 is not 0"),
            max_streams: NonZeroU32::new(10_000).expect("10,000 is not 0"),
            max_streams_per_subnet: NonZeroU32::new(256).expect("256 is not 0"),
            exempt: loopback(),
            trusted_proxies: Vec::new(),
        }
    }
}

/// The networks of this machine alone.
pub fn loopback() -> Vec<IpNet> {
    ["127.0.0.0/8", "::1/128"].map(|net| net.parse().expect("a network")).to_vec()
}

/// Budgets of all subnets. Cloning gives another handle to the same ones.
#[derive(Clone)]
pub struct Limits(Arc<Inner>);

struct Inner {
    settings: Settings,
    requests: DefaultKeyedRateLimiter<IpAddr>,
    build_starts: DefaultKeyedRateLimiter<IpAddr>,
    streams: Mutex<Streams>,
}

/// Who has how many streams open.
#[derive(Default)]
struct Streams {
    open: u32,
    /// Only subnets that have some.
    by_subnet: HashMap<IpAddr, u32>,
}

/// The right to one open stream; dropping it gives it back.
pub struct StreamPlace {
    limits: Limits,
    /// Whose place it is; none if the limit of subnets does not hold for the client.
    subnet: Option<IpAddr>,
}

impl Limits {
    /// All budgets full.
    pub fn new(settings: Settings) -> Limits {
        let burst = settings
            .requests_per_second
            .saturating_mul(NonZeroU32::new(BURST_SECONDS).expect("a constant that is not 0"));
        let requests = Quota::per_second(settings.requests_per_second).allow_burst(burst);
        let builds = Quota::per_hour(settings.build_starts_per_hour);
        Limits(Arc::new(Inner {
            settings,
            requests: RateLimiter::keyed(requests),
            build_starts: RateLimiter::keyed(builds),
            streams: Mutex::default(),
        }))
    }

    /// Who asks: the peer of the connection, or behind trusted proxies the last address in
    /// `X-Forwarded-For` that is none of them. What stands left of it anyone can have written.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let hops = headers.get_all("x-forwarded-for").into_iter();
        let hops: Vec<&str> = hops.filter_map(|value| value.to_str().ok()).collect();
        for hop in hops.iter().rev().flat_map(|value| value.rsplit(',')) {
            if !within(&self.0.settings.trusted_proxies, client) {
                break;
            }
            // A proxy that writes no address hides its client: then it is the client.
            let Ok(address) = hop.trim().parse::<IpAddr>() else {
                break;
            };
            client = address.to_canonical();
        }
        client
    }

    /// Takes one request from the client's budget.
    ///
    /// # Errors
    /// How long to wait, if it is used up.
    pub fn request(&self, client: IpAddr) -> Result<(), Duration> {
        self.take(&self.0.requests, client)
    }

    /// Takes one start of a build from the client's budget.
    ///
    /// # Errors
    /// How long to wait, if it is used up.
    pub fn build_start(&self, client: IpAddr) -> Result<(), Duration> {
        self.take(&self.0.build_starts, client)
    }

    /// Takes a place for a stream; none if all, or all of the client's subnet, are taken.
    ///
    /// A proxy that does not say for whom it asks has no limit of its own: all its clients would share it.
    pub fn stream(&self, client: IpAddr) -> Option<StreamPlace> {
        let client = client.to_canonical();
        let Settings { exempt, trusted_proxies, max_streams, max_streams_per_subnet, .. } = &self.0.settings;
        let free = within(exempt, client) || within(trusted_proxies, client);
        let subnet = (!free).then(|| subnet(client));
        let mut streams = self.0.streams();
        if streams.open >= max_streams.get() {
            return None;
        }
        if let Some(subnet) = subnet {
            let open = streams.by_subnet.entry(subnet).or_default();
            // No row is left behind: a limit is at least 1, so a full subnet has one already.
            if *open >= max_streams_per_subnet.get() {
                return None;
            }
            *open += 1;
        }
        streams.open += 1;
        Some(StreamPlace { limits: self.clone(), subnet })
    }

    fn take(&self, budget: &DefaultKeyedRateLimiter<IpAddr>, client: IpAddr) -> Result<(), Duration> {
        let client = client.to_canonical();
        if within(&self.0.settings.exempt, client) {
            return Ok(());
        }
        budget.check_key(&subnet(client)).map_err(|not_until| not_until.wait_time_from(DefaultClock::default().now()))
    }

    /// Forgets subnets whose budgets are full again, until `stop`.
    ///
    /// # Errors
    /// None; the type is that of a task.
    pub async fn forget(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut timer = tokio::time::interval(FORGET_EVERY);
        while stop.run_until_cancelled(timer.tick()).await.is_some() {
            self.0.requests.retain_recent();
            self.0.build_starts.retain_recent();
        }
        Ok(())
    }
}

impl Inner {
    fn streams(&self) -> MutexGuard<'_, Streams> {
        // Only numbers are inside: a panic elsewhere cannot leave them half changed.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut streams = self.limits.0.streams();
        streams.open -= 1;
        if let Some(subnet) = self.subnet
            && let Some(open) = streams.by_subnet.get_mut(&subnet)
        {
            *open -= 1;
            if *open == 0 {
                streams.by_subnet.remove(&subnet);
            }
        }
    }
}

fn within(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

fn subnet(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & !0xff)),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !((1 << (128 - 56)) - 1))),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn limits() -> Limits {
        Limits::new(Settings {
            requests_per_second: NonZeroU32::new(1).unwrap(),
            build_starts_per_hour: NonZeroU32::new(2).unwrap(),
            max_streams: NonZeroU32::new(5).unwrap(),
            max_streams_per_subnet: NonZeroU32::new(2).unwrap(),
            exempt: loopback(),
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_subnet_shares_one_budget() {
        let limits = limits();
        for host in 1..=4 {
            limits.request(ip(&format!("192.0.2.{host}"))).unwrap();
        }
        let wait = limits.request(ip("192.0.2.200")).unwrap_err();
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
        limits.request(ip("192.0.3.1")).unwrap();
        limits.build_start(ip("2001:db8::1")).unwrap();
        limits.build_start(ip("2001:db8:0:ff::2")).unwrap();
        let wait = limits.build_start(ip("2001:db8:0:80::3")).unwrap_err();
        assert!(wait > Duration::from_secs(60), "{wait:?}");
        limits.build_start(ip("2001:db8:0:100::3")).unwrap();
        // An IPv4 address by way of a dual-stack socket is the same client.
        limits.request(ip("::ffff:192.0.2.9")).unwrap_err();
    }

    #[test]
    fn exempt_networks_are() {
        let limits = limits();
        for _ in 0..100 {
            limits.request(ip("127.0.0.1")).unwrap();
            limits.request(ip("::1")).unwrap();
            limits.build_start(ip("::ffff:127.0.0.1")).unwrap();
        }
    }

    #[test]
    fn places_for_streams_are_given_back() {
        let limits = limits();
        let stream = |client: &str| limits.stream(ip(client));
        let (first, second) = (stream("192.0.2.1").unwrap(), stream("192.0.2.2").unwrap());
        assert!(stream("::ffff:192.0.2.3").is_none(), "a subnet has two");
        let other = stream("192.0.3.1").unwrap();
        drop(first);
        let third = stream("192.0.2.3").unwrap();
        // These have no limit of their own, but the one of all.
        let (exempt, proxy) = (stream("127.0.0.1").unwrap(), stream("10.0.0.1").unwrap());
        assert!(stream("127.0.0.1").is_none() && stream("192.0.4.1").is_none(), "five are open");
        drop((second, other, third, exempt, proxy));
        assert_eq!(limits.0.streams().open, 0);
        assert!(limits.0.streams().by_subnet.is_empty(), "nobody is remembered");
    }

    #[test]
    fn only_trusted_proxies_name_the_client() {
        let limits = limits();
        let check = |peer: &str, forwarded: &[&'static str], want: &str| {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append("x-forwarded-for", HeaderValue::from_static(value));
            }
            assert_eq!(limits.client(ip(peer), &headers), ip(want), "{peer} {forwarded:?}");
        };
        check("192.0.2.1", &[], "192.0.2.1");
        check("192.0.2.1", &["203.0.113.1"], "192.0.2.1");
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &["203.0.113.1"], "203.0.113.1");
        check("10.0.0.1", &["127.0.0.1, 203.0.113.1"], "203.0.113.1");
        check("10.0.0.1", &["127.0.0.1, 203.0.113.1, 10.9.9.9"], "203.0.113.1");
        check("10.0.0.1", &["203.0.113.1", "10.9.9.9"], "203.0.113.1");
        check("10.0.0.1", &["unknown"], "10.0.0.1");
        check("10.0.0.1", &["::ffff:127.0.0.1"], "127.0.0.1");
    }
}
