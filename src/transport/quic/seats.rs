//! How many clients may be connected, altogether and from one address.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// Clients connected at a time.
pub const CLIENTS_MAX: usize = 1024;
/// Clients connected at a time from one address; loopback is exempt.
pub const CLIENTS_PER_ADDRESS_MAX: usize = 64;

/// Seats taken, by address.
#[derive(Debug, Default)]
pub(super) struct Seats {
    taken: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
}

/// A client's seat, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    taken: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Seats {
    /// A seat for a client from this address, if there is one left.
    pub(super) fn take(&self, address: IpAddr) -> Option<Seat> {
        let address = address.to_canonical();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let here = taken.get(&address).copied().unwrap_or(0);
        let is_full = here >= CLIENTS_PER_ADDRESS_MAX && !address.is_loopback();
        if is_full || taken.values().sum::<usize>() >= CLIENTS_MAX {
            return None;
        }
        taken.insert(address, here + 1);
        Some(Seat { taken: self.taken.clone(), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = taken.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_every_seat() {
        let seats = Seats::default();
        let from = |last| IpAddr::from([192, 0, 2, last]);
        let mut held: Vec<Seat> = (0..100).filter_map(|_| seats.take(from(1))).collect();
        assert_eq!(held.len(), CLIENTS_PER_ADDRESS_MAX);
        assert!(seats.take(from(2)).is_some());
        held.pop();
        assert!(seats.take(from(1)).is_some());
        drop(held);
        assert!(seats.taken.lock().unwrap().is_empty());
    }

    #[test]
    fn loopback_is_bounded_by_the_total_alone() {
        let seats = Seats::default();
        let held: Vec<Seat> = (0..2000).filter_map(|_| seats.take(IpAddr::from([127, 0, 0, 1]))).collect();
        assert_eq!(held.len(), CLIENTS_MAX);
        assert!(seats.take(IpAddr::from([192, 0, 2, 1])).is_none());
    }
}
