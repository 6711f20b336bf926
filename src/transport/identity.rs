//! The names that certificates carry, and what they prove.
//!
//! An identity is one DNS name among a certificate's subject alternative names. DNS, because the TLS library can check
//! nothing else; common names, wildcards and addresses prove nothing here.
//!
//! | name | on | proves |
//! |---|---|---|
//! | `r<id>.<cluster>.peer.tombola.internal` | a node's certificate | that it is this replica of this cluster |
//! | `node.tombola.internal` | every node's certificate | to clients, that it is a node: they trust the nodes' CA only |
//! | `<name>.client.tombola.internal` | a client's certificate | who the client is |
//! | `<cluster>.cluster.tombola.internal` | both CAs | which cluster they are for, so that later certificates fit |

use rustls::pki_types::{CertificateDer, DnsName, ServerName};
use webpki::EndEntityCert;

use crate::{
    pool::Actor,
    types::{ClusterId, ReplicaId},
};

/// The name that clients ask for, whichever node they dial.
pub const NODE_NAME: &str = "node.tombola.internal";
/// Every name of ours ends in this; no host outside may.
pub(super) const OUR_DOMAIN: &str = "tombola.internal";
const PEER_SUFFIX: &str = ".peer.tombola.internal";
const CLIENT_SUFFIX: &str = ".client.tombola.internal";
const CLUSTER_SUFFIX: &str = ".cluster.tombola.internal";
/// A client of this prefix would pass for a node that acts as a client.
const NODE_ACTOR_PREFIX: &str = "node-";

/// Why somebody was not let in. Nothing it sent was looked at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It showed no certificate.
    #[error("it shows no certificate")]
    NoCertificate,
    /// Its certificate is not signed by the CA that counts here, or not valid now.
    #[error("its certificate is not valid under the {ca} CA: {why}")]
    Untrusted {
        /// Whose CA.
        ca: &'static str,
        /// What the TLS library says.
        why: String,
    },
    /// Its certificate carries no name of the kind that counts here, several, or an ill-formed one.
    #[error("its certificate does not carry exactly one name `{wanted}`, but [{found}]")]
    Unnamed {
        /// The kind of name.
        wanted: &'static str,
        /// The names that it carries.
        found: String,
    },
    /// It belongs to another cluster.
    #[error("it belongs to cluster {theirs}, and this is cluster {ours}")]
    OtherCluster {
        /// Its cluster.
        theirs: ClusterId,
        /// This cluster.
        ours: ClusterId,
    },
    /// It is a node of this cluster that this node's configuration does not name.
    #[error("replica {0} is not among the configured peers")]
    UnknownPeer(ReplicaId),
    /// It is not who was dialed.
    #[error("it is replica {found}, and replica {wanted} was dialed; the addresses of two nodes may be mixed up")]
    OtherPeer {
        /// Who was dialed.
        wanted: ReplicaId,
        /// Who answered.
        found: ReplicaId,
    },
    /// Between two nodes, the one with the greater id dials.
    #[error("replica {0} dialed this node, although this node is the one to dial it")]
    NotTheDialer(ReplicaId),
    /// It agreed on no protocol that this build speaks.
    #[error("it speaks none of the protocols spoken here")]
    OtherProtocol,
    /// The node does not accept what it introduced itself with.
    #[error("{0}")]
    Introduction(String),
    /// There are as many connections as may be: altogether, from its address, or waiting to be served.
    #[error("there are too many connections")]
    TooMany,
}

/// The name of a replica.
pub fn peer_name(replica: ReplicaId, cluster: ClusterId) -> String {
    format!("r{replica}.{cluster}{PEER_SUFFIX}")
}

/// The name of a client, or `None` if it cannot be one: 1 to 63 characters of `a-z 0-9 -`, neither the first nor the
/// last a hyphen, and not beginning with `node-`.
pub fn client_name(name: &str) -> Option<String> {
    let legal = (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.starts_with(NODE_ACTOR_PREFIX);
    legal.then(|| format!("{name}{CLIENT_SUFFIX}"))
}

/// The name of a cluster, on its CAs.
pub(super) fn cluster_name(cluster: ClusterId) -> String {
    format!("{cluster}{CLUSTER_SUFFIX}")
}

/// The replica of `cluster` that the certificate proves. Its signature is the caller's to verify.
pub fn peer_of(certificate: &CertificateDer<'_>, cluster: ClusterId) -> Result<ReplicaId, Refused> {
    let (replica, theirs) = the_one(certificate, "r<id>.<cluster>.peer.tombola.internal", PEER_SUFFIX, |name| {
        let (replica, cluster) = name.split_once('.')?;
        let replica = ReplicaId(replica.strip_prefix('r')?.parse().ok()?);
        let cluster = cluster.parse().ok()?;
        // Only the one spelling that we make: no sign, no leading zero, no upper case.
        (replica.0 > 0 && peer_name(replica, cluster).strip_suffix(PEER_SUFFIX) == Some(name))
            .then_some((replica, cluster))
    })?;
    if theirs == cluster { Ok(replica) } else { Err(Refused::OtherCluster { theirs, ours: cluster }) }
}

/// The client that the certificate proves. Its signature is the caller's to verify.
pub fn client_of(certificate: &CertificateDer<'_>) -> Result<Actor, Refused> {
    the_one(certificate, "<name>.client.tombola.internal", CLIENT_SUFFIX, |name| {
        client_name(name)?;
        name.parse().ok()
    })
}

/// The name under which a node acts as a client; no client can have it.
pub(super) fn node_actor(replica: ReplicaId) -> Actor {
    format!("{NODE_ACTOR_PREFIX}{replica}").parse().expect("26 bytes at most")
}

/// The cluster that a CA is for.
pub(super) fn cluster_of(certificate: &CertificateDer<'_>) -> Result<ClusterId, Refused> {
    the_one(certificate, "<cluster>.cluster.tombola.internal", CLUSTER_SUFFIX, |name| name.parse().ok())
}

/// What `parse` makes of the one name that ends in `suffix`.
fn the_one<T>(
    certificate: &CertificateDer<'_>,
    wanted: &'static str,
    suffix: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, Refused> {
    let unnamed = |found| Refused::Unnamed { wanted, found };
    let certificate = EndEntityCert::try_from(certificate).map_err(|error| unnamed(error.to_string()))?;
    let mut candidates = certificate.valid_dns_names().filter(|name| name.ends_with(suffix));
    let (Some(name), None) = (candidates.next(), candidates.next()) else {
        return Err(unnamed(certificate.valid_dns_names().collect::<Vec<_>>().join(", ")));
    };
    let parsed = name.strip_suffix(suffix).and_then(parse).ok_or_else(|| unnamed(name.to_owned()))?;
    // The list above is for finding the name; whether the certificate is valid for it is for the library to say.
    let name = DnsName::try_from(name).map_err(|error| unnamed(error.to_string()))?;
    certificate
        .verify_is_valid_for_subject_name(&ServerName::DnsName(name))
        .map_err(|error| unnamed(error.to_string()))?;
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLUSTER: ClusterId = ClusterId([0xab; 16]);

    fn certificate(names: &[&str]) -> CertificateDer<'static> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        rcgen::CertificateParams::new(names).unwrap().self_signed(&*KEY).unwrap().into()
    }

    #[test]
    fn a_node_proves_its_replica() {
        let name = peer_name(ReplicaId(7), CLUSTER);
        assert_eq!(name, "r7.abababab-abab-abab-abab-abababababab.peer.tombola.internal");
        assert_eq!(peer_of(&certificate(&[NODE_NAME, &name, "localhost"]), CLUSTER), Ok(ReplicaId(7)));
    }

    #[test]
    fn anything_but_one_well_formed_name_proves_nothing() {
        let one = peer_name(ReplicaId(1), CLUSTER);
        let two = peer_name(ReplicaId(2), CLUSTER);
        let spelled = |replica: &str| format!("{replica}.{CLUSTER}{PEER_SUFFIX}");
        let ill_formed = ["r0", "r01", "r+1", "*", "r18446744073709551616", "1", "R1", "r1.x", "r"].map(spelled);
        for names in [vec![], vec![NODE_NAME], vec![one.as_str(), &two], vec!["r1.peer.tombola.internal"]]
            .into_iter()
            .chain(ill_formed.iter().map(|name| vec![name.as_str()]))
        {
            let result = peer_of(&certificate(&names), CLUSTER);
            assert!(matches!(result, Err(Refused::Unnamed { .. })), "{names:?} gave {result:?}");
        }
    }

    #[test]
    fn another_cluster_is_told_apart() {
        let theirs = ClusterId([1; 16]);
        let result = peer_of(&certificate(&[&peer_name(ReplicaId(1), theirs)]), CLUSTER);
        assert_eq!(result, Err(Refused::OtherCluster { theirs, ours: CLUSTER }));
    }

    #[test]
    fn a_client_proves_its_name_and_never_that_of_a_node() {
        let shop = client_name("shop-1").unwrap();
        assert_eq!(client_of(&certificate(&[&shop])).unwrap().as_str(), "shop-1");
        for name in ["node-1", "", "-a", "a-", "A", "a.b", "ä", &"a".repeat(64)] {
            assert_eq!(client_name(name), None, "{name:?}");
        }
        assert!(client_of(&certificate(&["node-1.client.tombola.internal"])).is_err());
        assert!(client_of(&certificate(&["*.client.tombola.internal"])).is_err());
        assert_eq!(node_actor(ReplicaId(u64::MAX)).as_str().len(), 25);
    }

    /// A certificate that bears all kinds of names.
    fn der() -> Vec<u8> {
        let names = [peer_name(ReplicaId(7), CLUSTER), client_name("shop").unwrap(), cluster_name(CLUSTER)];
        certificate(&names.each_ref().map(String::as_str)).to_vec()
    }

    /// What these bytes prove to whoever looks; nothing must panic.
    fn proved(der: Vec<u8>) -> (Result<ReplicaId, Refused>, Result<Actor, Refused>, Result<ClusterId, Refused>) {
        let der = CertificateDer::from(der);
        (peer_of(&der, CLUSTER), client_of(&der), cluster_of(&der))
    }

    proptest! {
        #[test]
        fn any_bytes_prove_nothing(bytes: Vec<u8>) {
            prop_assert!(matches!(proved(bytes), (Err(_), Err(_), Err(_))));
        }

        #[test]
        fn damaged_certificates_do_no_harm(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in any::<prop::sample::Index>(), is_cut: bool,
        ) {
            static DER: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(der);
            let mut bytes = DER.clone();
            damage.iter().for_each(|(at, value)| bytes[at.index(DER.len())] = *value);
            if is_cut {
                bytes.truncate(cut.index(DER.len()));
            }
            // A name may be changed into another; its signature, which nobody looks at here, does not hold then.
            if let (_, Ok(actor), _) = proved(bytes) {
                prop_assert!(client_name(actor.as_str()).is_some());
            }
        }

        #[test]
        fn only_names_that_we_would_make_prove_anything(name in "[a-zA-Z0-9.*_-]{0,40}", number: u64, is_zeroed: bool) {
            let zero = if is_zeroed { "0" } else { "" };
            for prefix in [name.clone(), format!("r{zero}{number}"), format!("r{number}.{CLUSTER}.{name}")] {
                for suffix in [format!(".{CLUSTER}{PEER_SUFFIX}"), PEER_SUFFIX.to_owned(), CLIENT_SUFFIX.to_owned()] {
                    let full = format!("{prefix}{suffix}");
                    let Ok(params) = rcgen::CertificateParams::new(vec![full.clone()]) else { continue };
                    let (peer, client, _) = proved(params.self_signed(&*KEY).unwrap().der().to_vec());
                    if let Ok(replica) = peer {
                        prop_assert_eq!(peer_name(replica, CLUSTER), full.clone());
                    }
                    if let Ok(actor) = client {
                        prop_assert_eq!(client_name(actor.as_str()), Some(full));
                    }
                }
            }
        }
    }

    /// Making keys takes longer than anything else here.
    static KEY: std::sync::LazyLock<rcgen::KeyPair> = std::sync::LazyLock::new(|| rcgen::KeyPair::generate().unwrap());
}
