//! Finds the running development cluster, from any directory of the same user.
//!
//! `dev` keeps `DIR/dev.json`, which says where its nodes are and which certificates open them, and beside it a *pointer*:
//! a small file in the user's runtime or state directory that holds nothing but the path of DIR. [`publish`] writes both
//! and [`withdraw`] removes them, each by a rename or an unlink, so that a reader sees a whole file or none.
//!
//! A file proves nothing: a `dev` that was killed leaves its own behind. A cluster is *running* if its file is there and at
//! least one of its nodes accepts a connection. Several may run; the newest is meant.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;

/// Name of the file in a development cluster's directory.
pub const DEV_FILE: &str = "dev.json";
/// How long a node on loopback may take to accept a connection.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// What `DIR/dev.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevFile {
    /// The nodes.
    pub nodes: Vec<DevNode>,
    /// Absolute path of the certificate authority that the nodes prove.
    pub ca: PathBuf,
    /// Absolute path of a client's certificate.
    pub cert: PathBuf,
    /// Absolute path of its private key.
    pub key: PathBuf,
}

/// A node of a development cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevNode {
    /// Its replica id.
    pub id: u64,
    /// Its process.
    pub pid: u32,
    /// Its gRPC side, `host:port`, TCP.
    pub grpc: String,
    /// Its QUIC side, `host:port`, UDP.
    pub quic: String,
    /// Its admin side, `host:port`, HTTP.
    pub admin: String,
}

/// A development cluster that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its directory.
    pub dir: PathBuf,
    /// What its file says.
    pub file: DevFile,
    /// The nodes that answered, by position in `file.nodes`.
    pub answering: Vec<usize>,
    /// Other clusters that run as well, newest first.
    pub others: Vec<PathBuf>,
}

/// Where pointers are kept: the user's runtime directory, then the user's state directory.
pub fn pointer_dirs() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let runtime = variable("XDG_RUNTIME_DIR");
    let state = variable("XDG_STATE_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/state")));
    [runtime, state].into_iter().flatten().map(|dir| dir.join("tombola/dev")).collect()
}

/// Writes `DIR/dev.json` and a pointer to it in each of `pointer_dirs` that can be written. `dir` must be absolute.
///
/// # Errors
/// `DIR/dev.json` could not be written, or no pointer could: the cluster would not be found.
pub fn publish(pointer_dirs: &[PathBuf], dir: &Path, file: &DevFile) -> io::Result<()> {
    let json = serde_json::to_vec_pretty(file).map_err(io::Error::other)?;
    write_by_rename(&dir.join(DEV_FILE), &json)?;
    let text = dir.to_str().ok_or_else(|| io::Error::other("the data directory's path is not UTF-8"))?;
    let mut result = Err(io::Error::new(io::ErrorKind::NotFound, "neither XDG_RUNTIME_DIR nor HOME is set"));
    for pointers in pointer_dirs {
        sweep(pointers);
        let written = fs::create_dir_all(pointers)
            .and_then(|()| write_by_rename(&pointers.join(pointer_name(dir)), text.as_bytes()));
        if result.is_err() {
            result = written;
        }
    }
    result
}

/// Removes what [`publish`] wrote; what is gone already is no error.
pub fn withdraw(pointer_dirs: &[PathBuf], dir: &Path) -> io::Result<()> {
    for pointers in pointer_dirs {
        remove(&pointers.join(pointer_name(dir)))?;
    }
    remove(&dir.join(DEV_FILE))
}

/// The newest cluster that runs.
pub async fn find(pointer_dirs: &[PathBuf]) -> Option<Running> {
    let mut running: Option<Running> = None;
    for (dir, file) in candidates(pointer_dirs) {
        let answering = probe(&file).await;
        match &mut running {
            _ if answering.is_empty() => {}
            Some(newest) => newest.others.push(dir),
            None => running = Some(Running { dir, file, answering, others: Vec::new() }),
        }
    }
    running
}

/// Clusters whose file is there and can be read, newest first; running or not.
fn candidates(pointer_dirs: &[PathBuf]) -> Vec<(PathBuf, DevFile)> {
    let mut found: Vec<(SystemTime, PathBuf, DevFile)> = Vec::new();
    for dir in pointer_dirs.iter().flat_map(|pointers| pointed_to(pointers)) {
        if found.iter().any(|(_, known, _)| *known == dir) {
            continue;
        }
        let path = dir.join(DEV_FILE);
        let read = fs::metadata(&path).and_then(|meta| Ok((meta.modified()?, fs::read(&path)?)));
        if let Ok((modified, json)) = read
            && let Ok(file) = serde_json::from_slice(&json)
        {
            found.push((modified, dir, file));
        }
    }
    found.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    found.into_iter().map(|(_, dir, file)| (dir, file)).collect()
}

/// The directories that the pointers in `pointers` hold.
fn pointed_to(pointers: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(pointers) else { return Vec::new() };
    entries
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok())
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute())
        .collect()
}

/// The positions of the nodes that accept a connection; all are asked at once.
async fn probe(file: &DevFile) -> Vec<usize> {
    let probes: Vec<_> = file
        .nodes
        .iter()
        .map(|node| {
            let address = node.grpc.clone();
            tokio::spawn(async move {
                matches!(tokio::time::timeout(PROBE_TIMEOUT, TcpStream::connect(address)).await, Ok(Ok(_)))
            })
        })
        .collect();
    let mut answering = Vec::new();
    for (position, probe) in probes.into_iter().enumerate() {
        if probe.await.unwrap_or(false) {
            answering.push(position);
        }
    }
    answering
}

/// Removes pointers to clusters whose file is gone. [`publish`] writes the file first, so none of a live one goes.
fn sweep(pointers: &Path) {
    let Ok(entries) = fs::read_dir(pointers) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let gone = fs::read_to_string(&path).is_ok_and(|dir| !Path::new(&dir).join(DEV_FILE).exists());
        if gone {
            // Best effort: a pointer left over misleads nobody.
            let _ = fs::remove_file(&path);
        }
    }
}

/// A pointer's file name: a function of the directory, so that a restarted `dev` replaces its own.
fn pointer_name(dir: &Path) -> String {
    let hash = Sha256::digest(dir.as_os_str().as_encoded_bytes());
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write_by_rename(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension(format!("new-{}", std::process::id()));
    fs::write(&unfinished, bytes)?;
    fs::rename(&unfinished, path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use tokio::net::TcpListener;

    use super::*;

    struct Place {
        _root: TempDir,
        pointers: Vec<PathBuf>,
        dirs: Vec<PathBuf>,
    }

    fn place(clusters: usize) -> Place {
        let root = TempDir::new().unwrap();
        let dirs: Vec<_> = (0..clusters).map(|n| root.path().join(format!("cluster-{n}"))).collect();
        dirs.iter().for_each(|dir| fs::create_dir(dir).unwrap());
        let pointers = vec![root.path().join("runtime/tombola/dev"), root.path().join("state/tombola/dev")];
        Place { _root: root, pointers, dirs }
    }

    fn file(grpc: &[String]) -> DevFile {
        let node = |(position, grpc): (usize, &String)| DevNode {
            id: position as u64 + 1,
            pid: 1,
            grpc: grpc.clone(),
            quic: "127.0.0.1:1".to_owned(),
            admin: "127.0.0.1:1".to_owned(),
        };
        let path = |name: &str| PathBuf::from("/tls").join(name);
        DevFile {
            nodes: grpc.iter().enumerate().map(node).collect(),
            ca: path("ca"),
            cert: path("cert"),
            key: path("key"),
        }
    }

    /// An address that nobody listens at, and one where somebody does for as long as the listener lives.
    async fn addresses() -> (String, String, TcpListener) {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let alive = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let text = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
        (text(&silent), text(&alive), alive)
    }

    #[test]
    fn the_file_has_the_documented_shape() {
        let json = serde_json::to_value(file(&["127.0.0.1:50051".to_owned()])).unwrap();
        let expected = serde_json::json!({
            "nodes": [{"id": 1, "pid": 1, "grpc": "127.0.0.1:50051", "quic": "127.0.0.1:1", "admin": "127.0.0.1:1"}],
            "ca": "/tls/ca", "cert": "/tls/cert", "key": "/tls/key",
        });
        assert_eq!(json, expected);
    }

    #[tokio::test]
    async fn a_cluster_runs_if_one_of_its_nodes_answers() {
        let place = place(1);
        let (silent, alive, _listener) = addresses().await;
        publish(&place.pointers, &place.dirs[0], &file(&[silent.clone(), alive])).unwrap();
        let running = find(&place.pointers).await.unwrap();
        assert_eq!((running.dir, running.answering, running.others.len()), (place.dirs[0].clone(), vec![1], 0));

        publish(&place.pointers, &place.dirs[0], &file(&[silent])).unwrap();
        assert_eq!(find(&place.pointers).await, None, "a file alone proves nothing");
    }

    #[tokio::test]
    async fn the_newest_of_several_is_meant() {
        let place = place(3);
        let (silent, alive, _listener) = addresses().await;
        for (dir, address, age_s) in [(0, &alive, 30), (1, &alive, 20), (2, &silent, 10)] {
            publish(&place.pointers, &place.dirs[dir], &file(std::slice::from_ref(address))).unwrap();
            let json = fs::File::options().write(true).open(place.dirs[dir].join(DEV_FILE)).unwrap();
            json.set_modified(SystemTime::now() - Duration::from_secs(age_s)).unwrap();
        }
        let running = find(&place.pointers).await.unwrap();
        assert_eq!(running.dir, place.dirs[1]);
        assert_eq!(running.others, [place.dirs[0].clone()]);
    }

    #[tokio::test]
    async fn what_was_withdrawn_is_not_found_and_dead_pointers_are_swept() {
        let place = place(2);
        let (_, alive, _listener) = addresses().await;
        let file = file(&[alive]);
        publish(&place.pointers, &place.dirs[0], &file).unwrap();
        withdraw(&place.pointers, &place.dirs[0]).unwrap();
        withdraw(&place.pointers, &place.dirs[0]).unwrap();
        assert_eq!(find(&place.pointers).await, None);
        assert!(!place.dirs[0].join(DEV_FILE).exists());

        publish(&place.pointers, &place.dirs[0], &file).unwrap();
        fs::remove_file(place.dirs[0].join(DEV_FILE)).unwrap();
        publish(&place.pointers, &place.dirs[1], &file).unwrap();
        assert_eq!(fs::read_dir(&place.pointers[0]).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_spoilt_pointer_or_file_is_passed_over() {
        let place = place(2);
        let (_, alive, _listener) = addresses().await;
        publish(&place.pointers, &place.dirs[0], &file(&[alive])).unwrap();
        fs::write(place.pointers[0].join("relative"), "no/such/place").unwrap();
        fs::write(place.pointers[0].join("binary"), [0xff, 0xfe]).unwrap();
        fs::write(place.pointers[0].join("other"), place.dirs[1].to_str().unwrap()).unwrap();
        fs::write(place.dirs[1].join(DEV_FILE), "{").unwrap();
        assert_eq!(find(&place.pointers).await.unwrap().dir, place.dirs[0]);
    }

    #[test]
    fn without_a_place_for_pointers_publishing_says_so() {
        let place = place(1);
        assert!(publish(&[], &place.dirs[0], &file(&[])).is_err());
    }
}
