//! How many connections there may be, altogether and from one address: the same for every port that others can reach.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// How many connections there may be at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In all.
    pub total_max: usize,
    /// From one address.
    pub per_address_max: usize,
}

/// The connections of one port. Clones count together.
#[derive(Clone, Debug)]
pub struct Seats {
    limits: ConnectionLimits,
    /// Seats taken, by address; no address has none.
    taken: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
}

/// One connection's seat; free again when it is dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Seats,
    address: IpAddr,
}

impl Seats {
    /// As many seats as this, all free.
    pub fn new(limits: ConnectionLimits) -> Self {
        Self { limits, taken: Arc::default() }
    }

    /// A seat for a connection from this address, if there is one left. An IPv4 address is the same one within IPv6.
    pub fn take(&self, address: IpAddr) -> Option<Seat> {
        let address = address.to_canonical();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let here = taken.get(&address).copied().unwrap_or(0);
        if here >= self.limits.per_address_max || taken.values().sum::<usize>() >= self.limits.total_max {
            return None;
        }
        taken.insert(address, here + 1);
        Some(Seat { seats: self.clone(), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.address) {
            Some(here) if *here > 1 => *here -= 1,
            _ => drop(taken.remove(&self.address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_bounded_in_all_and_per_address_and_come_back() {
        let from = |last| IpAddr::from([192, 0, 2, last]);
        let seats = Seats::new(ConnectionLimits { total_max: 3, per_address_max: 2 });
        let mut held: Vec<Seat> = (0..100).filter_map(|_| seats.take(from(1))).collect();
        assert_eq!(held.len(), 2, "two from one address are all");
        held.extend(seats.take(from(2)));
        assert!(seats.take(from(3)).is_none(), "three are all");
        held.remove(0);
        held.extend(seats.clone().take(from(1)));
        assert_eq!(held.len(), 3);
        drop(held);
        assert!(seats.taken.lock().unwrap().is_empty(), "what is dropped leaves no trace");
    }

    #[test]
    fn an_address_is_the_same_within_ipv6() {
        let seats = Seats::new(ConnectionLimits { total_max: 3, per_address_max: 1 });
        let _held = seats.take("192.0.2.1".parse().unwrap()).unwrap();
        assert!(seats.take("::ffff:192.0.2.1".parse().unwrap()).is_none());
    }
}
