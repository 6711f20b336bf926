//! The word that the server is stopping, told once to everybody who serves.

use tokio::sync::watch;

/// Tells it.
#[derive(Debug)]
pub struct Drain(watch::Sender<bool>);

/// Hears it.
#[derive(Clone, Debug)]
pub struct Draining(watch::Receiver<bool>);

/// Both ends.
pub fn channel() -> (Drain, Draining) {
    let (tell, hear) = watch::channel(false);
    (Drain(tell), Draining(hear))
}

impl Drain {
    /// The server stops: what was accepted is answered, nothing more is accepted.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }
}

impl Draining {
    /// Does the server stop? It does as well if nobody is left to say so.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Waits until it does. May be cancelled and called again.
    pub async fn begun(&mut self) {
        // An error means that nobody is left to say so.
        let _ = self.0.wait_for(|draining| *draining).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_hears_it_also_who_asks_late() {
        let (drain, mut early) = channel();
        assert!(!early.has_begun());
        drain.begin();
        let mut late = early.clone();
        early.begun().await;
        late.begun().await;
        assert!(late.has_begun());
    }

    #[tokio::test]
    async fn nobody_left_to_say_so_says_so() {
        let (drain, mut draining) = channel();
        drop(drain);
        draining.begun().await;
        assert!(draining.has_begun());
    }
}
