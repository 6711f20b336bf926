//! What every verb that changes something does: a key, a request under it, and what came of it.

use serde_json::{Map, Value, json};

use super::{
    args::{Format, Globals},
    exit::{CliError, Exit},
    output, session,
};
use crate::{
    api::Answered,
    client::{Called, Client, LeaderChange},
    pool::{Action, Effect, PoolId, RequestKey},
    types::Index,
};

/// Which pool, and under which key.
#[derive(Clone, Debug, clap::Args)]
pub struct Target {
    /// The pool
    #[arg(long, default_value = "default", value_name = "POOL")]
    pub pool: PoolId,
    /// Request key; the same key never does it twice [default: a new one, which is printed]
    #[arg(long, value_name = "UUID")]
    pub key: Option<RequestKey>,
}

/// A request that was decided, and not refused.
#[derive(Clone, Debug)]
pub struct Decided {
    /// The pool.
    pub pool: PoolId,
    /// The key it was made under.
    pub key: RequestKey,
    /// The index it was decided at.
    pub index: Index,
    /// It had been decided before, under the same key.
    pub replayed: bool,
    /// What it did.
    pub effect: Effect,
    retries: u32,
    elapsed_ms: u128,
    leader_change: Option<LeaderChange>,
    /// What it took, in words, if it took more than usual.
    trouble: Option<String>,
}

/// Has `action` decided.
///
/// # Errors
/// A refusal, a failure, an interruption: each repeats the key.
pub async fn submit(globals: &Globals, target: Target, action: Action) -> Result<Decided, CliError> {
    let client = session::open(globals).await?;
    // An error is passed on at once: whoever interrupts must get to read the key.
    let (pool, key, called) = decide(&client, target, action).await?;
    client.close().await;
    let trouble = session::trouble(&called);
    let Called { value, retries, elapsed, leader_change } = called;
    let effect = value.outcome.result.map_err(|refusal| session::refused(&refusal, Some(key)))?;
    Ok(Decided {
        pool,
        key,
        index: value.outcome.index,
        replayed: value.outcome.replayed,
        effect,
        retries,
        elapsed_ms: elapsed.as_millis(),
        leader_change,
        trouble,
    })
}

/// Has `action` decided, refusals included; gives the key that it was decided under.
///
/// A key that we made may turn out too old or too new, as the cluster's time jumps when it wakes from idleness. The
/// refusal says that nothing was applied, and tells the time: one more key is made from it.
///
/// # Errors
/// A failure or an interruption.
pub async fn decide(
    client: &Client,
    target: Target,
    action: Action,
) -> Result<(PoolId, RequestKey, Called<Answered>), CliError> {
    let Target { pool, key: given } = target;
    for last in [false, true] {
        let key = match given {
            Some(key) => key,
            None => client.new_key().await.map_err(|error| session::failed(error, None))?,
        };
        let called = tokio::select! {
            biased;
            called = client.submit(pool.clone(), key, action.clone()) => {
                called.map_err(|error| session::failed(error, Some(key)))?
            }
            _ = tokio::signal::ctrl_c() => return Err(interrupted(key)),
        };
        let refused = called.value.outcome.result.as_ref().err();
        if last || given.is_some() || refused.and_then(session::time_told).is_none() {
            return Ok((pool, key, called));
        }
    }
    unreachable!("the last round returns")
}

fn interrupted(key: RequestKey) -> CliError {
    CliError::new(Exit::Interrupted, "INTERRUPTED", "interrupted; the outcome may be unknown")
        .hint("the same --key is safe to send again; `tombola outcome KEY` shows whether it was decided")
        .key(Some(key))
}

impl Decided {
    /// The keys that every mutation's JSON has, and what `more` adds.
    pub fn json(&self, more: Value) -> Value {
        let mut document = json!({
            "pool": self.pool.as_str(),
            "key": self.key.to_string(),
            "index": self.index.0,
            "replayed": self.replayed,
        });
        if let (Some(document), Value::Object(more)) = (document.as_object_mut(), more) {
            document.extend(more);
            document.extend(self.trouble_json());
        }
        document
    }

    fn trouble_json(&self) -> Map<String, Value> {
        let change =
            self.leader_change.map(|change| json!({"from": change.from.0, "to": change.to.0, "term": change.term.0}));
        let elapsed_ms = u64::try_from(self.elapsed_ms).unwrap_or(u64::MAX);
        let trouble = json!({"retries": self.retries, "elapsed_ms": elapsed_ms, "leader_change": change});
        trouble.as_object().cloned().unwrap_or_default()
    }

    /// The lines that every mutation's text ends with.
    pub fn footer(&self) -> String {
        let replayed = if self.replayed { "  (replayed: decided earlier under this key, and not again)" } else { "" };
        format!("key    {}\nindex  {}{replayed}\n", self.key, self.index)
    }

    /// The error for an effect of another kind than was asked for: a node of another version, at best.
    pub fn unexpected(&self) -> CliError {
        CliError::new(Exit::Other, "UNEXPECTED", format!("the cluster answered something else: {:?}", self.effect))
            .key(Some(self.key))
    }

    /// Writes it, and on stderr what it took, if more than usual: `more` is what this verb adds to the JSON, `text` what stands above the footer.
    pub fn print(&self, format: Format, more: Value, text: &str) {
        output::data(format, &self.json(more), || format!("{text}{}", self.footer()));
        if let Some(trouble) = &self.trouble {
            output::note(format, &format!("{trouble}; nothing was given twice"));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        pool::Version,
        types::{Millis, ReplicaId, Term},
    };

    /// Something decided at index 12 of pool `default`.
    pub(in crate::cli) fn decided(effect: Effect) -> Decided {
        Decided {
            pool: PoolId::default_pool(),
            key: RequestKey::new(Millis(1_700_000_000_000), [7; 10]),
            index: Index(12),
            replayed: false,
            effect,
            retries: 0,
            elapsed_ms: 3,
            leader_change: None,
            trouble: None,
        }
    }

    #[test]
    fn json_has_the_common_keys_and_the_verbs_own() {
        let mut decided = decided(Effect::PoolSet { version: Version(1) });
        decided.replayed = true;
        decided.leader_change = Some(LeaderChange { from: ReplicaId(1), to: ReplicaId(2), term: Term(3) });
        let expected = json!({
            "pool": "default", "key": decided.key.to_string(), "index": 12, "replayed": true, "version": 1,
            "retries": 0, "elapsed_ms": 3, "leader_change": {"from": 1, "to": 2, "term": 3},
        });
        assert_eq!(decided.json(json!({"version": 1})), expected);
    }

    #[test]
    fn a_replay_is_marked() {
        let mut decided = decided(Effect::PoolSet { version: Version(1) });
        assert!(!decided.footer().contains("replayed"));
        decided.replayed = true;
        assert!(decided.footer().contains("replayed"));
    }
}
