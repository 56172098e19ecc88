//! What `--listen` says: under which name workers find the run, and on which ports.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::error::{OrIo as _, Result};

/// `HOST`, `HOST:PORT` or `HOST:FIRST-LAST`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    pub host: String,
    /// The first of these that is free; 0: any.
    pub ports: RangeInclusive<u16>,
}

impl Listen {
    /// Any port, under this name.
    pub(super) fn any(host: &str) -> Listen {
        Listen { host: host.to_owned(), ports: 0..=0 }
    }

    /// Listens on the first port that is free, of this machine alone if `is_local`, and tells what workers connect to.
    ///
    /// # Errors
    /// If none of the ports can be had.
    pub(super) fn open(&self, is_local: bool) -> Result<(TcpListener, String)> {
        let mut listener = Err(std::io::ErrorKind::AddrInUse.into());
        for port in self.ports.clone() {
            listener = match is_local {
                true => TcpListener::bind((Ipv4Addr::LOCALHOST, port)),
                // Where there is no IPv6, the other.
                false => TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
                    .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))),
            };
            if listener.is_ok() {
                break;
            }
        }
        let listener = listener.or_system("listen for workers")?;
        let port = listener.local_addr().as_ref().map(SocketAddr::port).unwrap_or_default();
        Ok((listener, format!("{}:{port}", self.host)))
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(word: &str) -> Result<Listen, String> {
        let wrong = || "must be HOST, HOST:PORT or HOST:FIRST-LAST".to_owned();
        // An address of IPv6 has colons of its own, and stands in brackets.
        let (host, ports) = match word.rsplit_once(':') {
            Some((host, ports)) if !ports.contains(']') => (host, Some(ports)),
            _ => (word, None),
        };
        let is_bare = !host.contains(':') || host.starts_with('[') && host.ends_with(']');
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte);
        if host.is_empty() || !is_bare || !host.bytes().all(is_name) {
            return Err(wrong());
        }
        let Some(ports) = ports else { return Ok(Listen::any(host)) };
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => {
                Ok(Listen { host: host.to_owned(), ports: first..=last })
            }
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_a_port_or_a_range_of_them_or_any() {
        let read = |word: &str| word.parse::<Listen>().map(|listen| (listen.host, listen.ports));
        let is = |host: &str, ports| Ok((host.to_owned(), ports));
        assert_eq!(read("login1"), is("login1", 0..=0));
        assert_eq!(read("10.0.0.1:4000"), is("10.0.0.1", 4000..=4000));
        assert_eq!(read("login1:40000-40100"), is("login1", 40000..=40100));
        assert_eq!(read("[::1]:4000"), is("[::1]", 4000..=4000));
        assert_eq!(read("[::1]"), is("[::1]", 0..=0));
        for wrong in ["", ":4000", "a:", "a:0", "a:b", "a:70000", "a:2-1", "::1", "a b", "a;b:1"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_first_port_that_is_free_is_taken() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let listen = Listen { host: "h".to_owned(), ports: port..=port };
        assert!(listen.open(true).is_err());
        drop(taken);
        assert_eq!(listen.open(true).unwrap().1, format!("h:{port}"));
    }
}
