//! The way back to whoever asked.

use std::fmt;

use tokio::sync::oneshot;

use crate::api::{Failure, NotApplied};

/// Where an answer goes: to whom it is of use, in the turn of the loop in which it is known. So it must do no more than hand
/// the answer on, as the answers of one turn then travel together.
///
/// Dropped without an answer, it says [`NotApplied::Draining`]: what was not answered when the node ended was not begun.
pub(super) struct AnswerTo<T>(Option<Then<T>>);

type Then<T> = Box<dyn FnOnce(Result<T, Failure>) + Send>;

impl<T> AnswerTo<T> {
    /// Hands the answer to `then`, once.
    pub fn new(then: impl FnOnce(Result<T, Failure>) + Send + 'static) -> Self {
        Self(Some(Box::new(then)))
    }

    /// Gives the answer.
    pub fn answer(mut self, answer: Result<T, Failure>) {
        self.give(answer);
    }

    fn give(&mut self, answer: Result<T, Failure>) {
        if let Some(then) = self.0.take() {
            then(answer);
        }
    }
}

impl<T> Drop for AnswerTo<T> {
    fn drop(&mut self) {
        self.give(Err(NotApplied::Draining.into()));
    }
}

impl<T: Send + 'static> From<oneshot::Sender<Result<T, Failure>>> for AnswerTo<T> {
    fn from(reply: oneshot::Sender<Result<T, Failure>>) -> Self {
        // Whoever no longer listens does not mind.
        Self::new(move |answer| _ = reply.send(answer))
    }
}

impl<T> fmt::Debug for AnswerTo<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerTo")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_given_once_and_never_withheld() {
        let (reply, mut answer) = oneshot::channel();
        AnswerTo::from(reply).answer(Ok(1));
        assert_eq!(answer.try_recv(), Ok(Ok(1)));
        let (reply, mut answer) = oneshot::channel::<Result<u8, Failure>>();
        drop(AnswerTo::from(reply));
        assert_eq!(answer.try_recv(), Ok(Err(NotApplied::Draining.into())));
    }
}
