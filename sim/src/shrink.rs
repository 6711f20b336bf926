//! Cutting a failing plan down: to what somebody can read, and what the corpus replays fast for ever.
//!
//! A cut is kept if the plan still fails by the same checker, in the same sort of way. First whole classes of things go by
//! delta debugging (A. Zeller, R. Hildebrandt, "Simplifying and isolating failure-inducing input", 2002): faults, clients,
//! calls. Then nodes and time, and each option towards its harmless value. What one cut made possible may let another
//! succeed, so the rounds go on until one of them keeps nothing, or until the budget of runs is spent.
//!
//! It knows nothing of simulations: it is given something that says of a plan how it fails.

mod simpler;

use crate::{
    plan::{Fault, Plan, PlannedCall},
    verdict::Failure,
};

/// What came of it.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The least plan found.
    pub plan: Plan,
    /// How that one fails.
    pub failure: Failure,
    /// Plans tried.
    pub runs: usize,
}

/// Cuts a plan that fails like this, trying at most so many others.
pub fn shrink(plan: &Plan, failure: &Failure, runs_max: usize, fails: impl FnMut(&Plan) -> Option<Failure>) -> Shrunk {
    let least = Shrunk { plan: plan.clone(), failure: failure.clone(), runs: 0 };
    let mut search = Search { least, runs_max, fails };
    loop {
        let before = search.least.plan.clone();
        search.faults();
        search.clients();
        search.calls();
        for step in simpler::STEPS {
            search.repeat(*step);
        }
        if search.least.plan == before || search.is_spent() {
            return search.least;
        }
    }
}

struct Search<F> {
    least: Shrunk,
    runs_max: usize,
    fails: F,
}

impl<F: FnMut(&Plan) -> Option<Failure>> Search<F> {
    fn is_spent(&self) -> bool {
        self.least.runs >= self.runs_max
    }

    /// Keeps the plan if it is another, and fails alike.
    fn keep(&mut self, plan: Plan) -> bool {
        if plan == self.least.plan || self.is_spent() {
            return false;
        }
        self.least.runs += 1;
        let is_alike = |new: &Failure| new.checker == self.least.failure.checker && new.kind == self.least.failure.kind;
        let Some(failure) = (self.fails)(&plan).filter(is_alike) else { return false };
        self.least = Shrunk { plan, failure, runs: self.least.runs };
        true
    }

    fn faults(&mut self) {
        let all = self.least.plan.faults.clone();
        self.thin_out(all, |plan, kept: &[Fault]| plan.faults = kept.to_vec());
    }

    /// A client goes by losing its calls: those after it keep their numbers, by which their chances are named.
    fn clients(&mut self) {
        let all: Vec<usize> = (0..self.least.plan.clients.len()).collect();
        self.thin_out(all, |plan, kept: &[usize]| {
            let clients = plan.clients.iter_mut().enumerate();
            clients.filter(|(number, _)| !kept.contains(number)).for_each(|(_, client)| client.calls.clear());
        });
    }

    fn calls(&mut self) {
        let numbered = self.least.plan.clients.iter().enumerate();
        let all: Vec<(usize, PlannedCall)> =
            numbered.flat_map(|(number, client)| client.calls.iter().map(move |call| (number, call.clone()))).collect();
        self.thin_out(all, |plan, kept: &[(usize, PlannedCall)]| {
            plan.clients.iter_mut().for_each(|client| client.calls.clear());
            kept.iter().for_each(|(number, call)| plan.clients[*number].calls.push(call.clone()));
        });
    }

    /// Delta debugging: all but ever smaller parts are left out, until no single one can be.
    fn thin_out<T: Clone>(&mut self, mut kept: Vec<T>, put: impl Fn(&mut Plan, &[T])) {
        let mut len = kept.len();
        while len > 0 && !self.is_spent() {
            let mut at = 0;
            while at < kept.len() {
                let rest = [&kept[..at], &kept[(at + len).min(kept.len())..]].concat();
                let mut plan = self.least.plan.clone();
                put(&mut plan, &rest);
                if self.keep(plan) {
                    kept = rest;
                } else {
                    at += len;
                }
            }
            len = if len == 1 { 0 } else { len.min(kept.len()).div_ceil(2) };
        }
    }

    /// A step again and again, as long as it leads to a plan that fails alike.
    fn repeat(&mut self, step: fn(&mut Plan)) {
        loop {
            let mut plan = self.least.plan.clone();
            step(&mut plan);
            if !self.keep(plan) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
