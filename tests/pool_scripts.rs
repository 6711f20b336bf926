//! Scenarios of the pool, in `tests/scripts/pool`: what is asked, and below the line what was answered. Regenerate with
//! `UPDATE_GOLDENFILES=1 cargo test --test pool_scripts`, and read the difference.
//!
//! Each command is an entry of its own, unless it stands between `together` and `apply`. Commands of a pool take `pool=`
//! (`default` otherwise), and `key=NAME`, a key that goes by a name from then on: `key=a@-30s` is made 30 s ago,
//! `key=server/a` by a node. Times are those since the script's beginning. After its last line every script is verified,
//! applied again from its entries, and restored from its snapshot.

use std::{collections::BTreeMap, error::Error, fmt::Write as _, path::Path};

use goldenscript::{ArgumentConsumer, Context};
use tombola::{
    pool::{
        Action, Actor, Answer, Batch, CatalogItem, Claim, Command, DrawSeq, Effect, ItemState, KeyOrigin, Limits,
        Outcome, PAGE_LEN_MAX, Policy, PoolSummary, Query, Refusal, Remembered, RequestKey, StateMachine, Step, Stock,
        Version, Weight,
    },
    types::{Entropy, Index, Millis},
};

type Fallible<T> = Result<T, Box<dyn Error>>;

/// When every script begins.
const START: u64 = 1_735_689_600_000;

struct Script {
    limits: Limits,
    machine: StateMachine,
    entries: Vec<Vec<u8>>,
    now: u64,
    keys: BTreeMap<String, RequestKey>,
    keys_made: u64,
    /// Commands since `together`.
    together: Option<Vec<Command>>,
}

impl Script {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let machine = StateMachine::founding(limits);
        let (entries, keys) = (Vec::new(), BTreeMap::new());
        Self { limits, machine, entries, now: START, keys, keys_made: 0, together: None }
    }

    fn apply(&mut self, commands: Vec<Command>) -> String {
        let index = self.machine.applied().next();
        let mut entropy = [0; 32];
        entropy[..8].copy_from_slice(&index.0.to_le_bytes());
        let batch = Batch { version: Batch::VERSION, time: Millis(self.now), entropy: Entropy(entropy), commands };
        self.apply_bytes(batch.encode())
    }

    fn apply_bytes(&mut self, entry: Vec<u8>) -> String {
        let outcomes = self.machine.apply(self.machine.applied().next(), &entry);
        self.entries.push(entry);
        outcomes.iter().map(outcome_line).collect()
    }

    fn submit(&mut self, action: Action, args: &mut ArgumentConsumer<'_>) -> Fallible<String> {
        let pool = args.take_key("pool").unwrap_or("default").parse()?;
        let (key, origin) = match args.take_key("key") {
            Some(name) => self.named_key(name)?,
            None => (self.fresh_key(self.now, false), KeyOrigin::Caller),
        };
        args.reject_next()?;
        let command = Command { pool, key, origin, actor: Actor::default(), action };
        let complaint = command.check().err().map(|why| format!("malformed: {why}\n")).unwrap_or_default();
        match &mut self.together {
            Some(commands) => {
                commands.push(command);
                Ok(complaint)
            }
            None => Ok(complaint + &self.apply(vec![command])),
        }
    }

    /// A key by its name: `NAME`, `NAME@-30s`, `server/NAME`, the last with a server for its origin.
    fn named_key(&mut self, text: &str) -> Fallible<(RequestKey, KeyOrigin)> {
        let (by_node, text) = text.strip_prefix("server/").map_or((false, text), |rest| (true, rest));
        let (name, offset) = text.split_once('@').unwrap_or((text, "0s"));
        let at = self.now.checked_add_signed(millis(offset)?).ok_or("no such time")?;
        let key = match self.keys.get(name) {
            Some(&key) => key,
            None => self.fresh_key(at, by_node),
        };
        self.keys.insert(name.into(), key);
        Ok((key, if by_node { KeyOrigin::Server } else { KeyOrigin::Caller }))
    }

    fn fresh_key(&mut self, at: u64, by_node: bool) -> RequestKey {
        self.keys_made += 1;
        let number = self.keys_made.to_be_bytes();
        match by_node {
            true => RequestKey::server_made(Millis(at), number[2..].try_into().unwrap()),
            false => RequestKey::new(Millis(at), [&[0, 0], &number[..]].concat().try_into().unwrap()),
        }
    }

    fn query(&self, query: Query) -> String {
        match self.machine.query(&query) {
            Answer::Pool(pool) => {
                let items = pool.items.iter().map(item_line);
                summary_line(&pool.summary) + &items.collect::<String>()
            }
            Answer::Pools { pools, more } => listed(pools.iter().map(summary_line), more),
            Answer::Items { items, more, .. } => listed(items.iter().map(item_line), more),
            Answer::Outcome(Remembered::Outcome(outcome)) => outcome_line(&outcome),
            Answer::Outcome(Remembered::NotSeen) => "not seen\n".into(),
            Answer::Outcome(Remembered::Expired { floor }) => format!("expired, floor {}\n", since_start(floor)),
            Answer::Verified(found) => format!(
                "{} pools, {} items, {} keys, violations {:?}\n",
                found.pools, found.items, found.keys, found.violations
            ),
            Answer::Refused(refusal) => refusal_line(&refusal),
        }
    }

    /// The state out of its own snapshot, which must be the same state.
    fn restart(&mut self) -> String {
        let body = self.machine.snapshot().encode();
        let restored = StateMachine::restore(&body).expect("a snapshot can be restored");
        assert_eq!(restored.digests(), self.machine.digests());
        assert_eq!(restored.snapshot().encode(), body);
        self.machine = restored;
        String::new()
    }
}

impl goldenscript::Runner for Script {
    type Command = goldenscript::Command;

    fn run(&mut self, command: &goldenscript::Command, _: &Context) -> Fallible<String> {
        let mut args = command.consume_args();
        if let Some(action) = action(&command.name, &mut args)? {
            return self.submit(action, &mut args);
        }
        let mut next = || args.next_pos().ok_or("an argument is missing");
        match command.name.as_str() {
            "limits" => {
                let number = |args: &mut ArgumentConsumer<'_>, key| args.take_key(key).map(str::parse).transpose();
                let default = Limits::default();
                *self = Self::with(Limits {
                    keys_bytes_max: number(&mut args, "keys_bytes")?.unwrap_or(default.keys_bytes_max),
                    keys_age_ms_max: number(&mut args, "keys_age_ms")?.unwrap_or(default.keys_age_ms_max),
                });
            }
            "pass" => self.now = self.now.checked_add_signed(millis(next()?)?).ok_or("no such time")?,
            "tick" => return Ok(self.apply(Vec::new())),
            "together" => self.together = Some(Vec::new()),
            "apply" => {
                let commands = self.together.take().ok_or("nothing stands together")?;
                return Ok(self.apply(commands));
            }
            "noop" => return Ok(self.apply_bytes(Vec::new())),
            "garbage" => return Ok(self.apply_bytes(next()?.as_bytes().to_vec())),
            "pool" => return Ok(self.query(Query::Pool(args.next_pos().unwrap_or("default").parse()?))),
            "pools" => {
                let after = args.take_key("after").map(str::parse).transpose()?;
                return Ok(self.query(Query::Pools { after, limit: limit(&mut args)? }));
            }
            "items" => {
                let pool = args.take_key("pool").unwrap_or("default").parse()?;
                let after = args.take_key("after").map(str::parse).transpose()?;
                return Ok(self.query(Query::Items { pool, after, limit: limit(&mut args)? }));
            }
            "outcome" => {
                let key = *self.keys.get(next()?).ok_or("no key goes by that name")?;
                let pool = args.take_key("pool").unwrap_or("default").parse()?;
                return Ok(self.query(Query::Outcome(pool, key)));
            }
            "verify" => return Ok(self.query(Query::Verify)),
            "restart" => return Ok(self.restart()),
            "now" => return Ok(format!("{} {}\n", self.machine.applied(), since_start(self.machine.now()))),
            other => return Err(format!("unknown command {other}").into()),
        }
        Ok(String::new())
    }

    fn end_script(&mut self) -> Fallible<()> {
        let mut again = StateMachine::founding(self.limits);
        for (position, entry) in (2..).zip(&self.entries) {
            again.apply(Index(position), entry);
        }
        assert_eq!(again.digests(), self.machine.digests(), "the same entries make the same state");
        assert_eq!(again.snapshot().encode(), self.machine.snapshot().encode());
        self.restart();
        let Answer::Verified(found) = self.machine.query(&Query::Verify) else { unreachable!() };
        assert!(found.violations.is_empty(), "{:?}", found.violations);
        Ok(())
    }
}

/// The command's action, if it is a command of a pool.
fn action(name: &str, args: &mut ArgumentConsumer<'_>) -> Fallible<Option<Action>> {
    let mut next = || args.next_pos().ok_or("an argument is missing");
    Ok(Some(match name {
        "draw" => Action::Draw { count: next()?.parse()? },
        "claim" => Action::Claim { item: next()?.parse()?, quantity: next()?.parse()? },
        "set" => Action::SetItem {
            item: next()?.parse()?,
            stock: stock(next()?)?,
            weight: Weight(next()?.parse()?),
            etag: args.take_key("etag").map(str::parse).transpose()?.map(Version),
        },
        "update" => Action::UpdateItem {
            item: next()?.parse()?,
            stock: stock(next()?)?,
            weight: Weight(next()?.parse()?),
            create: args.take_key("create").is_some_and(|create| create == "yes"),
        },
        "adjust" => Action::AdjustStock { item: next()?.parse()?, delta: next()?.parse()? },
        "remove" => Action::RemoveItem {
            item: next()?.parse()?,
            etag: args.take_key("etag").map(str::parse).transpose()?.map(Version),
        },
        "create" => Action::CreatePool {
            policy: policy(args.take_key("policy").unwrap_or("renormalize"))?,
            require_key: args.take_key("require_key").is_some_and(|required| required == "yes"),
            items: catalog(args)?,
        },
        "import" => Action::ImportCatalog {
            draw_seq: DrawSeq(args.take_key("seq").unwrap_or("0").parse()?),
            items: catalog(args)?,
        },
        "redefine" => Action::UpdatePool {
            policy: args.take_key("policy").map(policy).transpose()?,
            require_key: args.take_key("require_key").map(|required| required == "yes"),
            etag: Version(args.take_key("etag").ok_or("an etag is missing")?.parse()?),
        },
        "pause" => Action::PausePool,
        "resume" => Action::ResumePool,
        _ => return Ok(None),
    }))
}

fn policy(text: &str) -> Fallible<Policy> {
    Ok(match text {
        "renormalize" => Policy::Renormalize,
        "miss" => Policy::Miss,
        fallback => Policy::Fallback(fallback.strip_prefix("fallback/").ok_or("unknown policy")?.parse()?),
    })
}

/// Items as `NAME/STOCK/WEIGHT`.
fn catalog(args: &mut ArgumentConsumer<'_>) -> Fallible<Vec<CatalogItem>> {
    std::iter::from_fn(|| args.next_pos())
        .map(|text| {
            let [item, quantity, weight] = text.split('/').collect::<Vec<_>>()[..] else {
                return Err(format!("an item is NAME/STOCK/WEIGHT, not {text}").into());
            };
            Ok(CatalogItem { item: item.parse()?, stock: stock(quantity)?, weight: Weight(weight.parse()?) })
        })
        .collect()
}

fn stock(text: &str) -> Fallible<Stock> {
    Ok(if text == "unlimited" { Stock::Unlimited } else { Stock::Finite(text.parse()?) })
}

fn stock_word(stock: Stock) -> String {
    match stock {
        Stock::Finite(quantity) => quantity.to_string(),
        Stock::Unlimited => "unlimited".into(),
    }
}

/// `5s`, `-30s`, `250ms`, `24h`.
fn millis(text: &str) -> Fallible<i64> {
    let unit_at = text.find(char::is_alphabetic).ok_or("a time has a unit")?;
    let (number, unit) = text.split_at(unit_at);
    let unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "h" => 3_600_000,
        _ => return Err(format!("unknown unit {unit}").into()),
    };
    Ok(number.parse::<i64>()? * unit)
}

fn since_start(at: Millis) -> String {
    // A floor before 1970, while cluster time is younger than the horizon, is 0.
    if at.0 == 0 { "never".into() } else { format!("{} ms", at.0 as i64 - START as i64) }
}

fn outcome_line(outcome: &Outcome) -> String {
    let again = if outcome.replayed { " again" } else { "" };
    let what = match &outcome.result {
        Ok(effect) => effect_words(effect),
        Err(refusal) => refusal_line(refusal).trim_end().into(),
    };
    format!("{}{again}: {what}\n", outcome.index)
}

fn refusal_line(refusal: &Refusal) -> String {
    match refusal {
        Refusal::KeyExpired { floor, now } => {
            format!("refused KEY_EXPIRED, floor {}, now {}\n", since_start(*floor), since_start(*now))
        }
        Refusal::KeyFromFuture { floor, now } => {
            format!("refused KEY_FROM_FUTURE, floor {}, now {}\n", since_start(*floor), since_start(*now))
        }
        Refusal::EtagMismatch { current } => format!("refused ETAG_MISMATCH, current {current}\n"),
        Refusal::InsufficientStock { remaining } => format!("refused INSUFFICIENT_STOCK, remaining {remaining}\n"),
        other => format!("refused {}\n", other.code()),
    }
}

fn effect_words(effect: &Effect) -> String {
    match effect {
        Effect::Drawn { first_seq, version, steps } => {
            let mut words = format!("drew at version {version}:");
            if steps.len() > 20 {
                return format!("drew at version {version}: #{first_seq} and {} more", steps.len() - 1);
            }
            for (seq, step) in (first_seq.0..).zip(steps.iter()) {
                let _ = match step {
                    Step::Awarded(item) => write!(words, " #{seq} {item}"),
                    Step::Fallback(item) => write!(words, " #{seq} {item} (fallback)"),
                    Step::Miss => write!(words, " #{seq} miss"),
                    Step::PoolEmpty => write!(words, " #{seq} empty"),
                };
            }
            words
        }
        Effect::Claimed { seq, result: Claim::Awarded } => format!("claimed #{seq}"),
        Effect::Claimed { seq, result: Claim::OutOfStock { remaining } } => {
            format!("claimed #{seq} nothing, {remaining} left")
        }
        Effect::ItemSet(item) => format!("set {}", item_line(item).trim()),
        Effect::Adjusted { remaining } => format!("adjusted, {remaining} left"),
        Effect::ItemRemoved { version } => format!("removed, version {version}"),
        Effect::PoolSet { version } => format!("done, version {version}"),
        Effect::Imported { version, items } => format!("imported {items} items, version {version}"),
    }
}

/// Of a page; all there may be on one, otherwise.
fn limit(args: &mut ArgumentConsumer<'_>) -> Fallible<u16> {
    Ok(args.take_key("limit").map_or(Ok(PAGE_LEN_MAX), str::parse)?)
}

fn listed(lines: impl Iterator<Item = String>, more: bool) -> String {
    let lines: String = lines.collect();
    lines + if more { "...\n" } else { "" }
}

fn item_line(item: &ItemState) -> String {
    let ItemState { id, weight, stock, reserved, awarded, returned, added, rev } = item;
    let held = if (*reserved, *returned) == (0, 0) { "" } else { " HELD OR RETURNED" };
    format!("  {id}: {} weight {weight}, awarded {awarded} of {added}, rev {rev}{held}\n", stock_word(*stock))
}

fn summary_line(pool: &PoolSummary) -> String {
    let PoolSummary { id, paused, policy, require_key, version, draw_seq, items, key_floor } = pool;
    let paused = if *paused { " paused" } else { "" };
    let keyed = if *require_key { ", wants keys" } else { "" };
    let floor = since_start(*key_floor);
    format!("{id}{paused}: {policy:?}{keyed}, version {version}, {draw_seq} draws, {items} items, key floor {floor}\n")
}

#[test]
fn every_script_is_answered_as_before() {
    let scripts = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/pool")).unwrap();
    let mut scripts: Vec<_> = scripts.map(|script| script.unwrap().path()).collect();
    scripts.sort();
    assert!(!scripts.is_empty());
    for script in scripts {
        goldenscript::run(&mut Script::new(), &script).unwrap_or_else(|why| panic!("{}: {why}", script.display()));
    }
}
