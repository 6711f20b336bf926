//! Memory that is not needed any more.

/// Memory that is not needed any more and may take long to free: to be dropped where nobody waits.
pub struct Garbage(#[expect(dead_code, reason = "it is there to be dropped")] Box<dyn Send>);

impl Garbage {
    /// Whatever is to be dropped.
    pub fn new(what: impl Send + 'static) -> Self {
        Self(Box::new(what))
    }
}

impl std::fmt::Debug for Garbage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Garbage")
    }
}
