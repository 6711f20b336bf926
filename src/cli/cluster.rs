//! `tombola cluster`: the nodes as they see themselves, and who leads.

use serde_json::{Value, json};

use super::{
    CliError, Exit, Globals,
    nodes::{self, Asked, Nodes},
    output, session,
};
use crate::types::ReplicaId;

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Args {
    /// Ask every node how it is
    #[command(after_help = "\
Exits 5 if there is no leader or no majority answers, 3 if nobody does.

Example:
  tombola cluster status")]
    Status,
    /// Hand leadership to another node
    #[command(after_help = "\
Example:
  tombola cluster transfer 2")]
    Transfer {
        /// The replica that is to lead
        #[arg(value_name = "REPLICA")]
        to: u64,
    },
}

/// Does it.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    match args {
        Args::Status => status(globals).await,
        Args::Transfer { to } => transfer(ReplicaId(to), globals).await,
    }
}

async fn status(globals: &Globals) -> Result<Exit, CliError> {
    let client = session::open(globals).await?;
    let nodes = nodes::ask(&client).await;
    client.close().await;
    let nodes = nodes?;
    output::data(globals.output, &json(&nodes), || text(&nodes));
    for warning in nodes.warnings() {
        output::note(globals.output, &format!("warning: {warning}"));
    }
    Ok(if nodes.is_healthy() { Exit::Ok } else { Exit::Unhealthy })
}

async fn transfer(to: ReplicaId, globals: &Globals) -> Result<Exit, CliError> {
    let client = session::open(globals).await?;
    let called = client.transfer(to).await;
    client.close().await;
    let called = called.map_err(|error| {
        session::failed(error, None).hint("`tombola cluster status` shows who leads; handing over may be repeated")
    })?;
    let json = json!({"leader": to.0, "retries": called.retries});
    output::data(globals.output, &json, || format!("replica {to} leads\n"));
    Ok(Exit::Ok)
}

fn json(nodes: &Nodes) -> Value {
    let node = |asked: &Asked| match &asked.status {
        Ok(status) => json!({
            "id": status.replica.replica.0,
            "endpoint": asked.endpoint,
            "role": status.replica.role.to_string(),
            "term": status.replica.term.0,
            "commit_index": status.replica.commit.0,
            "applied_index": status.replica.digests.index.0,
            "lag": nodes.lag(status),
            "digest": status.replica.digests.history.to_string(),
            "state_digest": status.replica.digests.state.to_string(),
            "version": status.version,
        }),
        Err(why) => json!({"id": null, "endpoint": asked.endpoint, "role": "unreachable", "error": why}),
    };
    json!({
        "cluster_id": nodes.cluster().to_string(),
        "leader": nodes.leader().map(|leader| leader.0),
        "nodes": nodes.asked.iter().map(node).collect::<Vec<_>>(),
        "warnings": nodes.warnings(),
    })
}

fn text(nodes: &Nodes) -> String {
    let rows = nodes.asked.iter().map(|asked| match &asked.status {
        Ok(status) => {
            let replica = &status.replica;
            vec![
                replica.replica.0.into(),
                asked.endpoint.clone().into(),
                replica.role.to_string().into(),
                replica.term.0.into(),
                replica.commit.0.into(),
                replica.digests.index.0.into(),
                nodes.lag(status).into(),
                nodes::short(&replica.digests.history.to_string()).into(),
                status.version.clone().into(),
            ]
        }
        Err(_) => vec![output::Value::Number("?".to_owned()), asked.endpoint.clone().into(), "unreachable".into()],
    });
    let table =
        output::table(&["id", "endpoint", "role", "term", "commit", "applied", "lag", "digest", "version"], rows);
    let leader = nodes.leader().map_or("none".to_owned(), |leader| leader.to_string());
    format!("{table}\ncluster  {}\nleader   {leader}\n", nodes.cluster())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::nodes::tests::{down, up};

    #[test]
    fn json_has_the_documented_keys() {
        let nodes = Nodes::new(vec![up(1, Some(1), 10), up(2, Some(1), 8), down("c:3")]).unwrap();
        let document = json(&nodes);
        assert_eq!((&document["leader"], &document["cluster_id"]), (&json!(1), &json!(nodes.cluster().to_string())));
        for key in ["id", "role", "term", "commit_index", "applied_index", "lag", "digest", "version"] {
            assert!(document["nodes"][0].get(key).is_some(), "{key}");
        }
        assert_eq!((&document["nodes"][0]["role"], &document["nodes"][1]["lag"]), (&json!("leader"), &json!(2)));
        assert_eq!(document["nodes"][2]["role"], "unreachable");
        assert_eq!(text(&nodes).lines().count(), 7);
    }
}
