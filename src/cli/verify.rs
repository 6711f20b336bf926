//! `tombola verify`: do all nodes hold one history, and does each one's state hold together?
//!
//! Three questions, each answered by every node that can be reached:
//! - the *history* digest at one index, the newest that all of them have applied, must be the same;
//! - the *state* digest must be the same wherever the applied index is;
//! - the state, looked at from nothing, must conserve stock, keep keys unique and match its own digest (`Query::Verify`).
//!
//! Stock is then added up once more here, item by item, from what a linearizable read shows. A node that is down is a
//! warning while a majority agrees: what it holds cannot be known, and raft does not need it.

mod report;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    CliError, Exit, Globals,
    nodes::{self, Asked, Nodes},
    output, pages, session,
};
use crate::{
    api::Consistency,
    client::Client,
    pool::{Answer, ItemState, PoolId, Query, Stock, Verification},
    types::{HistoryDigest, Index, ReplicaId, StateDigest},
};

/// Nothing to choose.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exits 5 if anything does not hold, or if no majority of the nodes could be asked.

Example:
  tombola verify")]
pub struct Args {}

/// Nodes that are asked while the cluster works are at different indexes: one may be too far behind to be compared yet.
const BEHIND_PAUSE: Duration = Duration::from_millis(200);

/// What one node said.
#[derive(Clone, Debug)]
struct Checked {
    replica: ReplicaId,
    endpoint: String,
    /// Its applied index and state digest when it was asked how it is.
    applied: Index,
    state: StateDigest,
    /// Its history digest at the common index; `None` if it could not tell.
    history: Option<HistoryDigest>,
    /// Its own check; an error if it could not be had.
    verification: Result<Verification, String>,
}

/// Everything there is to tell.
#[derive(Debug)]
struct Report {
    nodes: Nodes,
    /// The index at which histories were compared.
    index: Index,
    checked: Vec<Checked>,
    items: Vec<(PoolId, ItemState)>,
    /// What does not hold.
    violations: Vec<String>,
    /// Why it cannot be said that all holds.
    gaps: Vec<String>,
    /// What could not be looked at, though a majority could.
    warnings: Vec<String>,
}

/// Verifies.
pub async fn run(_args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let client = session::open(globals).await?;
    let report = verify(&client, globals.timeout).await;
    client.close().await;
    let report = report?;
    output::data(globals.output, &report.json(), || report.text());
    for warning in &report.warnings {
        output::note(globals.output, &format!("warning: {warning}"));
    }
    report.verdict()
}

async fn verify(client: &Client, patience: Duration) -> Result<Report, CliError> {
    let (nodes, index, histories) = common_history(client, patience).await?;
    let mut checked = Vec::new();
    for (asked, status) in nodes.answered() {
        checked.push(Checked {
            replica: status.replica.replica,
            endpoint: asked.endpoint.clone(),
            applied: status.replica.digests.index,
            state: status.replica.digests.state,
            history: histories.get(&status.replica.replica).copied().flatten(),
            verification: verification(client, asked).await,
        });
    }
    // Without a leader or a majority the items cannot be read; that is a finding of its own, not the end of the report.
    let items = if nodes.is_healthy() { items(client).await? } else { Vec::new() };
    let mut violations = violations(&checked);
    violations.extend(items.iter().filter(|(_, item)| !is_conserved(item)).map(|(pool, item)| {
        format!("pool {pool}: item {}: added is not remaining + reserved + awarded - returned", item.id)
    }));
    let gaps = gaps(&nodes, &checked);
    let warnings = nodes.warnings().into_iter().chain(unchecked(&checked)).collect();
    Ok(Report { nodes, index, checked, items, violations, gaps, warnings })
}

/// Every node's history digest at the newest index that all of them have applied. Nodes remember a bounded number of
/// indexes, so that one far behind is given time to catch up, or is left out.
async fn common_history(
    client: &Client,
    patience: Duration,
) -> Result<(Nodes, Index, BTreeMap<ReplicaId, Option<HistoryDigest>>), CliError> {
    let start = Instant::now();
    loop {
        let nodes = nodes::ask(client).await?;
        let mut applied: Vec<_> = nodes.answered().map(|(_, status)| status.replica.digests.index).collect();
        applied.sort_unstable();
        let index = applied[0];
        let histories = histories_at(client, &nodes, index).await;
        if histories.values().all(Option::is_some) || start.elapsed() > patience {
            return Ok((nodes, index, histories));
        }
        tokio::time::sleep(BEHIND_PAUSE).await;
    }
}

async fn histories_at(client: &Client, nodes: &Nodes, index: Index) -> BTreeMap<ReplicaId, Option<HistoryDigest>> {
    let mut histories = BTreeMap::new();
    for (asked, status) in nodes.answered() {
        let digest = client.history_at(asked.position, index).await.ok().and_then(|called| called.value);
        histories.insert(status.replica.replica, digest);
    }
    histories
}

async fn verification(client: &Client, asked: &Asked) -> Result<Verification, String> {
    match client.read_at(asked.position, Query::Verify, Consistency::Stale).await {
        Ok(called) => match called.value.answer {
            Answer::Verified(verification) => Ok(verification),
            other => Err(format!("answered something else: {other:?}")),
        },
        Err(error) => Err(error.to_string()),
    }
}

/// Every item of every pool.
async fn items(client: &Client) -> Result<Vec<(PoolId, ItemState)>, CliError> {
    let mut items = Vec::new();
    for summary in pages::pools(client).await?.value {
        // Each item is conserved at every index: pages of several moments are as good as one.
        let pool = pages::items(client, &summary.id, Consistency::Linearizable).await?.value;
        items.extend(pool.items.into_iter().map(|item| (summary.id.clone(), item)));
    }
    Ok(items)
}

/// added = remaining + reserved + awarded - returned; an unlimited item keeps remaining = 0.
fn is_conserved(item: &ItemState) -> bool {
    let remaining = match item.stock {
        Stock::Finite(units) => units,
        Stock::Unlimited => 0,
    };
    let sum = |units: &[u64]| units.iter().copied().map(u128::from).sum::<u128>();
    sum(&[item.added, item.returned]) == sum(&[remaining, item.reserved, item.awarded])
}

/// What does not hold.
fn violations(checked: &[Checked]) -> Vec<String> {
    let mut found = Vec::new();
    let told: Vec<_> = checked.iter().filter_map(|node| Some((node.replica, node.history?))).collect();
    if told.windows(2).any(|pair| pair[0].1 != pair[1].1) {
        found.push("the nodes hold different histories".to_owned());
    }
    for (position, node) in checked.iter().enumerate() {
        for other in
            checked[..position].iter().filter(|other| other.applied == node.applied && other.state != node.state)
        {
            found.push(format!(
                "replicas {} and {} hold different states at index {}",
                other.replica, node.replica, node.applied
            ));
        }
        let violations = node.verification.iter().flat_map(|verification| &verification.violations);
        found.extend(violations.map(|violation| format!("replica {}: {violation}", node.replica)));
    }
    found
}

/// What must be known before it can be said that all holds, and is not.
fn gaps(nodes: &Nodes, checked: &[Checked]) -> Vec<String> {
    let mut gaps = Vec::new();
    let compared = checked.iter().filter(|node| node.history.is_some() && node.verification.is_ok()).count();
    if compared < nodes.majority() {
        gaps.push(format!("only {compared} of {} nodes could be checked", nodes.voters()));
    }
    if !nodes.is_healthy() {
        gaps.push("no majority answers under a leader, so that stock cannot be read".to_owned());
    }
    gaps
}

/// What could not be looked at on nodes that answered.
fn unchecked(checked: &[Checked]) -> Vec<String> {
    let history = |node: &&Checked| node.history.is_none();
    let history = checked
        .iter()
        .filter(history)
        .map(|node| format!("replica {} could not be compared: it is too far behind, or too far ahead", node.replica));
    let state = checked.iter().filter_map(|node| {
        let why = node.verification.as_ref().err()?;
        Some(format!("replica {} could not check its own state: {why}", node.replica))
    });
    history.chain(state).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        cli::nodes::tests::{down, up},
        pool::{Version, Weight},
    };

    fn checked(id: u64) -> Checked {
        Checked {
            replica: ReplicaId(id),
            endpoint: format!("127.0.0.1:{id}"),
            applied: Index(10),
            state: StateDigest(7),
            history: Some(HistoryDigest([7; 32])),
            verification: Ok(Verification { pools: 1, items: 2, keys: 3, violations: Vec::new() }),
        }
    }

    fn three() -> Nodes {
        Nodes::new(vec![up(1, Some(1), 10), up(2, Some(1), 10), up(3, Some(1), 10)]).unwrap()
    }

    fn item(stock: Stock, added: u64) -> ItemState {
        ItemState {
            id: "gold".parse().unwrap(),
            weight: Weight(1),
            stock,
            reserved: 1,
            awarded: 4,
            returned: 2,
            added,
            rev: Version(1),
        }
    }

    #[test]
    fn nodes_that_agree_hold() {
        assert_eq!(violations(&[checked(1), checked(2), checked(3)]), [""; 0]);
    }

    #[test]
    fn a_node_that_is_down_is_no_violation_while_a_majority_agrees() {
        let nodes = Nodes::new(vec![up(1, Some(1), 10), up(2, Some(1), 10), down("c:3")]).unwrap();
        assert_eq!(gaps(&nodes, &[checked(1), checked(2)]), [""; 0]);
        assert_eq!(gaps(&nodes, &[checked(1)]), ["only 1 of 3 nodes could be checked"]);
        let alone = Nodes::new(vec![up(1, None, 10), down("b:2"), down("c:3")]).unwrap();
        assert_eq!(gaps(&alone, &[checked(1)]).len(), 2);
    }

    #[test]
    fn every_difference_is_found() {
        let mut differs = checked(3);
        differs.history = Some(HistoryDigest([8; 32]));
        let found = violations(&[checked(1), checked(2), differs]);
        assert_eq!(found, ["the nodes hold different histories"]);

        let mut differs = checked(3);
        differs.state = StateDigest(8);
        assert_eq!(violations(&[checked(1), checked(2), differs.clone()]).len(), 2);
        differs.applied = Index(11);
        let found = violations(&[checked(1), checked(2), differs]);
        assert!(found.is_empty(), "states at different indexes are not compared");

        let mut violated = checked(2);
        violated.verification = Ok(Verification { pools: 1, items: 1, keys: 1, violations: vec!["lost".to_owned()] });
        assert_eq!(violations(&[checked(1), violated, checked(3)]), ["replica 2: lost"]);
    }

    #[test]
    fn what_could_not_be_looked_at_is_told() {
        let mut behind = checked(2);
        behind.history = None;
        behind.verification = Err("no answer".to_owned());
        assert_eq!(unchecked(&[checked(1), behind.clone()]).len(), 2);
        assert_eq!(violations(&[checked(1), behind, checked(3)]), [""; 0]);
    }

    #[test]
    fn stock_is_added_up() {
        assert!(is_conserved(&item(Stock::Finite(5), 8)));
        assert!(!is_conserved(&item(Stock::Finite(5), 9)));
        assert!(is_conserved(&item(Stock::Unlimited, 3)));
    }

    #[test]
    fn the_report_shows_nodes_and_items() {
        let mut report = Report {
            nodes: three(),
            index: Index(10),
            checked: vec![checked(1), checked(2), checked(3)],
            items: vec![(PoolId::default_pool(), item(Stock::Finite(5), 8))],
            violations: Vec::new(),
            gaps: Vec::new(),
            warnings: Vec::new(),
        };
        assert_eq!(report.verdict(), Ok(Exit::Ok));
        let json = report.json();
        assert_eq!(
            (&json["ok"], &json["index"], &json["items"][0]["conserved"]),
            (&json!(true), &json!(10), &json!(true))
        );
        assert_eq!(json["nodes"][0]["digest"], HistoryDigest([7; 32]).to_string());
        let text = report.text();
        assert!(text.contains("digest@10") && text.contains("conserved") && text.ends_with("ok\n"), "{text}");

        report.gaps.push("two are down".to_owned());
        let code = |report: &Report| report.verdict().map_err(|error| (error.exit, error.code));
        assert_eq!(code(&report), Err((Exit::Unhealthy, "NOT_VERIFIED".into())));
        report.violations.push("lost".to_owned());
        assert_eq!(code(&report), Err((Exit::Unhealthy, "VERIFICATION_FAILED".into())));
        assert!(report.text().ends_with("FAILED\n"));
    }
}
