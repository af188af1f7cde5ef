//! What a secret of the operator is good for: sealing channel values at rest, and signing what a run came to.
//!
//! **Invariant:** bytes in, text out: no file, no environment, no clock. A secret is never printed, not by `Debug` either.

use std::fmt::{self, Debug};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::{KeyRejected, Unspecified};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use aws_lc_rs::signature::{
    ED25519, ED25519_PUBLIC_KEY_LEN, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroize as _;
use sha2::{Digest as _, Sha256};

/// Least length of a secret, in bytes.
const LEAST_SECRET: usize = 32;
/// Length of a derived key, in bytes.
const KEY_LEN: usize = 32;
/// Marks a sealed value, and how it was sealed.
const SEALED: &str = "s1:";
/// Marks a signature, and how it was made.
const SIGNED: &str = "ed25519:";

/// The keys of an engine, both derived from one secret.
pub struct Keys {
    seal: RandomizedNonceKey,
    sign: Ed25519KeyPair,
    public: PublicKey,
}

/// Who signed: the public half of a signing key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; ED25519_PUBLIC_KEY_LEN]);

/// Why a key could not do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The secret is too short to be one.
    #[error("the secret has {0} bytes, and needs {LEAST_SECRET} at least")]
    Short(usize),
    /// The text was never made by `seal`.
    #[error("the value is not sealed")]
    NotSealed,
    /// The value was sealed with another key or for another place, or was changed since.
    #[error("the value does not open: another key, another place, or it was changed")]
    Closed,
    /// The text was never made by `sign`.
    #[error("there is no signature that can be read")]
    NotSigned,
    /// The signature is of another message, or the message was changed since.
    #[error("the signature does not fit")]
    Forged,
    /// The cryptographic library could not do its work.
    #[error("the cryptographic library failed")]
    Library,
}

impl From<Unspecified> for KeyError {
    fn from(_: Unspecified) -> Self {
        Self::Library
    }
}

impl From<KeyRejected> for KeyError {
    fn from(_: KeyRejected) -> Self {
        Self::Library
    }
}

impl Keys {
    /// A new secret, in letters and digits.
    ///
    /// # Errors
    /// Where the system has no random numbers.
    pub fn fresh_secret() -> Result<String, KeyError> {
        let mut bytes = [0_u8; 32];
        aws_lc_rs::rand::fill(&mut bytes)?;
        Ok(super::chain::hex(&bytes))
    }

    /// Derives the keys from 32 or more secret bytes; the same secret always gives the same keys.
    ///
    /// # Errors
    /// `Short`, and `Library` where no keys can be made.
    pub fn from_secret(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < LEAST_SECRET {
            return Err(KeyError::Short(secret.len()));
        }
        let root = Salt::new(HKDF_SHA256, b"sentrix engine keys 1").extract(secret);
        let seal = with_key(&root, b"seal", |key| Ok(RandomizedNonceKey::new(&AES_256_GCM, key)?))?;
        let sign = with_key(&root, b"sign", |seed| Ok(Ed25519KeyPair::from_seed_unchecked(seed)?))?;
        let public = sign.public_key().as_ref().try_into().map_err(|_| KeyError::Library)?;
        Ok(Self { seal, sign, public: PublicKey(public) })
    }

    /// Encrypts a value so that it opens only with the same context, as the run's id and the channel's name. The same
    /// value twice gives two different texts.
    ///
    /// # Errors
    /// `Library` where there is no randomness; nothing is to be stored then.
    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<String, KeyError> {
        let mut body = plain.to_vec();
        let nonce = self.seal.seal_in_place_append_tag(Aad::from(context.as_bytes()), &mut body)?;
        let mut bytes = nonce.as_ref().to_vec();
        bytes.append(&mut body);
        Ok(format!("{SEALED}{}", STANDARD.encode(bytes)))
    }

    /// Decrypts what `seal` made.
    ///
    /// # Errors
    /// `NotSealed` and `Closed`.
    pub fn open(&self, context: &str, sealed: &str) -> Result<Vec<u8>, KeyError> {
        let text = sealed.strip_prefix(SEALED).ok_or(KeyError::NotSealed)?;
        let bytes = STANDARD.decode(text).map_err(|_| KeyError::NotSealed)?;
        let (nonce, body) = bytes.split_at_checked(NONCE_LEN).ok_or(KeyError::NotSealed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce)?;
        let mut body = body.to_vec();
        let opened = self.seal.open_in_place(nonce, Aad::from(context.as_bytes()), &mut body);
        let length = opened.map_err(|_| KeyError::Closed)?.len();
        body.truncate(length);
        Ok(body)
    }

    /// Whether a text claims to be a sealed value.
    pub fn is_sealed(text: &str) -> bool {
        text.starts_with(SEALED)
    }

    /// Signs a message: `ed25519:PUBLIC KEY:SIGNATURE`, both in base64. What the message is of must be part of it,
    /// so that no signature can stand for another thing.
    pub fn sign(&self, message: &[u8]) -> String {
        let signature = self.sign.sign(message);
        format!("{SIGNED}{}:{}", STANDARD.encode(self.public.0), STANDARD.encode(signature))
    }

    /// Checks what `sign` made, and tells who signed. Whether that is somebody to trust is for the caller to say.
    ///
    /// # Errors
    /// `NotSigned` and `Forged`.
    pub fn verify(message: &[u8], signature: &str) -> Result<PublicKey, KeyError> {
        let parts = signature.strip_prefix(SIGNED).and_then(|parts| parts.split_once(':'));
        let (key, signature) = parts.ok_or(KeyError::NotSigned)?;
        let bytes = |text: &str| STANDARD.decode(text).map_err(|_| KeyError::NotSigned);
        let (key, signature) = (bytes(key)?, bytes(signature)?);
        let key = PublicKey(key.try_into().map_err(|_| KeyError::NotSigned)?);
        UnparsedPublicKey::new(&ED25519, key.0).verify(message, &signature).map_err(|_| KeyError::Forged)?;
        Ok(key)
    }

    /// The public half of the signing key.
    pub const fn public(&self) -> PublicKey {
        self.public
    }
}

/// Derives a key for one purpose and hands it over; no copy stays behind.
fn with_key<T>(
    root: &Prk,
    purpose: &'static [u8],
    make: impl FnOnce(&[u8]) -> Result<T, KeyError>,
) -> Result<T, KeyError> {
    let mut key = [0; KEY_LEN];
    root.expand(&[purpose], HKDF_SHA256)?.fill(&mut key)?;
    let made = make(&key);
    key.zeroize();
    made
}

impl PublicKey {
    /// The key's bytes.
    pub const fn as_bytes(&self) -> &[u8; ED25519_PUBLIC_KEY_LEN] {
        &self.0
    }

    /// What people compare: 80 bits of the key's SHA-256, in hex.
    pub fn fingerprint(&self) -> String {
        let digest: [u8; 32] = Sha256::digest(self.0).into();
        let first = digest.first_chunk().copied().map_or(0, u128::from_be_bytes);
        format!("{:020x}", first >> 48)
    }
}

impl Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("public", &self.public).finish_non_exhaustive()
    }
}

impl Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&STANDARD.encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(secret: u8) -> Keys {
        Keys::from_secret(&[secret; 32]).unwrap()
    }

    #[test]
    fn a_secret_always_gives_the_same_keys_and_another_secret_others() {
        assert_eq!(keys(1).public(), keys(1).public());
        assert_ne!(keys(1).public(), keys(2).public());
        assert_ne!(Keys::from_secret(&[1; 33]).unwrap().public(), keys(1).public());
        assert_eq!(Keys::from_secret(&[1; 31]).unwrap_err(), KeyError::Short(31));
        // Stored values must still open after an update of the program.
        assert_eq!(keys(1).public().fingerprint(), "c1bc84250cee4eae3348");
        assert_eq!(
            keys(1).open("here", "s1:MjTXHg9+o385zSvQimHjNdtSYr5XvDBK+vIHiyGqvjQ74t4=").unwrap(),
            b"a value"
        );
    }

    #[test]
    fn a_sealed_value_opens_only_where_it_belongs() {
        let sealed = keys(1).seal("run/token", b"swordfish").unwrap();
        assert!(Keys::is_sealed(&sealed) && !sealed.contains("swordfish"));
        assert_ne!(sealed, keys(1).seal("run/token", b"swordfish").unwrap());
        assert_eq!(keys(1).open("run/token", &sealed).unwrap(), b"swordfish");
        assert_eq!(keys(1).open("run/other", &sealed), Err(KeyError::Closed));
        assert_eq!(keys(2).open("run/token", &sealed), Err(KeyError::Closed));
    }

    #[test]
    fn what_was_never_sealed_or_signed_is_told_apart() {
        for text in ["", "s1:", "s1:AAAA", "s1:!", "s2:AAAA", "swordfish"] {
            assert_eq!(keys(1).open("", text), Err(KeyError::NotSealed), "{text}");
        }
        let whole = keys(1).sign(b"");
        let half = whole.rsplit_once(':').unwrap().0;
        for text in ["", "ed25519:", "ed25519::", "ed25519:AAAA:AAAA", "rsa:AAAA:AAAA", half] {
            assert_eq!(Keys::verify(b"", text), Err(KeyError::NotSigned), "{text}");
        }
    }

    #[test]
    fn a_signature_tells_who_signed_what() {
        let signature = keys(1).sign(b"approve");
        assert_eq!(Keys::verify(b"approve", &signature), Ok(keys(1).public()));
        assert_eq!(Keys::verify(b"deny", &signature), Err(KeyError::Forged));
        let (_, bytes) = signature.rsplit_once(':').unwrap();
        let other = format!("ed25519:{}:{bytes}", keys(2).public());
        assert_eq!(Keys::verify(b"approve", &other), Err(KeyError::Forged));
    }

    #[test]
    fn nothing_secret_is_printed() {
        let keys = keys(7);
        assert_eq!(
            format!("{keys:?}"),
            format!("Keys {{ public: PublicKey({}), .. }}", keys.public().fingerprint())
        );
    }

    proptest! {
        #[test]
        fn every_value_comes_back_and_no_changed_one_does(
            secret in proptest::collection::vec(any::<u8>(), 32..80),
            context in ".{0,20}",
            plain in proptest::collection::vec(any::<u8>(), 0..200),
            place in any::<proptest::sample::Index>(),
            bit in 0..8_u8,
        ) {
            let keys = Keys::from_secret(&secret).unwrap();
            let sealed = keys.seal(&context, &plain).unwrap();
            prop_assert_eq!(keys.open(&context, &sealed).unwrap(), plain.clone());
            let mut bytes = STANDARD.decode(sealed.strip_prefix(SEALED).unwrap()).unwrap();
            let at = place.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let changed = format!("{SEALED}{}", STANDARD.encode(bytes));
            prop_assert_eq!(keys.open(&context, &changed), Err(KeyError::Closed));

            let signature = keys.sign(&plain);
            prop_assert_eq!(Keys::verify(&plain, &signature), Ok(keys.public()));
            let mut longer = plain;
            longer.push(bit);
            prop_assert_eq!(Keys::verify(&longer, &signature), Err(KeyError::Forged));
        }
    }
}
