//! The configured catalog: imported into pool `default` once, by the first leader, while that pool is new.
//!
//! A leader reads the pool, linearizably, once in each term it leads. A pool that was ever stocked or drawn from is left as
//! it is: the log wins over the file for ever, and a file that differs is a warning. Two leaders that both import do no
//! harm: the second finds a pool that is not new.

use tokio::sync::oneshot;

use crate::{
    api::{Answered, Failure, Read},
    pool::{Action, Answer, CatalogItem, Command, DrawSeq, ItemState, KeyOrigin, PoolId, PoolState, Query, RequestKey},
    types::{Millis, Term},
};

/// How far a leader has come.
#[derive(Debug)]
enum Stage {
    /// Nothing to do: there is no catalog, this node does not lead, or all is done in this term.
    Idle,
    /// To read the pool.
    Look,
    /// The pool is being read.
    Looking(oneshot::Receiver<Result<Read, Failure>>),
    /// To import.
    Import,
    /// The import is being decided.
    Importing(oneshot::Receiver<Result<Answered, Failure>>),
}

/// What the catalog wants done.
#[derive(Debug)]
pub(super) enum Step {
    /// Read this, linearizably.
    Read(Query, oneshot::Sender<Result<Read, Failure>>),
    /// Have this decided.
    Submit(Command, oneshot::Sender<Result<Answered, Failure>>),
}

/// The configured catalog, on its way into the pool.
#[derive(Debug)]
pub(super) struct Catalog {
    items: Vec<CatalogItem>,
    stage: Stage,
    /// The newest term in which this node led.
    led: Option<Term>,
    /// A difference is worth saying once.
    has_compared: bool,
}

impl Catalog {
    /// A catalog, perhaps empty: then there is nothing to do ever.
    pub fn new(items: Vec<CatalogItem>) -> Self {
        Self { items, stage: Stage::Idle, led: None, has_compared: false }
    }

    /// The term in which this node leads, if it does.
    pub fn handle_leadership(&mut self, leads: Option<Term>) {
        if leads.is_none() {
            self.stage = Stage::Idle;
        } else if leads != self.led && !self.items.is_empty() {
            self.led = leads;
            self.stage = Stage::Look;
        }
    }

    /// What is to be done now. What cannot be done now is given back by dropping its channel, and tried at the next turn.
    pub fn poll_step(&mut self) -> Option<Step> {
        self.advance();
        match self.stage {
            Stage::Look => {
                let (reply, answer) = oneshot::channel();
                self.stage = Stage::Looking(answer);
                Some(Step::Read(Query::Pool(PoolId::default_pool()), reply))
            }
            Stage::Import => {
                let (reply, answer) = oneshot::channel();
                self.stage = Stage::Importing(answer);
                Some(Step::Submit(self.import(), reply))
            }
            Stage::Idle | Stage::Looking(_) | Stage::Importing(_) => None,
        }
    }

    /// Takes the answer that is waited for, if it is there.
    fn advance(&mut self) {
        use oneshot::error::TryRecvError::{Closed, Empty};
        self.stage = match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Looking(mut answer) => match answer.try_recv() {
                Ok(Ok(read)) => self.judge(read.answer),
                Err(Empty) => Stage::Looking(answer),
                Ok(Err(_)) | Err(Closed) => Stage::Look,
            },
            Stage::Importing(mut answer) => match answer.try_recv() {
                Ok(Ok(answered)) => {
                    match answered.outcome.result {
                        Ok(_) => tracing::info!(items = self.items.len(), "imported the catalog into pool default"),
                        Err(refusal) => tracing::warn!(%refusal, "the catalog was not imported"),
                    }
                    Stage::Idle
                }
                Err(Empty) => Stage::Importing(answer),
                Ok(Err(_)) | Err(Closed) => Stage::Look,
            },
            idle => idle,
        }
    }

    fn judge(&mut self, answer: Answer) -> Stage {
        let Answer::Pool(PoolState { summary, items }) = answer else { return Stage::Idle };
        if summary.version.0 == 0 && summary.draw_seq.0 == 0 {
            return Stage::Import;
        }
        if !std::mem::replace(&mut self.has_compared, true) && !self.is_like(&items) {
            tracing::warn!(
                "the configured catalog differs from the items and weights of pool default; the pool stays as it is"
            );
        }
        Stage::Idle
    }

    /// Are these the catalog's items and weights? Stock changes with every draw.
    fn is_like(&self, items: &[ItemState]) -> bool {
        let mut ours: Vec<_> = self.items.iter().map(|item| (&item.item, item.weight)).collect();
        let mut theirs: Vec<_> = items.iter().map(|item| (&item.id, item.weight)).collect();
        ours.sort_unstable();
        theirs.sort_unstable();
        ours == theirs
    }

    fn import(&self) -> Command {
        Command {
            pool: PoolId::default_pool(),
            key: RequestKey::new(Millis(0), [0; 10]),
            origin: KeyOrigin::Server,
            actor: Default::default(),
            action: Action::ImportCatalog { items: self.items.clone(), draw_seq: DrawSeq(0) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::NotApplied,
        pool::{Policy, PoolSummary, Stock, Version, Weight},
        types::Index,
    };

    fn catalog() -> Catalog {
        let item = CatalogItem { item: "bronze".parse().unwrap(), stock: Stock::Unlimited, weight: Weight(3) };
        Catalog::new(vec![item])
    }

    fn pool(version: u64, draw_seq: u64) -> Result<Read, Failure> {
        let summary = PoolSummary {
            id: PoolId::default_pool(),
            paused: false,
            policy: Policy::Renormalize,
            version: Version(version),
            draw_seq: DrawSeq(draw_seq),
            items: 0,
            key_floor: Millis(0),
        };
        Ok(Read { index: Index(2), now: Millis(1), answer: Answer::Pool(PoolState { summary, items: Vec::new() }) })
    }

    /// Lets it lead in term 1, and answers its read.
    fn read(catalog: &mut Catalog, answer: Result<Read, Failure>) {
        catalog.handle_leadership(Some(Term(1)));
        let Some(Step::Read(_, reply)) = catalog.poll_step() else { panic!("it reads first") };
        assert!(catalog.poll_step().is_none(), "and waits for the answer");
        reply.send(answer).unwrap();
    }

    #[test]
    fn a_new_pool_is_stocked_once_in_a_term() {
        let mut catalog = catalog();
        read(&mut catalog, pool(0, 0));
        let Some(Step::Submit(command, reply)) = catalog.poll_step() else { panic!("it imports") };
        assert!(matches!(command.action, Action::ImportCatalog { .. }));
        drop(reply);
        assert!(matches!(catalog.poll_step(), Some(Step::Read(..))), "turned away: it looks again");
        catalog.handle_leadership(None);
        assert!(catalog.poll_step().is_none(), "not without leading");
    }

    #[test]
    fn a_pool_in_use_is_left_alone() {
        for (version, draw_seq) in [(1, 0), (0, 1)] {
            let mut catalog = catalog();
            read(&mut catalog, pool(version, draw_seq));
            assert!(catalog.poll_step().is_none());
            catalog.handle_leadership(Some(Term(1)));
            assert!(catalog.poll_step().is_none(), "once in a term");
        }
    }

    #[test]
    fn a_read_that_failed_is_asked_again() {
        let mut catalog = catalog();
        read(&mut catalog, Err(NotApplied::NoQuorum.into()));
        assert!(matches!(catalog.poll_step(), Some(Step::Read(..))));
    }

    #[test]
    fn without_a_catalog_there_is_nothing_to_do() {
        let mut catalog = Catalog::new(Vec::new());
        catalog.handle_leadership(Some(Term(1)));
        assert!(catalog.poll_step().is_none());
    }
}
