//! Folders and files of one sandbox on the host.
//!
//! What the container can write (`home`, `raw`, `gateway`) is hostile: nothing here follows a link in it. The folder
//! above is ours alone (0700), so none of the bound folders can be replaced by something else.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::engine::{Facts, hex};
use super::error::SandboxError;
use super::name::SandboxName;

/// Source: `node` of the official Node images, and of `tests/support/base-image`.
const NODE_UID: u32 = 1000;

/// Who the container's processes are, and so who owns what they read and write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User in the container.
    pub uid: u32,
    /// Group in the container.
    pub gid: u32,
    /// Whether files on the host are given to that user (Sentrix runs as root).
    pub give: bool,
    /// Whether the image does not know that user, so that a `passwd` file is bound over the image's.
    pub unknown: bool,
}

impl Owner {
    /// The owner for an engine and the user that Sentrix runs as: uid 1000 where that is possible without or with
    /// root, else the user's own; under a rootless engine root of the container, who is that same user outside.
    pub fn of(facts: &Facts) -> Self {
        Self::for_user(
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
            facts.rootless,
        )
    }

    fn for_user(uid: u32, gid: u32, rootless: bool) -> Self {
        match uid {
            _ if rootless => Self { uid: 0, gid: 0, give: false, unknown: false },
            0 => Self { uid: NODE_UID, gid: NODE_UID, give: true, unknown: false },
            NODE_UID => Self { uid, gid, give: false, unknown: gid != NODE_UID },
            _ => Self { uid, gid, give: false, unknown: true },
        }
    }
}

/// Where the things of one sandbox are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    name: SandboxName,
    folder: PathBuf,
}

/// What is remembered of a sandbox, in `sandbox.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this file.
    pub version: u32,
    /// Name of the sandbox.
    pub name: String,
    /// Id of its container.
    pub container: String,
    /// Id of the image it was made from.
    pub image: String,
    /// When it was started.
    pub started: String,
    /// Folder of its logs.
    pub log_dir: Option<PathBuf>,
    /// Relaxations that were asked for, by name.
    pub relaxed: Vec<String>,
    /// Options of `run`, as they were.
    pub options: Value,
}

impl Layout {
    /// The sandbox of that name under the root folder (`$XDG_STATE_HOME/sentrix`).
    pub fn new(root: &Path, name: &SandboxName) -> Self {
        Self { name: name.clone(), folder: root.join(name.as_str()) }
    }

    /// The sandbox whose folder this is, as a container's label says.
    pub(super) fn at(folder: PathBuf, name: SandboxName) -> Self {
        Self { name, folder }
    }

    /// The sandbox's name.
    pub fn name(&self) -> &SandboxName {
        &self.name
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Folder with OpenClaw's configuration, read-only in the container.
    pub fn config_dir(&self) -> PathBuf {
        self.folder.join("config")
    }

    /// OpenClaw's configuration.
    pub fn config_file(&self) -> PathBuf {
        self.config_dir().join("openclaw.json")
    }

    /// Folder with keys, a file each, read-only in the container.
    pub fn secrets_dir(&self) -> PathBuf {
        self.folder.join("secrets")
    }

    /// Folder of the door's socket, read-only in the container.
    pub fn door_dir(&self) -> PathBuf {
        self.folder.join("door")
    }

    /// Socket at which Sentrix's forward proxy listens.
    pub fn door_socket(&self) -> PathBuf {
        self.door_dir().join("door.sock")
    }

    /// Folder in which the container makes its socket.
    pub fn gateway_dir(&self) -> PathBuf {
        self.folder.join("gateway")
    }

    /// Socket that leads to OpenClaw's gateway. Made by the container: open it without following links.
    pub fn gateway_socket(&self) -> PathBuf {
        self.gateway_dir().join("gateway.sock")
    }

    /// Folder of the raw stream.
    pub fn raw_dir(&self) -> PathBuf {
        self.folder.join("raw")
    }

    /// The raw stream. Written by the container: open it without following links.
    pub fn raw_file(&self) -> PathBuf {
        self.raw_dir().join("raw.jsonl")
    }

    /// OpenClaw's state and the agents' workspace; stays after a stop.
    pub fn home_dir(&self) -> PathBuf {
        self.folder.join("home")
    }

    /// The gateway's token, 0600.
    pub fn token_file(&self) -> PathBuf {
        self.folder.join("token")
    }

    /// Socket of the `sentrix run` that is at work.
    pub fn control_socket(&self) -> PathBuf {
        self.folder.join("control.sock")
    }

    /// What is remembered of the sandbox.
    pub fn record_file(&self) -> PathBuf {
        self.folder.join("sandbox.json")
    }

    /// Outcome of the last self-test.
    pub fn self_test_file(&self) -> PathBuf {
        self.folder.join("selftest.json")
    }

    /// Users of the container, where the image does not know the owner.
    pub(super) fn passwd_file(&self) -> PathBuf {
        self.folder.join("passwd")
    }

    /// Folder for evidence that was copied out.
    pub fn evidence_dir(&self) -> PathBuf {
        self.folder.join("evidence")
    }

    /// Makes all folders with their owners and modes, and takes away sockets of an earlier run. What is in `home` stays.
    ///
    /// # Errors
    /// [`super::SandboxErrorKind::Io`] with the file.
    pub fn create(&self, owner: &Owner) -> Result<(), SandboxError> {
        let parent = self.folder.parent().unwrap_or(&self.folder);
        make_folder(parent, 0o700)?;
        make_folder(&self.folder, 0o700)?;
        // Read by the container, written by us alone.
        for folder in [self.config_dir(), self.door_dir()] {
            make_folder(&folder, 0o755)?;
        }
        // A tmpfs lies over it: OpenClaw wants to write here, and warns where it cannot. Source: 2026.9.6.
        make_folder(&self.config_dir().join("media"), 0o755)?;
        for folder in [self.gateway_dir(), self.raw_dir(), self.home_dir(), self.secrets_dir()] {
            make_folder(&folder, 0o700)?;
            give(&folder, owner)?;
        }
        for socket in [self.gateway_socket(), self.door_socket()] {
            remove_file(&socket)?;
        }
        if owner.unknown {
            let passwd = format!(
                "root:x:0:0:root:/root:/usr/sbin/nologin\nnode:x:{}:{}::/home/node:/bin/sh\n",
                owner.uid, owner.gid
            );
            write_file(&self.passwd_file(), passwd.as_bytes(), 0o644, None)?;
        }
        Ok(())
    }

    /// Writes OpenClaw's configuration in one step, so that the container sees the old one or the new one.
    ///
    /// # Errors
    /// [`super::SandboxErrorKind::Io`] with the file.
    pub fn write_config(&self, config: &Value, owner: &Owner) -> Result<(), SandboxError> {
        let path = self.config_file();
        let text = serde_json::to_vec_pretty(config)
            .map_err(|error| SandboxError::io("write", &path, std::io::Error::other(error)))?;
        write_file(&path, &text, 0o400, Some(owner))
    }

    /// Writes keys, a file each, and removes those of an earlier run.
    ///
    /// # Errors
    /// [`super::SandboxErrorKind::Io`] with the file; [`super::SandboxErrorKind::Options`] for a name with other
    /// characters than letters, digits, `.`, `_` and `-`.
    pub fn write_secrets(
        &self,
        secrets: &BTreeMap<String, SecretString>,
        owner: &Owner,
    ) -> Result<(), SandboxError> {
        let folder = self.secrets_dir();
        let entries = fs::read_dir(&folder).map_err(|error| SandboxError::io("read", &folder, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| SandboxError::io("read", &folder, error))?;
            if !entry.file_name().to_str().is_some_and(|name| secrets.contains_key(name)) {
                remove_file(&entry.path())?;
            }
        }
        for (name, secret) in secrets {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            if name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) {
                return Err(SandboxError::options(
                    "write a secret",
                    format!("`{}` is no name for a file", crate::text::plain(name)),
                ));
            }
            write_file(&folder.join(name), secret.expose_secret().as_bytes(), 0o400, Some(owner))?;
        }
        Ok(())
    }

    /// The gateway's token: that of the file, or 32 new random bytes as hexadecimal digits, which are written (0600).
    ///
    /// # Errors
    /// [`super::SandboxErrorKind::Io`] with the file, or where the system gives no random bytes.
    pub fn token(&self) -> Result<SecretString, SandboxError> {
        let path = self.token_file();
        match fs::read_to_string(&path) {
            Ok(token) if token.trim().len() >= 32 => return Ok(SecretString::from(token.trim().to_owned())),
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(SandboxError::io("read", &path, error));
            }
            _ => {}
        }
        let mut bytes = [0_u8; 32];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| {
            SandboxError::io("make", &path, std::io::Error::other("the system gives no random bytes"))
        })?;
        let token = hex(&bytes);
        write_file(&path, token.as_bytes(), 0o600, None)?;
        Ok(SecretString::from(token))
    }

    /// Writes what is remembered.
    ///
    /// # Errors
    /// [`super::SandboxErrorKind::Io`] with the file.
    pub fn write_record(&self, record: &Record) -> Result<(), SandboxError> {
        Self::write_json(&self.record_file(), record)
    }

    /// What is remembered; `None` where nothing is, or it cannot be read.
    pub fn record(&self) -> Option<Record> {
        serde_json::from_str(&fs::read_to_string(self.record_file()).ok()?).ok()
    }

    /// Writes a value of ours as JSON, 0600.
    pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), SandboxError> {
        let text = serde_json::to_vec_pretty(value)
            .map_err(|error| SandboxError::io("write", path, std::io::Error::other(error)))?;
        write_file(path, &text, 0o600, None)
    }

    /// Removes what a stopped sandbox does not need: sockets, keys, configuration, token. With `purge` everything.
    /// Links are never followed.
    ///
    /// # Errors
    /// [`super::SandboxErrorKind::Io`] with the file.
    pub fn remove(&self, purge: bool) -> Result<(), SandboxError> {
        let folder = |path: &Path| match fs::remove_dir_all(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(SandboxError::io("remove", path, error)),
            _ => Ok(()),
        };
        if purge {
            return folder(&self.folder);
        }
        for path in [self.secrets_dir(), self.config_dir(), self.gateway_dir(), self.door_dir()] {
            folder(&path)?;
        }
        for path in [self.token_file(), self.control_socket(), self.passwd_file(), self.record_file()] {
            remove_file(&path)?;
        }
        Ok(())
    }
}

/// Makes a folder of that mode; one that is there gets the mode. What is no folder is refused.
fn make_folder(path: &Path, mode: u32) -> Result<(), SandboxError> {
    let failed = |error| SandboxError::io("make the folder", path, error);
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed)?;
    let meta = fs::symlink_metadata(path).map_err(failed)?;
    if !meta.is_dir() {
        return Err(failed(std::io::Error::from(ErrorKind::NotADirectory)));
    }
    if meta.permissions().mode() & 0o7777 != mode {
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)?;
    }
    Ok(())
}

fn give(path: &Path, owner: &Owner) -> Result<(), SandboxError> {
    if !owner.give {
        return Ok(());
    }
    std::os::unix::fs::lchown(path, Some(owner.uid), Some(owner.gid))
        .map_err(|error| SandboxError::io("give to the container", path, error))
}

/// Writes a file beside its place and moves it there: never half a file, never through a link.
fn write_file(path: &Path, bytes: &[u8], mode: u32, owner: Option<&Owner>) -> Result<(), SandboxError> {
    let failed = |error| SandboxError::io("write", path, error);
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    remove_file(&beside)?;
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    if let Some(owner) = owner {
        give(&beside, owner)?;
    }
    fs::rename(&beside, path).map_err(failed)
}

fn remove_file(path: &Path) -> Result<(), SandboxError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(SandboxError::io("remove", path, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mine() -> Owner {
        Owner { uid: 0, gid: 0, give: false, unknown: true }
    }

    #[test]
    fn modes_and_what_stays() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(&dir.path().join("state"), &SandboxName::default());
        layout.create(&mine()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(layout.folder()), 0o700);
        assert_eq!(mode(&layout.secrets_dir()), 0o700);
        let token = layout.token().unwrap();
        assert_eq!(token.expose_secret().len(), 64);
        assert_eq!(layout.token().unwrap().expose_secret(), token.expose_secret());
        assert_eq!(mode(&layout.token_file()), 0o600);
        layout.write_config(&serde_json::json!({"a": 1}), &mine()).unwrap();
        assert_eq!(mode(&layout.config_file()), 0o400);
        let secret = |value: &str| SecretString::from(value.to_owned());
        layout.write_secrets(&BTreeMap::from([("openai".into(), secret("k"))]), &mine()).unwrap();
        layout.write_secrets(&BTreeMap::from([("anthropic".into(), secret("l"))]), &mine()).unwrap();
        assert!(!layout.secrets_dir().join("openai").exists());
        assert!(layout.write_secrets(&BTreeMap::from([("../x".into(), secret("l"))]), &mine()).is_err());
        fs::write(layout.home_dir().join("kept"), "x").unwrap();
        layout.create(&mine()).unwrap();
        layout.remove(false).unwrap();
        assert!(layout.home_dir().join("kept").exists() && !layout.secrets_dir().exists());
        layout.remove(true).unwrap();
        layout.remove(true).unwrap();
        assert!(!layout.folder().exists());
    }

    #[test]
    fn links_of_the_container_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let treasure = dir.path().join("treasure");
        fs::create_dir(&treasure).unwrap();
        fs::write(treasure.join("gold"), "x").unwrap();
        let layout = Layout::new(dir.path(), &SandboxName::default());
        layout.create(&mine()).unwrap();
        std::os::unix::fs::symlink(&treasure, layout.home_dir().join("link")).unwrap();
        std::os::unix::fs::symlink(treasure.join("gold"), layout.gateway_socket()).unwrap();
        layout.create(&mine()).unwrap();
        layout.remove(true).unwrap();
        assert!(treasure.join("gold").exists());
    }

    #[test]
    fn who_the_container_is() {
        let root = Owner::for_user(0, 0, false);
        assert_eq!((root.uid, root.give, root.unknown), (1000, true, false));
        let other = Owner::for_user(1001, 1001, false);
        assert_eq!((other.uid, other.give, other.unknown), (1001, false, true));
        assert_eq!(Owner::for_user(1001, 1001, true).uid, 0);
    }
}
