//! Certificates and identity.
