//! A device's identity: an Ed25519 key in a file of ours.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::zeroize::Zeroizing;
use sha2::{Digest as _, Sha256};

use super::{GatewayError, GatewayErrorKind};
use crate::openclaw::gateway::frame::{Asked, Challenge, DeviceProof};

/// Bytes of an Ed25519 seed.
const SEED: usize = 32;

/// The key that a gateway knows a device by.
///
/// A gateway that is reached over a network gives scopes only to devices that a person has approved there.
#[derive(Clone)]
pub struct DeviceKey {
    pair: Arc<Ed25519KeyPair>,
    id: Arc<str>,
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl DeviceKey {
    /// The key in a file; a new one is put there (mode 0600) if there is no file.
    ///
    /// # Errors
    /// `Device`: the file is a link, others may read it, or it holds no key.
    pub fn open_or_create(path: &Path) -> Result<Self, GatewayError> {
        let fault = |what: String| GatewayError {
            address: "(device)".into(),
            kind: GatewayErrorKind::Device { path: path.to_owned(), what },
        };
        let seed = match create(path) {
            Ok(seed) => seed,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                read(path).map_err(|error| fault(error.to_string()))?
            }
            Err(error) => return Err(fault(error.to_string())),
        };
        Self::of_seed(seed.as_slice()).ok_or_else(|| fault("holds no key".into()))
    }

    fn of_seed(seed: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let id = hex(&Sha256::digest(pair.public_key().as_ref()));
        Some(Self { pair: Arc::new(pair), id: id.into() })
    }

    /// The id that the gateway lists this device under: hex SHA-256 of the public key.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Signs a connection.
    pub(super) fn proof(&self, asked: &Asked<'_>, challenge: &Challenge, token: &str) -> DeviceProof {
        let text = Zeroizing::new(asked.payload(&self.id, challenge, token).text());
        DeviceProof {
            id: self.id.as_ref().to_owned(),
            public_key: URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref()),
            signature: URL_SAFE_NO_PAD.encode(self.pair.sign(text.as_bytes())),
            signed_at: challenge.ts,
            nonce: challenge.nonce.clone(),
        }
    }
}

fn create(path: &Path) -> io::Result<Zeroizing<[u8; SEED]>> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut seed = Zeroizing::new([0_u8; SEED]);
    aws_lc_rs::rand::fill(seed.as_mut_slice()).map_err(|_| io::Error::other("no randomness"))?;
    file.write_all(Zeroizing::new(hex(seed.as_slice())).as_bytes())?;
    file.sync_all()?;
    Ok(seed)
}

fn read(path: &Path) -> io::Result<Zeroizing<[u8; SEED]>> {
    let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(nofollow).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("is no file"));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(io::Error::other("others may read it; make it yours alone (chmod 600)"));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(1024).read_to_string(&mut text)?;
    unhex(text.trim()).ok_or_else(|| io::Error::other("holds no key"))
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn unhex(text: &str) -> Option<Zeroizing<[u8; SEED]>> {
    if text.len() != SEED * 2 {
        return None;
    }
    let mut seed = Zeroizing::new([0_u8; SEED]);
    for (byte, pair) in seed.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(seed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::openclaw::gateway::{ClientKind, Scope};

    #[test]
    fn a_key_is_made_once_and_only_for_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device.key");
        let made = DeviceKey::open_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(DeviceKey::open_or_create(&path).unwrap().id(), made.id());
        assert!(!format!("{made:?}").contains(&std::fs::read_to_string(&path).unwrap()));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(DeviceKey::open_or_create(&path).unwrap_err().to_string().contains("chmod 600"));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(DeviceKey::open_or_create(&link).is_err());
    }

    #[test]
    fn a_signature_fits_its_payload() {
        let key = DeviceKey::of_seed(&[7; SEED]).unwrap();
        let asked = Asked { client: ClientKind::Backend, scopes: &[Scope::Read], caps: &[], version: "1" };
        let challenge = Challenge { nonce: "n".into(), ts: 5 };
        let proof = key.proof(&asked, &challenge, "tok");
        let public = URL_SAFE_NO_PAD.decode(proof.public_key).unwrap();
        assert_eq!(proof.id, hex(&Sha256::digest(&public)));
        let text = format!("v3|{}|gateway-client|backend|operator|operator.read|5|tok|n|linux|", proof.id);
        aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, public)
            .verify(text.as_bytes(), &URL_SAFE_NO_PAD.decode(proof.signature).unwrap())
            .unwrap();
    }
}
