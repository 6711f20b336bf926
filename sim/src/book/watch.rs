//! What the hooks tell.

use bytes::Bytes;
use madsim::plugin::node;
use tombola::{
    durable::{Entry, EntryKind},
    hooks::Watcher,
    replica::Status,
    types::{Index, Term},
};

use super::{Book, lines, lives::Shipment, rare::has_lonely_tail};
use crate::chance;

impl Watcher for Book {
    fn crash_point(&self, name: &'static str) {
        let hit = {
            let pages = &mut *self.pages();
            let Some(who) = pages.lives.on(node()).map(|life| life.who.replica) else { return };
            let nth = pages.hits.entry((who, name)).or_default();
            *nth += 1;
            let nth = *nth;
            let is_planned = pages.planned.iter().any(|(point, planned)| (point.as_str(), *planned) == (name, nth));
            is_planned.then_some((who, nth))
        };
        let Some((who, nth)) = hit else { return };
        // Taken out while it is called: what it does may come to a crash point too, which is then nobody's.
        let call = self.on_hit.lock().expect("nothing panics under this lock").take();
        if let Some(call) = call {
            call(who, name, nth);
            *self.on_hit.lock().expect("nothing panics under this lock") = Some(call);
        }
    }

    fn sometimes(&self, name: &'static str) {
        let pages = &mut *self.pages();
        if !pages.lives.is_over(node()) {
            pages.mark(name);
        }
    }

    fn is_planted(&self, bug: &'static str) -> bool {
        self.pages().bug.as_deref() == Some(bug)
    }

    fn whim(&self) -> u64 {
        let pages = &mut *self.pages();
        let Some(who) = pages.lives.on(node()).map(|life| life.who.replica) else { return 0 };
        let count = pages.whims.entry(who).or_default();
        *count += 1;
        chance::number(0, "whim", &[who.0, *count])
    }

    fn applied(&self, index: Index, term: Term, data: &Bytes) {
        let pages = &mut *self.pages();
        let Some(life) = pages.lives.on(node()) else { return };
        let who = life.who;
        if let Some(mark) = pages.rare.applied(life, index, term) {
            pages.mark(mark);
        }
        let entry = Entry { index, term, kind: EntryKind::Normal, data: data.clone() };
        pages.history().applied(who, &entry);
        pages.applied(index, data);
    }

    fn restored(&self, index: Index) {
        let pages = &mut *self.pages();
        let Some(life) = pages.lives.on(node()) else { return };
        (life.restored, life.shipment) = (index, Shipment::None);
        let who = life.who;
        pages.history().restored(who, index);
        pages.line(who.replica.0, "restored", format_args!("{index}"));
    }

    fn remembered(&self, index: Index) {
        let pages = &mut *self.pages();
        let Some(life) = pages.lives.on(node()) else { return };
        pages.rare.remembered(life, index).into_iter().for_each(|mark| pages.mark(mark));
    }

    fn cache_bytes(&self, usual: usize) -> usize {
        self.pages().cache_bytes.unwrap_or(usual)
    }

    fn turned(&self, status: Status) {
        let pages = &mut *self.pages();
        let Some(life) = pages.lives.on(node()) else { return };
        let who = life.who;
        life.has_lonely_tail = has_lonely_tail(&status);
        // What a leader knows of the others comes with every frame, and shows nothing that is judged.
        let status = Status { matched: Vec::new(), ..status };
        if life.shown.as_ref() == Some(&status) {
            return;
        }
        let before = life.shown.replace(status.clone());
        let others = pages.lives.shown_by_others(who.replica);
        let marks = pages.rare.turned(before.as_ref(), &status, others);
        marks.into_iter().for_each(|mark| pages.mark(mark));
        pages.history().status(who, &status);
        if before.is_none_or(|before| lines::has_moved(&before, &status)) {
            pages.line(who.replica.0, "turn", format_args!("{}", lines::Turn(&status)));
        }
    }
}
