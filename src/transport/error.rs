//! Why a transport cannot be set up: what happened, with which file, and what to do about it.

use std::{io, net::SocketAddr, path::PathBuf};

/// Certificates, keys or an address cannot be used as configured. Nothing was started, and nothing overwritten.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}; check the path, or make certificates with `tombola certs init`", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("{} cannot be written: {source}", file.display())]
    Unwritable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file exists that was about to be made.
    #[error("{} exists already and was left alone, as were all others; choose another directory, or ask to replace", file.display())]
    Exists {
        /// The file.
        file: PathBuf,
    },
    /// Others could put files into the directory of the keys.
    #[error("{} can be written by others (mode {mode:03o}): run `chmod go-w` on it, or choose another directory", dir.display())]
    DirectoryOpen {
        /// The directory.
        dir: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others can read a private key.
    #[error("the private key {} can be read by others (mode {mode:03o}): run `chmod 600` on it, and replace the key if others have read it", file.display())]
    KeyOpen {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file does not hold what it should.
    #[error("{} holds no usable {what}: {why}; it must be PEM, as `tombola certs init` writes it", file.display())]
    BadPem {
        /// The file.
        file: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// Why it is not there.
        why: String,
    },
    /// A certificate and a key are not a pair.
    #[error("the key {} does not belong to the certificate {}: {why}", key.display(), cert.display())]
    KeyMismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What the TLS library says.
        why: String,
    },
    /// A certificate is not signed by the CA it stands beside, or not valid now.
    #[error("the certificate {} is not valid under the CA {}: {why}", cert.display(), ca.display())]
    Untrusted {
        /// The certificate's file.
        cert: PathBuf,
        /// The CA's file.
        ca: PathBuf,
        /// Why.
        why: String,
    },
    /// A node's certificate names somebody else.
    #[error("the certificate {} is not this node's: {why}; this node needs {wanted}", cert.display())]
    NotThisNode {
        /// The certificate's file.
        cert: PathBuf,
        /// The name that it must carry.
        wanted: String,
        /// What it carries instead.
        why: String,
    },
    /// Whoever may issue clients could issue nodes.
    #[error("{} and {} hold the same CA: clients could pass for nodes; use two, as `tombola certs init` makes them", node_ca.display(), client_ca.display())]
    SharedCa {
        /// The nodes' CA.
        node_ca: PathBuf,
        /// The clients' CA.
        client_ca: PathBuf,
    },
    /// A name that no certificate may carry.
    #[error("no certificate is made for {name:?}: {why}")]
    BadName {
        /// The name.
        name: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// The TLS library refuses.
    #[error("the TLS library refuses: {0}")]
    Tls(String),
    /// The address cannot be listened on.
    #[error("UDP {listen} cannot be listened on: {source}; choose another address or port, or stop what holds it")]
    Bind {
        /// The address.
        listen: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl SetupError {
    /// The stable code: `error[CODE]` on a terminal.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "FILE_UNREADABLE",
            Self::Unwritable { .. } => "FILE_UNWRITABLE",
            Self::Exists { .. } => "FILE_EXISTS",
            Self::DirectoryOpen { .. } => "DIRECTORY_OPEN",
            Self::KeyOpen { .. } => "KEY_READABLE",
            Self::BadPem { .. } => "BAD_PEM",
            Self::KeyMismatch { .. } => "KEY_MISMATCH",
            Self::Untrusted { .. } => "CERTIFICATE_UNTRUSTED",
            Self::NotThisNode { .. } => "CERTIFICATE_OF_ANOTHER",
            Self::SharedCa { .. } => "SHARED_CA",
            Self::BadName { .. } => "BAD_NAME",
            Self::Tls(_) => "TLS",
            Self::Bind { .. } => "ADDRESS_UNUSABLE",
        }
    }
}
