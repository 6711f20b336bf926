//! What `verify` found, told to people and to scripts.

use serde_json::{Value, json};

use super::{Checked, Report, is_conserved};
use crate::{
    cli::{
        exit::{CliError, Exit},
        nodes, output, state,
    },
    pool::{ItemState, PoolId, Stock},
};

impl Report {
    fn holds(&self) -> bool {
        self.violations.is_empty() && self.gaps.is_empty()
    }

    pub(super) fn verdict(&self) -> Result<Exit, CliError> {
        if self.holds() {
            return Ok(Exit::Ok);
        }
        let (code, what, hint) = if self.violations.is_empty() {
            ("NOT_VERIFIED", &self.gaps, "bring the missing nodes back; `tombola cluster status` shows every node")
        } else {
            let hint =
                "stop the nodes concerned and keep their data directories; `tombola cluster status` shows every node";
            ("VERIFICATION_FAILED", &self.violations, hint)
        };
        Err(CliError::new(Exit::Unhealthy, code, what.join("; ")).hint(hint))
    }

    pub(super) fn json(&self) -> Value {
        let node = |node: &Checked| {
            let counts = node.verification.as_ref().ok();
            json!({
                "id": node.replica.0,
                "endpoint": node.endpoint,
                "applied_index": node.applied.0,
                "digest": node.history.map(|digest| digest.to_string()),
                "state_digest": node.state.to_string(),
                "pools": counts.map(|counts| counts.pools),
                "items": counts.map(|counts| counts.items),
                "keys": counts.map(|counts| counts.keys),
                "violations": counts.map(|counts| counts.violations.clone()),
            })
        };
        let item = |(pool, item): &(PoolId, ItemState)| {
            let mut json = state::item_json(item);
            json["pool"] = json!(pool.as_str());
            json["conserved"] = json!(is_conserved(item));
            json
        };
        json!({
            "ok": self.holds(),
            "cluster_id": self.nodes.cluster().to_string(),
            "index": self.index.0,
            "nodes": self.checked.iter().map(node).collect::<Vec<_>>(),
            "items": self.items.iter().map(item).collect::<Vec<_>>(),
            "violations": self.violations,
            "gaps": self.gaps,
            "warnings": self.warnings,
        })
    }

    pub(super) fn text(&self) -> String {
        let number = |number: Option<u64>| output::Value::Number(number.map_or("?".to_owned(), |n| n.to_string()));
        let nodes = self.checked.iter().map(|node| {
            let counts = node.verification.as_ref().ok();
            let digest = node.history.map_or("?".to_owned(), |digest| nodes::short(&digest.to_string()));
            let verdict = match &node.verification {
                Ok(verification) if verification.violations.is_empty() => "holds",
                Ok(_) => "VIOLATED",
                Err(_) => "?",
            };
            vec![
                node.replica.0.into(),
                node.endpoint.clone().into(),
                node.applied.0.into(),
                digest.into(),
                number(counts.map(|counts| counts.pools)),
                number(counts.map(|counts| counts.items)),
                number(counts.map(|counts| counts.keys)),
                verdict.into(),
            ]
        });
        let digest = format!("digest@{}", self.index);
        let nodes = output::table(&["id", "endpoint", "applied", &digest, "pools", "items", "keys", "state"], nodes);
        let items = if self.items.is_empty() { String::new() } else { items_text(&self.items) + "\n" };
        format!("{nodes}\n{items}{}\n", if self.holds() { "ok" } else { "FAILED" })
    }
}

fn items_text(items: &[(PoolId, ItemState)]) -> String {
    let rows = items.iter().map(|(pool, item)| {
        let remaining = match item.stock {
            Stock::Finite(units) => units.into(),
            Stock::Unlimited => output::Value::Number("unlimited".to_owned()),
        };
        let verdict = if is_conserved(item) { "conserved" } else { "NOT CONSERVED" };
        vec![
            pool.to_string().into(),
            item.id.to_string().into(),
            item.added.into(),
            remaining,
            item.reserved.into(),
            item.awarded.into(),
            item.returned.into(),
            verdict.into(),
        ]
    });
    output::table(&["pool", "item", "added", "= remaining", "+ reserved", "+ awarded", "- returned", ""], rows)
}
