//! The configured catalog: imported into pool `default` once, by the first leader, while that pool is new.
//!
//! A leader reads the pool, linearizably, once in each term it leads. A pool that was ever stocked or drawn from is left as
//! it is: the log wins over the file for ever, and a file that differs is a warning. Two leaders that both import do no
//! harm: the second finds a pool that is not new.
//!
//! Until a leader knows that the pool is stocked it proposes nothing else: a draw that came first would find the pool empty,
//! take its first number, and thereby keep the catalog out for ever. An import that the pool refuses for what is in it is
//! given up for the term: the rest goes on without it.

use tokio::sync::oneshot;

use crate::{
    api::{Failure, Read},
    pool::{Action, Answer, CatalogItem, DrawSeq, ItemState, PoolState, Refusal},
    replica::{ProposalId, ProposalResult},
    types::Term,
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
    /// To propose the import.
    Import,
    /// The import is in the log, before anything else that this leader proposes.
    Importing(ProposalId),
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

    /// Must nothing else be proposed yet?
    pub fn comes_first(&self) -> bool {
        matches!(self.stage, Stage::Look | Stage::Looking(_) | Stage::Import)
    }

    /// Asks for a read of pool `default`, if one is to be made now, to be answered here. One that cannot be made is given
    /// back by dropping its channel, and asked for again at the next turn.
    pub fn poll_read(&mut self) -> Option<oneshot::Sender<Result<Read, Failure>>> {
        use oneshot::error::TryRecvError::{Closed, Empty};
        if let Stage::Looking(answer) = &mut self.stage {
            match answer.try_recv() {
                Ok(Ok(read)) => self.stage = self.judge(read.answer),
                Ok(Err(_)) | Err(Closed) => self.stage = Stage::Look,
                Err(Empty) => {}
            }
        }
        let Stage::Look = self.stage else { return None };
        let (reply, answer) = oneshot::channel();
        self.stage = Stage::Looking(answer);
        Some(reply)
    }

    /// The import, if it is to be proposed now.
    pub fn import(&self) -> Option<Action> {
        let Stage::Import = self.stage else { return None };
        Some(Action::ImportCatalog { items: self.items.clone(), draw_seq: DrawSeq(0) })
    }

    /// The import was handed to the replica as this proposal.
    pub fn handle_proposed(&mut self, id: ProposalId) {
        self.stage = Stage::Importing(id);
    }

    /// What became of a proposal; given back if it is not the import.
    pub fn handle_result(&mut self, id: ProposalId, result: ProposalResult) -> Option<ProposalResult> {
        if !matches!(self.stage, Stage::Importing(import) if import == id) {
            return Some(result);
        }
        self.stage = match result {
            ProposalResult::Applied(outcome) => match outcome.result {
                Ok(_) => {
                    tracing::info!(items = self.items.len(), "imported the catalog into pool default");
                    Stage::Idle
                }
                Err(refusal) => {
                    tracing::warn!(%refusal, "the catalog was not imported");
                    after(&refusal)
                }
            },
            ProposalResult::NotProposed | ProposalResult::Superseded => Stage::Look,
        };
        None
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
}

/// What a refused import leaves to do. One for its key may pass: it may have been too old, after a long silence, and cluster
/// time has moved since. Any other would be refused again and again, and nothing else proposed meanwhile.
fn after(refusal: &Refusal) -> Stage {
    match refusal {
        Refusal::KeyExpired { .. } | Refusal::KeyFromFuture { .. } | Refusal::KeyTableFull => Stage::Look,
        _ => Stage::Idle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::NotApplied,
        pool::{Effect, Outcome, Policy, PoolId, PoolSummary, Stock, Version, Weight},
        types::{Index, Millis},
    };

    const IMPORT: ProposalId = ProposalId(7);

    fn catalog() -> Catalog {
        let item = CatalogItem { item: "bronze".parse().unwrap(), stock: Stock::Unlimited, weight: Weight(3) };
        Catalog::new(vec![item])
    }

    fn pool(version: u64, draw_seq: u64) -> Result<Read, Failure> {
        let summary = PoolSummary {
            id: PoolId::default_pool(),
            paused: false,
            policy: Policy::Renormalize,
            require_key: false,
            version: Version(version),
            draw_seq: DrawSeq(draw_seq),
            items: 0,
            key_floor: Millis(0),
        };
        Ok(Read { index: Index(2), now: Millis(1), answer: Answer::Pool(PoolState { summary, items: Vec::new() }) })
    }

    fn applied(result: Result<Effect, Refusal>) -> ProposalResult {
        ProposalResult::Applied(Outcome { index: Index(3), now: Millis(1), replayed: false, result })
    }

    /// Lets it lead in term 1, and answers its read.
    fn read(catalog: &mut Catalog, answer: Result<Read, Failure>) {
        catalog.handle_leadership(Some(Term(1)));
        let reply = catalog.poll_read().expect("it reads first");
        assert!(catalog.poll_read().is_none() && catalog.comes_first(), "and waits for the answer");
        reply.send(answer).unwrap();
    }

    #[test]
    fn a_new_pool_is_stocked_before_anything_else_and_once_in_a_term() {
        let mut catalog = catalog();
        read(&mut catalog, pool(0, 0));
        assert!(catalog.poll_read().is_none() && catalog.comes_first());
        assert!(matches!(catalog.import(), Some(Action::ImportCatalog { .. })));
        catalog.handle_proposed(IMPORT);
        assert!(!catalog.comes_first() && catalog.import().is_none(), "whatever follows is behind it in the log");
        let other = applied(Ok(Effect::PoolSet { version: Version(1) }));
        assert_eq!(catalog.handle_result(ProposalId(8), other.clone()), Some(other));
        assert_eq!(
            catalog.handle_result(IMPORT, applied(Ok(Effect::Imported { version: Version(1), items: 1 }))),
            None
        );
        catalog.handle_leadership(Some(Term(1)));
        assert!(catalog.poll_read().is_none() && !catalog.comes_first());
    }

    #[test]
    fn an_import_that_came_to_nothing_is_looked_into_again_while_it_leads() {
        let (floor, now) = (Millis(5), Millis(9));
        let keys = [Refusal::KeyExpired { floor, now }, Refusal::KeyFromFuture { now, floor }, Refusal::KeyTableFull];
        let refused = keys.map(|refusal| applied(Err(refusal)));
        for result in [ProposalResult::Superseded, ProposalResult::NotProposed].into_iter().chain(refused) {
            let mut catalog = catalog();
            read(&mut catalog, pool(0, 0));
            assert!(catalog.poll_read().is_none());
            catalog.handle_proposed(IMPORT);
            assert_eq!(catalog.handle_result(IMPORT, result), None);
            assert!(catalog.poll_read().is_some());
            catalog.handle_leadership(None);
            assert!(catalog.poll_read().is_none() && !catalog.comes_first(), "not without leading");
        }
    }

    #[test]
    fn an_import_that_the_pool_refuses_is_not_tried_again_and_blocks_nothing() {
        let mut catalog = catalog();
        read(&mut catalog, pool(0, 0));
        assert!(catalog.poll_read().is_none());
        catalog.handle_proposed(IMPORT);
        assert_eq!(catalog.handle_result(IMPORT, applied(Err(Refusal::ItemsFull))), None);
        assert!(catalog.poll_read().is_none() && catalog.import().is_none() && !catalog.comes_first());
    }

    #[test]
    fn a_pool_in_use_is_left_alone() {
        for (version, draw_seq) in [(1, 0), (0, 1)] {
            let mut catalog = catalog();
            read(&mut catalog, pool(version, draw_seq));
            assert!(catalog.poll_read().is_none() && catalog.import().is_none() && !catalog.comes_first());
        }
    }

    #[test]
    fn a_read_that_failed_is_asked_again() {
        let mut catalog = catalog();
        read(&mut catalog, Err(NotApplied::NoQuorum.into()));
        assert!(catalog.poll_read().is_some());
    }

    #[test]
    fn without_a_catalog_there_is_nothing_to_do() {
        let mut catalog = Catalog::new(Vec::new());
        catalog.handle_leadership(Some(Term(1)));
        assert!(catalog.poll_read().is_none() && !catalog.comes_first());
    }
}
