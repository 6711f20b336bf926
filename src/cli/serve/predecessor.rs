//! A node of its own for the predecessor's configuration: its cluster id and certificates, made at the first start.
//!
//! They are made under another name, which is changed when all are there and synced, so that a start that was cut short
//! leaves nothing that looks like a cluster. A working directory that holds the predecessor's own state is refused: the
//! catalog in its file is older than that state, so stock and request ids would be given out again.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use crate::{
    cli::{CliError, Exit, certs::new_cluster_id},
    transport::{certs, certs::Order},
    types::{ClusterId, ReplicaId},
};

/// The file that holds the cluster's id.
const CLUSTER_ID: &str = "cluster-id";
/// The client that the command line can be.
const CLIENT: &str = "admin";

/// The id of the cluster in `dir`, which is made with its certificates if it is missing.
///
/// # Errors
/// It cannot be made, or the predecessor's state stands beside it.
pub fn found_or_find(dir: &Path) -> Result<ClusterId, CliError> {
    let failed =
        |error: io::Error| CliError::new(Exit::Other, "FILE", format!("cannot use {}: {error}", dir.display()));
    if !dir.exists() {
        let working_dir = dir.parent().unwrap_or(Path::new("."));
        refuse_old_state(working_dir)?;
        found(dir, working_dir)?;
    }
    let text = fs::read_to_string(dir.join(CLUSTER_ID)).map_err(failed)?;
    text.trim().parse().map_err(|error| {
        let message = format!("{}: {error}", dir.join(CLUSTER_ID).display());
        CliError::new(Exit::Usage, "CONFIG_INVALID", message)
    })
}

fn found(dir: &Path, working_dir: &Path) -> Result<(), CliError> {
    let failed =
        |error: io::Error| CliError::new(Exit::Other, "FILE", format!("cannot make {}: {error}", dir.display()));
    let unfinished = dir.with_extension("new");
    match fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let cluster = new_cluster_id()?;
    let order = Order { nodes: vec![ReplicaId(1)], clients: vec![CLIENT.to_owned()], ..Order::default() };
    certs::init(&unfinished.join("certs"), cluster, &order)?;
    let id = unfinished.join(CLUSTER_ID);
    fs::write(&id, format!("{cluster}\n")).map_err(failed)?;
    for synced in [&id, &unfinished.join("certs"), &unfinished] {
        File::open(synced).and_then(|file| file.sync_all()).map_err(failed)?;
    }
    fs::rename(&unfinished, dir).map_err(failed)?;
    File::open(working_dir).and_then(|file| file.sync_all()).map_err(failed)
}

/// The predecessor's state is `snapshot.json` and `wal.NNN`.
fn refuse_old_state(working_dir: &Path) -> Result<(), CliError> {
    let Ok(entries) = fs::read_dir(working_dir) else { return Ok(()) };
    let is_state = |name: &str| {
        name == "snapshot.json"
            || name
                .strip_prefix("wal.")
                .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    let mut names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let Some(name) = names.find(|name| is_state(name)) else { return Ok(()) };
    let message = format!(
        "{} holds the predecessor's state ({name}), which would be left out: stock and request ids would start again from the catalog",
        working_dir.display()
    );
    Err(CliError::new(Exit::Usage, "OLD_STATE", message)
        .hint("to start from the catalog all the same, name another `working_dir`, or move the old files away"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::tls::{NodeFiles, NodeTls};

    #[test]
    fn a_cluster_is_made_once_and_its_certificates_are_for_it() {
        let root = tempfile::TempDir::new().unwrap();
        let dir = root.path().join("tombola");
        fs::create_dir_all(dir.with_extension("new").join("certs")).unwrap();
        let cluster = found_or_find(&dir).unwrap();
        assert_eq!(found_or_find(&dir).unwrap(), cluster);
        assert!(!dir.with_extension("new").exists());
        let node = ReplicaId(1);
        assert!(NodeTls::load(&NodeFiles::in_dir(&dir.join("certs"), node), cluster, node).is_ok());
    }

    #[test]
    fn the_predecessors_state_is_not_left_out_without_a_word() {
        for name in ["snapshot.json", "wal.003"] {
            let root = tempfile::TempDir::new().unwrap();
            fs::write(root.path().join(name), "").unwrap();
            let error = found_or_find(&root.path().join("tombola")).unwrap_err();
            assert_eq!((error.exit, error.code.as_ref()), (Exit::Usage, "OLD_STATE"), "{}", error.message);
        }
        let root = tempfile::TempDir::new().unwrap();
        fs::write(root.path().join("wal.txt"), "").unwrap();
        assert!(found_or_find(&root.path().join("tombola")).is_ok());
    }
}
