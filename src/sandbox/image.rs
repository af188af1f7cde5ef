//! The image: built from the embedded `docker/` folder, and looked at before it is used.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bollard::models::{BuildInfo, ContainerConfig, ContainerCreateBody};
use bollard::query_parameters::{
    BuildImageOptions, CommitContainerOptions, CreateContainerOptions, DownloadFromContainerOptions,
    RemoveContainerOptionsBuilder, RemoveImageOptions,
};
use bytes::Bytes;
use futures_util::StreamExt;
use include_dir::{Dir, include_dir};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::engine::{Engine, hex};
use super::error::{SandboxError, SandboxErrorKind};
use super::name::Label;
use super::talk::printable;
use crate::text;

static FOLDER: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/docker");

/// Name of the image where none is given.
pub const DEFAULT_IMAGE: &str = "sentrix-openclaw:latest";
/// Base image where none is given. Source: `docker/Dockerfile`; OpenClaw 2026.9.6 wants Node 24.16 or newer.
pub const DEFAULT_BASE: &str = "node:24-bookworm-slim";
/// Version of OpenClaw that Sentrix was tried with.
pub const DEFAULT_OPENCLAW: &str = "2026.9.6";
/// How long the whole build may take.
const BUILD: Duration = Duration::from_mins(45);
/// How long the engine may say nothing while it builds.
const SILENCE: Duration = Duration::from_mins(15);
/// Largest bundle of certificates, in bytes.
const MOST_CA_BYTES: u64 = 8 << 20;
/// Lines that are kept to say why a build failed.
const LAST_LINES: usize = 15;

/// A plugin that can be baked in, because it is no longer in OpenClaw itself. Source: docs of 2026.9.6, channels/* and
/// plugins/reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BakedChannel {
    /// Searching the web with Brave.
    Brave,
    /// Discord.
    Discord,
    /// Signal.
    Signal,
    /// Slack.
    Slack,
    /// `WhatsApp`.
    Whatsapp,
}

impl BakedChannel {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Brave, Self::Discord, Self::Signal, Self::Slack, Self::Whatsapp];

    /// As on the command line, and OpenClaw's id of the plugin.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Brave => "brave",
            Self::Discord => "discord",
            Self::Signal => "signal",
            Self::Slack => "slack",
            Self::Whatsapp => "whatsapp",
        }
    }
}

impl FromStr for BakedChannel {
    type Err = SandboxError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "telegram" {
            return Err(SandboxError::options("bake in `telegram`", "OpenClaw has it without that"));
        }
        Self::ALL.into_iter().find(|channel| channel.word() == text).ok_or_else(|| {
            SandboxError::options(
                format!("bake in `{}`", text::bounded(&text::plain(text), 40)),
                format!("it takes {}", words(&Self::ALL.into())),
            )
        })
    }
}

/// As `discord,whatsapp`.
fn words(channels: &BTreeSet<BakedChannel>) -> String {
    let words: Vec<&str> = channels.iter().map(|channel| channel.word()).collect();
    words.join(",")
}

/// How the image is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildOptions {
    /// Name that the image gets.
    pub image: String,
    /// Image that it begins with.
    pub base_image: String,
    /// Version of OpenClaw.
    pub openclaw_version: String,
    /// Certificates of an intercepting proxy, in PEM.
    pub ca_bundle: Option<PathBuf>,
    /// Plugins that are baked in.
    pub channels: BTreeSet<BakedChannel>,
    /// Build every step again.
    pub no_cache: bool,
    /// Ask the registry for a newer base image.
    pub pull: bool,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self {
            image: DEFAULT_IMAGE.to_owned(),
            base_image: DEFAULT_BASE.to_owned(),
            openclaw_version: DEFAULT_OPENCLAW.to_owned(),
            ca_bundle: None,
            channels: BTreeSet::new(),
            no_cache: false,
            pull: false,
        }
    }
}

/// What is heard of a build while it runs. Texts are safe for a terminal and at most 300 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildEvent {
    /// A step begins.
    Step {
        /// Its number, from 1.
        number: u32,
        /// How many there are.
        of: u32,
        /// The instruction.
        text: String,
    },
    /// A line that a step wrote.
    Line(String),
    /// The base image is being fetched.
    Pull {
        /// What is done, as "Downloading".
        status: String,
        /// Bytes that are there, and that there will be, of the part it is about.
        bytes: Option<(u64, u64)>,
    },
}

/// An image that was built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageFacts {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Bytes of all its layers.
    pub size_bytes: u64,
    /// Version of OpenClaw in it.
    pub openclaw: String,
    /// npm's integrity of that OpenClaw.
    pub integrity: String,
    /// Version of Sentrix that built it.
    pub sentrix: String,
    /// Image that it began with.
    pub base: String,
    /// Plugins that are baked in, as `discord,whatsapp`.
    pub channel: String,
    /// Whether it has certificates of an intercepting proxy.
    pub ca: bool,
}

/// Whether an image can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageState {
    /// There is none of that name.
    Missing,
    /// It is what this Sentrix would build.
    Current(ImageFacts),
    /// It works perhaps, and is not what this Sentrix would build.
    Stale {
        /// What it is.
        facts: ImageFacts,
        /// What differs, for people.
        why: String,
    },
}

/// What an image is compared with; what is not said is not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Version of OpenClaw.
    pub openclaw_version: Option<String>,
    /// Plugins that must be baked in.
    pub channels: BTreeSet<BakedChannel>,
}

impl ImageFacts {
    /// Those of `wanted` that are not in it.
    pub fn lacks(&self, wanted: &BTreeSet<BakedChannel>) -> BTreeSet<BakedChannel> {
        wanted
            .iter()
            .copied()
            .filter(|one| self.channel.split(',').all(|there| there != one.word()))
            .collect()
    }
}

impl Engine {
    /// Whether an image is there, and is what this Sentrix would build.
    ///
    /// # Errors
    /// [`SandboxErrorKind::Engine`].
    pub async fn image(&self, image: &str, wanted: &Wanted) -> Result<ImageState, SandboxError> {
        let doing = format!("look at the image {}", text::plain(image));
        let there = match self.docker.inspect_image(image).await {
            Ok(there) => there,
            Err(error) => {
                let error = SandboxError::docker(doing, &error);
                return if error.is_not_found() { Ok(ImageState::Missing) } else { Err(error) };
            }
        };
        let labels = there.config.and_then(|config| config.labels).unwrap_or_default();
        let label = |key: &str| labels.get(key).map(|value| text::plain(value)).unwrap_or_default();
        let facts = ImageFacts {
            id: there.id.unwrap_or_default(),
            name: image.to_owned(),
            size_bytes: there.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
            openclaw: label(Label::OPENCLAW),
            integrity: label(Label::INTEGRITY),
            sentrix: label(Label::VERSION),
            base: label(Label::BASE),
            channel: label(Label::CHANNEL),
            ca: label(Label::CA) == "1",
        };
        let why = stale(&facts, &label(Label::OURS), &label(Label::CONFIG), wanted);
        Ok(match why {
            None => ImageState::Current(facts),
            Some(why) => ImageState::Stale { facts, why },
        })
    }

    /// Builds the image. `progress` hears of each step and line as it comes.
    ///
    /// # Errors
    /// [`SandboxErrorKind::Options`] for a bundle that is none, [`SandboxErrorKind::Build`] with the last lines and what
    /// to do, [`SandboxErrorKind::Timeout`], [`SandboxErrorKind::Engine`].
    ///
    /// # Cancel safety
    /// Dropped, the engine stops building; finished steps stay in its cache.
    pub async fn build(
        &self,
        options: &BuildOptions,
        progress: impl FnMut(BuildEvent),
    ) -> Result<ImageFacts, SandboxError> {
        check(options)?;
        let ca = options.ca_bundle.as_deref().map(read_bundle).transpose()?;
        let context = context(ca.as_deref());
        let half = format!("{}-unlabelled", repository(&options.image));
        let built = self.build_layers(options, context, &half, progress);
        tokio::time::timeout(BUILD, built).await.map_err(|_| SandboxError {
            doing: format!("build {}", options.image),
            kind: SandboxErrorKind::Timeout(BUILD),
        })??;
        let before = self.docker.inspect_image(&options.image).await.ok().and_then(|image| image.id);
        let labelled = self.label(options, &half, ca.is_some()).await;
        // Only the name goes: the layers are those of the image.
        drop(self.docker.remove_image(&half, None::<RemoveImageOptions>, None).await);
        labelled?;
        if let Some(before) = before {
            self.forget(&before).await;
        }
        match self.image(&options.image, &Wanted::default()).await? {
            ImageState::Current(facts) | ImageState::Stale { facts, .. } => Ok(facts),
            ImageState::Missing => Err(SandboxError {
                doing: format!("build {}", options.image),
                kind: SandboxErrorKind::Build(String::from(
                    "the engine says it is done, and the image is not there",
                )),
            }),
        }
    }

    async fn build_layers(
        &self,
        options: &BuildOptions,
        context: Vec<u8>,
        tag: &str,
        mut progress: impl FnMut(BuildEvent),
    ) -> Result<(), SandboxError> {
        let doing = format!("build {}", options.image);
        let args: HashMap<String, String> = [
            ("BASE_IMAGE", options.base_image.clone()),
            ("OPENCLAW_VERSION", options.openclaw_version.clone()),
            ("CHANNEL", words(&options.channels)),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
        let asked = BuildImageOptions {
            dockerfile: String::from("Dockerfile"),
            t: Some(tag.to_owned()),
            nocache: options.no_cache,
            pull: options.pull.then(|| String::from("true")),
            rm: true,
            forcerm: true,
            buildargs: Some(args),
            ..BuildImageOptions::default()
        };
        let docker = self.patient(SILENCE);
        let mut stream =
            std::pin::pin!(docker.build_image(asked, None, Some(bollard::body_full(Bytes::from(context)))));
        let mut last: Vec<String> = Vec::new();
        loop {
            let next = tokio::time::timeout(SILENCE, stream.next()).await.map_err(|_| SandboxError {
                doing: doing.clone(),
                kind: SandboxErrorKind::Timeout(SILENCE),
            })?;
            let Some(info) = next else { return Ok(()) };
            let (events, fault) = match info {
                Ok(info) => heard(info),
                Err(bollard::errors::Error::DockerStreamError { error }) => (Vec::new(), Some(error)),
                Err(error) => return Err(SandboxError::docker(doing, &error)),
            };
            for event in events {
                if let BuildEvent::Line(line) | BuildEvent::Step { text: line, .. } = &event {
                    last.push(line.clone());
                    let surplus = last.len().saturating_sub(LAST_LINES);
                    last.drain(..surplus);
                }
                progress(event);
            }
            if let Some(fault) = fault {
                return Err(SandboxError {
                    doing,
                    kind: SandboxErrorKind::Build(why_it_failed(&fault, &last, options)),
                });
            }
        }
    }

    /// Removes an image of ours that has lost its name to a newer one. It stays where a container or another name needs it.
    async fn forget(&self, id: &str) {
        let Ok(there) = self.docker.inspect_image(id).await else { return };
        let labels = there.config.and_then(|config| config.labels).unwrap_or_default();
        let is_ours = labels.get(Label::OURS).is_some_and(|ours| ours == "1");
        if is_ours && there.repo_tags.unwrap_or_default().is_empty() {
            drop(self.docker.remove_image(id, None::<RemoveImageOptions>, None).await);
        }
    }

    /// Puts the labels on, npm's integrity among them, which only the image itself knows.
    async fn label(&self, options: &BuildOptions, from: &str, ca: bool) -> Result<(), SandboxError> {
        let doing = format!("label {}", options.image);
        let failed = |error: bollard::errors::Error| SandboxError::docker(doing.clone(), &error);
        let body = ContainerCreateBody { image: Some(from.to_owned()), ..ContainerCreateBody::default() };
        let id = self.docker.create_container(None::<CreateContainerOptions>, body).await.map_err(failed)?.id;
        let labelled = async {
            let integrity =
                self.small_file(&id, "/usr/local/share/sentrix/integrity").await.map_err(failed)?;
            let labels = [
                (Label::OURS, String::from("1")),
                (Label::VERSION, env!("CARGO_PKG_VERSION").to_owned()),
                (Label::CONFIG, folder_hash()),
                (Label::OPENCLAW, options.openclaw_version.clone()),
                (Label::INTEGRITY, integrity),
                (Label::BASE, options.base_image.clone()),
                (Label::CHANNEL, words(&options.channels)),
                (Label::CA, String::from(if ca { "1" } else { "0" })),
            ];
            let changes: Vec<String> =
                labels.iter().map(|(key, value)| format!("LABEL {key}={}", quoted(value))).collect();
            let (repo, tag) = split(&options.image);
            let commit = CommitContainerOptions {
                container: Some(id.clone()),
                repo: Some(repo.to_owned()),
                tag: Some(tag.to_owned()),
                changes: Some(changes.join("\n")),
                ..CommitContainerOptions::default()
            };
            self.patient(Duration::from_mins(2))
                .commit_container(commit, ContainerConfig::default())
                .await
                .map_err(failed)
        };
        let labelled = labelled.await;
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        drop(self.docker.remove_container(&id, Some(options)).await);
        labelled.map(drop)
    }

    /// The text of a small file in a container; nothing where it is not there.
    async fn small_file(&self, id: &str, path: &str) -> Result<String, bollard::errors::Error> {
        let options = DownloadFromContainerOptions { path: path.to_owned() };
        let mut bytes = Vec::new();
        let mut stream = std::pin::pin!(self.docker.download_from_container(id, Some(options)));
        while let Some(part) = stream.next().await {
            bytes.extend_from_slice(&part?);
            if bytes.len() > 64 * 1024 {
                break;
            }
        }
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut said = String::new();
        if let Some(Ok(entry)) = archive.entries()?.next() {
            std::io::Read::read_to_string(&mut std::io::Read::take(entry, 4096), &mut said)?;
        }
        Ok(text::plain(said.trim()))
    }
}

/// What differs between an image and what this Sentrix would build.
fn stale(facts: &ImageFacts, ours: &str, hash: &str, wanted: &Wanted) -> Option<String> {
    if ours != "1" {
        return Some(String::from("`sentrix build` did not build it"));
    }
    if let Some(version) = wanted.openclaw_version.as_ref().filter(|version| **version != facts.openclaw) {
        return Some(format!("OpenClaw {} is in it, {version} is wanted", facts.openclaw));
    }
    let lacks = facts.lacks(&wanted.channels);
    if !lacks.is_empty() {
        return Some(format!("it is without {}", words(&lacks)));
    }
    (hash != folder_hash())
        .then(|| format!("Sentrix {} built it from other files than this one has", facts.sentrix))
}

/// Hash of the embedded folder: names, modes and contents.
pub fn folder_hash() -> String {
    let mut hash = Sha256::new();
    for (path, bytes) in files() {
        hash.update(path.as_bytes());
        hash.update([0]);
        hash.update(bytes.len().to_be_bytes());
        hash.update(bytes);
    }
    let mut all = hex(&hash.finalize());
    all.truncate(32);
    all
}

/// The embedded files by name.
fn files() -> BTreeMap<String, &'static [u8]> {
    FOLDER.files().map(|file| (file.path().to_string_lossy().into_owned(), file.contents())).collect()
}

/// The build context, the same bytes each time, so that the engine's cache fits.
fn context(ca: Option<&[u8]>) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(u64::try_from(bytes.len()).unwrap_or(0));
        header.set_mtime(0);
        // Writing to memory fails for no reason but a path that is too long, and these are ours.
        drop(tar.append_data(&mut header, path, bytes));
    };
    for (path, bytes) in files() {
        add(&path, bytes);
    }
    add("ca/ca.crt", ca.unwrap_or_default());
    tar.into_inner().unwrap_or_default()
}

fn check(options: &BuildOptions) -> Result<(), SandboxError> {
    let refuse = |option: &str, why: &str| Err(SandboxError::options(option, why));
    let plain = |text: &str, more: &[u8]| {
        !text.is_empty()
            && text.len() <= 255
            && !text.starts_with('-')
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    if !plain(&options.openclaw_version, b".-+") {
        return refuse("use --openclaw-version", "it is no version of npm, as 2026.9.6");
    }
    if !plain(&options.base_image, b".-_/:@") {
        return refuse("use --base-image", "it is no name of an image");
    }
    let has_capital = repository(&options.image).contains(|c: char| c.is_ascii_uppercase());
    if !plain(&options.image, b".-_/:") || has_capital {
        return refuse(
            "use --image",
            "it is no name that an image can be given: lower-case letters, as sentrix-openclaw:latest",
        );
    }
    Ok(())
}

fn read_bundle(path: &Path) -> Result<Vec<u8>, SandboxError> {
    let unread = |error: std::io::Error| {
        SandboxError::options(
            format!("use the bundle {}", path.display()),
            format!("it cannot be read: {error}"),
        )
    };
    let meta = std::fs::metadata(path).map_err(unread)?;
    if !meta.is_file() || meta.len() > MOST_CA_BYTES {
        return Err(SandboxError::options(
            format!("use the bundle {}", path.display()),
            "it is no file of at most 8 MiB",
        ));
    }
    let bytes = std::fs::read(path).map_err(unread)?;
    if memchr::memmem::find(&bytes, b"-----BEGIN CERTIFICATE-----").is_none() {
        return Err(SandboxError::options(
            format!("use the bundle {}", path.display()),
            "there is no certificate in it: PEM is wanted, with lines `-----BEGIN CERTIFICATE-----`",
        ));
    }
    Ok(bytes)
}

/// What one message of the engine says, and the fault in it.
fn heard(info: BuildInfo) -> (Vec<BuildEvent>, Option<String>) {
    // npm colours what it says whatever it writes to.
    let safe = |line: &str| text::bounded(&text::plain(&printable(line.trim_end())), 300);
    let mut events = Vec::new();
    for line in info.stream.unwrap_or_default().lines().filter(|line| !printable(line).is_empty()) {
        events.push(step(line).unwrap_or_else(|| BuildEvent::Line(safe(line))));
    }
    if let Some(status) = info.status {
        let bytes = info.progress_detail.and_then(|detail| {
            Some((u64::try_from(detail.current?).ok()?, u64::try_from(detail.total?).ok()?))
        });
        events.push(BuildEvent::Pull { status: safe(&status), bytes });
    }
    (events, info.error_detail.and_then(|detail| detail.message))
}

/// `Step 3/12 : RUN …`. Source: the classic builder of Docker 20.10.
fn step(line: &str) -> Option<BuildEvent> {
    let (number, rest) = line.strip_prefix("Step ")?.split_once('/')?;
    let (of, rest) = rest.split_once(" : ")?;
    let text = text::bounded(&text::plain(rest.trim_end()), 300);
    Some(BuildEvent::Step { number: number.parse().ok()?, of: of.parse().ok()?, text })
}

/// Why a build failed, with what to do where that is known.
fn why_it_failed(fault: &str, last: &[String], options: &BuildOptions) -> String {
    let mut said = text::bounded(&text::plain(fault.trim()), 400);
    for line in last {
        text::push(&mut said, format_args!("\n  | {line}"));
    }
    let all = said.clone();
    let has = |words: &[&str]| words.iter().any(|word| all.contains(word));
    let help = if has(&["SELF_SIGNED_CERT_IN_CHAIN", "UNABLE_TO_GET_ISSUER_CERT", "x509:"]) {
        "a proxy between here and the registry shows certificates of its own: give its bundle with --ca-bundle FILE"
    } else if has(&["ENOTFOUND", "EAI_AGAIN", "ETIMEDOUT", "ECONNREFUSED registry"]) {
        "npm's registry cannot be reached from the build: check the network of Docker"
    } else if has(&["ETARGET", "No matching version"]) {
        "npm has no such version of OpenClaw: see --openclaw-version"
    } else if has(&["pull access denied", "manifest unknown", "manifest for", "dial tcp", "no such host"]) {
        text::push(
            &mut said,
            format_args!(
                "\n  what to do: {} could not be fetched; give an image that is there with --base-image",
                options.base_image
            ),
        );
        return said;
    } else if has(&["no space left", "ENOSPC"]) {
        "the disk of the engine is full: the image needs about 3 GB while it is built"
    } else {
        return said;
    };
    text::push(&mut said, format_args!("\n  what to do: {help}"));
    said
}

/// A value in a `LABEL` instruction.
fn quoted(value: &str) -> String {
    let plain: String = value.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\' | '$')).collect();
    format!("\"{plain}\"")
}

/// Name and tag of an image.
fn split(image: &str) -> (&str, &str) {
    match image.rsplit_once(':') {
        Some((repo, tag)) if !tag.contains('/') => (repo, tag),
        _ => (image, "latest"),
    }
}

fn repository(image: &str) -> &str {
    split(image).0
}

impl fmt::Display for BakedChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests;
