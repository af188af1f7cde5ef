//! The life of a sandbox's container: made, started, stopped, frozen, found again, taken away.
//!
//! **Invariant:** nothing that has not our label is stopped, removed or changed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use bollard::models::{ContainerSummary, NetworkCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, KillContainerOptions, ListContainersOptionsBuilder,
    ListNetworksOptionsBuilder, ListVolumesOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveVolumeOptions, RestartContainerOptionsBuilder, StopContainerOptionsBuilder,
};
use futures_util::StreamExt;

use super::engine::Engine;
use super::error::{Death, SandboxError, SandboxErrorKind};
use super::layout::{Layout, Owner};
use super::name::{Label, SandboxName};
use super::spec::{ContainerSpec, Egress};
use crate::text;

/// How long OpenClaw may take to end in order.
///
/// Source: 2026.9.6 stops within 4.6 to 6.3 s; its own drain may take longer, and it is ended then.
pub const GRACE: Duration = Duration::from_secs(30);
/// Most bytes of logs that are read for the last lines.
const LOG_BYTES: usize = 256 * 1024;

/// What state a sandbox's container is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Made and not started.
    Created,
    /// At work.
    Running,
    /// Frozen.
    Paused,
    /// Between two starts after a failure.
    Restarting,
    /// Ended.
    Exited,
}

impl State {
    /// For people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
        }
    }

    fn of(text: &str) -> Self {
        match text {
            "running" => Self::Running,
            "paused" => Self::Paused,
            "restarting" => Self::Restarting,
            "created" => Self::Created,
            _ => Self::Exited,
        }
    }
}

/// A sandbox that was found by its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: SandboxName,
    /// Id of its container.
    pub id: String,
    /// Id of its image.
    pub image: String,
    /// What its container does.
    pub state: State,
    /// When the container was made, in seconds since 1970.
    pub created: i64,
    /// Its folder on the host.
    pub layout: Option<Layout>,
    /// What leaves it.
    pub egress: String,
    /// Its relaxations, with commas.
    pub relaxed: String,
    /// Version of Sentrix that made it.
    pub version: String,
}

/// More about one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Id of the container.
    pub id: String,
    /// What it does.
    pub state: State,
    /// How often the engine has started it again after a failure.
    pub restarts: i64,
    /// Exit code of the last end.
    pub exit_code: i64,
    /// Whether the memory limit ended it.
    pub out_of_memory: bool,
    /// When it was started last, as the engine writes it.
    pub started: String,
    /// Process id of its first process on this machine; 0 where it does not run.
    pub pid: i64,
}

/// What `reap` took away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Names of containers.
    pub containers: Vec<String>,
    /// Names of networks.
    pub networks: Vec<String>,
    /// Names of volumes.
    pub volumes: Vec<String>,
    /// Folder of the sandbox, and whether all of it is gone.
    pub folder: Option<(PathBuf, bool)>,
}

impl Reaped {
    /// Whether there was anything at the engine.
    pub fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.networks.is_empty() && self.volumes.is_empty()
    }
}

impl Engine {
    /// Makes the container of a sandbox (and its network for `--egress open`). One of ours that has ended is replaced; one
    /// that runs, and one that is not ours, is in the way. Gives the container's id.
    ///
    /// # Errors
    /// [`SandboxErrorKind::Options`], [`SandboxErrorKind::InTheWay`], [`SandboxErrorKind::NotFound`] where the image is
    /// missing, [`SandboxErrorKind::Engine`].
    pub async fn create(&self, spec: &ContainerSpec, layout: &Layout) -> Result<String, SandboxError> {
        spec.check(self.facts())?;
        let name = layout.name();
        let container = name.container();
        let doing = format!("make the container {container}");
        self.make_way(name).await?;
        let image = self
            .docker
            .inspect_image(&spec.image)
            .await
            .map_err(|error| SandboxError::docker(format!("use the image {}", spec.image), &error))?;
        let labels = image.config.and_then(|config| config.labels).unwrap_or_default();
        let ca = labels.get(Label::CA).is_some_and(|value| value == "1");
        if spec.egress == Egress::Open {
            let request = NetworkCreateRequest {
                name: container.clone(),
                driver: Some(String::from("bridge")),
                labels: Some(spec.labels(layout)),
                ..NetworkCreateRequest::default()
            };
            self.docker
                .create_network(request)
                .await
                .map_err(|error| SandboxError::docker(format!("make the network {container}"), &error))?;
        }
        let body = spec.body(layout, &Owner::of(self.facts()), ca);
        let options = CreateContainerOptions { name: Some(container), ..CreateContainerOptions::default() };
        let made = self
            .docker
            .create_container(Some(options), body)
            .await
            .map_err(|error| SandboxError::docker(doing, &error))?;
        for warning in made.warnings {
            tracing::warn!(warning = %text::plain(&warning), "the engine cannot hold a limit");
        }
        Ok(made.id)
    }

    /// Takes an ended container of that name away, and its network.
    async fn make_way(&self, name: &SandboxName) -> Result<(), SandboxError> {
        let container = name.container();
        match self.docker.inspect_container(&container, None::<InspectContainerOptions>).await {
            Ok(there) => {
                let doing = format!("make the container {container}");
                let in_the_way = |why: &str| SandboxError {
                    doing: doing.clone(),
                    kind: SandboxErrorKind::InTheWay(why.to_owned()),
                };
                let labels = there.config.and_then(|config| config.labels).unwrap_or_default();
                if labels.get(Label::OURS).map(String::as_str) != Some("1") {
                    return Err(in_the_way("a container of that name is there, and it is none of ours"));
                }
                let state = there.state.unwrap_or_default();
                let busy = [state.running, state.paused, state.restarting];
                if busy.into_iter().any(|value| value == Some(true)) {
                    return Err(in_the_way(
                        "it is there already: `sentrix run --attach` goes on with it, `sentrix stop` ends it",
                    ));
                }
                self.remove_container(&container).await?;
            }
            Err(error) => {
                let error = SandboxError::docker(format!("look for the container {container}"), &error);
                if !error.is_not_found() {
                    return Err(error);
                }
            }
        }
        self.remove_networks(name).await.map(drop)
    }

    /// Starts a sandbox's container.
    ///
    /// # Errors
    /// [`SandboxErrorKind::NotFound`], [`SandboxErrorKind::Engine`] with the engine's words.
    pub async fn start(&self, name: &SandboxName) -> Result<(), SandboxError> {
        let container = name.container();
        self.patient(Duration::from_mins(1))
            .start_container(&container, None)
            .await
            .map_err(|error| SandboxError::docker(format!("start {container}"), &error))
    }

    /// Ends a sandbox's container in order within `grace`, then by force. One that does not run is fine.
    ///
    /// # Errors
    /// [`SandboxErrorKind::NotFound`], [`SandboxErrorKind::Engine`].
    pub async fn stop(&self, name: &SandboxName, grace: Duration) -> Result<(), SandboxError> {
        let container = self.ours(name).await?;
        // A frozen process hears no signal.
        if self.status(name).await?.state == State::Paused {
            self.resume(name).await?;
        }
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        let stopped = self
            .patient(grace + Duration::from_secs(30))
            .stop_container(&container, Some(options))
            .await
            .map_err(|error| SandboxError::docker(format!("stop {container}"), &error));
        match stopped {
            // 304: it has ended already.
            Err(error) if error.to_string().contains("304") => Ok(()),
            other => other,
        }
    }

    /// Ends a sandbox's container at once.
    ///
    /// # Errors
    /// [`SandboxErrorKind::NotFound`], [`SandboxErrorKind::Engine`].
    pub async fn kill(&self, name: &SandboxName) -> Result<(), SandboxError> {
        let container = self.ours(name).await?;
        self.docker
            .kill_container(&container, None::<KillContainerOptions>)
            .await
            .map_err(|error| SandboxError::docker(format!("kill {container}"), &error))
    }

    /// Ends a sandbox's container in order and starts it again.
    ///
    /// # Errors
    /// [`SandboxErrorKind::NotFound`], [`SandboxErrorKind::Engine`].
    pub async fn restart(&self, name: &SandboxName, grace: Duration) -> Result<(), SandboxError> {
        let container = self.ours(name).await?;
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        self.patient(grace + Duration::from_mins(1))
            .restart_container(&container, Some(RestartContainerOptionsBuilder::default().t(seconds).build()))
            .await
            .map_err(|error| SandboxError::docker(format!("restart {container}"), &error))
    }

    /// Freezes all processes of a sandbox; they go on where they were after [`Engine::resume`].
    ///
    /// # Errors
    /// [`SandboxErrorKind::NotFound`]; [`SandboxErrorKind::InTheWay`] where it does not run or is frozen.
    pub async fn pause(&self, name: &SandboxName) -> Result<(), SandboxError> {
        let container = self.ours(name).await?;
        self.docker
            .pause_container(&container)
            .await
            .map_err(|error| SandboxError::docker(format!("freeze {container}"), &error))
    }

    /// Lets a frozen sandbox go on.
    ///
    /// # Errors
    /// [`SandboxErrorKind::NotFound`]; [`SandboxErrorKind::Engine`] where it is not frozen.
    pub async fn resume(&self, name: &SandboxName) -> Result<(), SandboxError> {
        let container = self.ours(name).await?;
        self.docker
            .unpause_container(&container)
            .await
            .map_err(|error| SandboxError::docker(format!("release {container}"), &error))
    }

    /// What a sandbox's container does.
    ///
    /// # Errors
    /// [`SandboxErrorKind::NotFound`], [`SandboxErrorKind::Engine`].
    pub async fn status(&self, name: &SandboxName) -> Result<Status, SandboxError> {
        let container = name.container();
        let there = self
            .docker
            .inspect_container(&container, None::<InspectContainerOptions>)
            .await
            .map_err(|error| SandboxError::docker(format!("look at {container}"), &error))?;
        let state = there.state.unwrap_or_default();
        Ok(Status {
            id: there.id.unwrap_or_default(),
            state: State::of(&state.status.map(|status| status.to_string()).unwrap_or_default()),
            restarts: there.restart_count.unwrap_or(0),
            exit_code: state.exit_code.unwrap_or(0),
            out_of_memory: state.oom_killed.unwrap_or(false),
            started: state.started_at.unwrap_or_default(),
            pid: state.pid.unwrap_or(0),
        })
    }

    /// All sandboxes at this engine, by their label, or the one of that name. The oldest first.
    ///
    /// # Errors
    /// [`SandboxErrorKind::Engine`].
    pub async fn list(&self, name: Option<&SandboxName>) -> Result<Vec<Found>, SandboxError> {
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters(name)).build();
        let all = self
            .docker
            .list_containers(Some(options))
            .await
            .map_err(|error| SandboxError::docker("look for sandboxes", &error))?;
        let mut found: Vec<Found> = all.into_iter().filter_map(found_in).collect();
        found.sort_by_key(|found| found.created);
        Ok(found)
    }

    /// The sandbox of that name, whatever it does.
    ///
    /// # Errors
    /// [`SandboxErrorKind::Engine`].
    pub async fn look_for(&self, name: &SandboxName) -> Result<Option<Found>, SandboxError> {
        Ok(self.list(Some(name)).await?.into_iter().find(|found| found.name == *name))
    }

    /// The container's name, once it is certain that it is ours.
    pub(super) async fn ours(&self, name: &SandboxName) -> Result<String, SandboxError> {
        match self.look_for(name).await? {
            Some(_) => Ok(name.container()),
            None => Err(SandboxError {
                doing: format!("find the sandbox {name}"),
                kind: SandboxErrorKind::NotFound(String::from("no container with our label has that name")),
            }),
        }
    }

    /// How a container ended, with its last lines.
    pub(super) async fn death(&self, name: &SandboxName, status: &Status) -> Death {
        Death {
            exit_code: status.exit_code,
            out_of_memory: status.out_of_memory,
            last_lines: self.last_lines(name, 12).await,
        }
    }

    /// The last lines that a sandbox's processes wrote, safe for a terminal; none where they cannot be read.
    pub async fn last_lines(&self, name: &SandboxName, lines: usize) -> Vec<String> {
        let options =
            LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&lines.to_string()).build();
        let mut bytes = Vec::new();
        let container = name.container();
        let mut logs = self.docker.logs(&container, Some(options));
        let read = async {
            while let Some(Ok(line)) = logs.next().await {
                bytes.extend_from_slice(line.as_ref());
                if bytes.len() > LOG_BYTES {
                    break;
                }
            }
        };
        if tokio::time::timeout(super::engine::ANSWER, read).await.is_err() {
            tracing::debug!("the engine took too long for the last lines");
        }
        let said = String::from_utf8_lossy(&bytes);
        let all: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        let from = all.len().saturating_sub(lines);
        all.iter().skip(from).map(|line| text::bounded(&text::plain(line), 300)).collect()
    }

    /// Takes away everything of a sandbox at the engine: containers, networks, volumes; then its folder's keys, sockets and
    /// configuration, or all of it with `purge`. What has not our label stays.
    ///
    /// # Errors
    /// [`SandboxErrorKind::Engine`], [`SandboxErrorKind::Io`].
    pub async fn reap(
        &self,
        name: &SandboxName,
        layout: Option<&Layout>,
        purge: bool,
    ) -> Result<Reaped, SandboxError> {
        let mut reaped = Reaped::default();
        let mut folder = layout.cloned();
        for found in self.list(Some(name)).await? {
            if found.state == State::Running
                || found.state == State::Paused
                || found.state == State::Restarting
            {
                self.stop(name, GRACE).await?;
            }
            self.remove_container(&found.id).await?;
            reaped.containers.push(found.name.container());
            folder = folder.or(found.layout);
        }
        reaped.networks = self.remove_networks(name).await?;
        reaped.volumes = self.remove_volumes(name).await?;
        if let Some(layout) = folder
            && layout.folder().is_dir()
        {
            layout.remove(purge)?;
            reaped.folder = Some((layout.folder().to_owned(), purge));
        }
        Ok(reaped)
    }

    async fn remove_container(&self, container: &str) -> Result<(), SandboxError> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let removed = self
            .patient(Duration::from_mins(1))
            .remove_container(container, Some(options))
            .await
            .map_err(|error| SandboxError::docker(format!("remove {container}"), &error));
        match removed {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }

    async fn remove_networks(&self, name: &SandboxName) -> Result<Vec<String>, SandboxError> {
        let options = ListNetworksOptionsBuilder::default().filters(&filters(Some(name))).build();
        let all = self
            .docker
            .list_networks(Some(options))
            .await
            .map_err(|error| SandboxError::docker("look for networks", &error))?;
        let mut removed = Vec::new();
        for network in all {
            let (Some(id), Some(labels)) = (network.id, network.labels) else { continue };
            if labels.get(Label::OURS).map(String::as_str) != Some("1") {
                continue;
            }
            self.docker
                .remove_network(&id)
                .await
                .map_err(|error| SandboxError::docker("remove a network", &error))?;
            removed.push(network.name.unwrap_or(id));
        }
        Ok(removed)
    }

    async fn remove_volumes(&self, name: &SandboxName) -> Result<Vec<String>, SandboxError> {
        let options = ListVolumesOptionsBuilder::default().filters(&filters(Some(name))).build();
        let all = self
            .docker
            .list_volumes(Some(options))
            .await
            .map_err(|error| SandboxError::docker("look for volumes", &error))?;
        let mut removed = Vec::new();
        for volume in all.volumes.unwrap_or_default() {
            if volume.labels.get(Label::OURS).map(String::as_str) != Some("1") {
                continue;
            }
            self.docker
                .remove_volume(&volume.name, None::<RemoveVolumeOptions>)
                .await
                .map_err(|error| SandboxError::docker("remove a volume", &error))?;
            removed.push(volume.name);
        }
        Ok(removed)
    }
}

/// What the engine is asked for: our label, and the name's.
fn filters(name: Option<&SandboxName>) -> HashMap<String, Vec<String>> {
    let mut labels = vec![format!("{}=1", Label::OURS)];
    labels.extend(name.map(|name| format!("{}={name}", Label::NAME)));
    HashMap::from([(String::from("label"), labels)])
}

/// A container of ours in the engine's list; `None` for what has not our label after all.
fn found_in(container: ContainerSummary) -> Option<Found> {
    let labels = container.labels?;
    let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
    if label(Label::OURS) != "1" {
        return None;
    }
    let name: SandboxName = label(Label::NAME).parse().ok()?;
    let folder = PathBuf::from(label(Label::FOLDER));
    // A folder that is not named after the sandbox is none that we made.
    let ours = folder.is_absolute() && folder.file_name().is_some_and(|last| last == name.as_str());
    Some(Found {
        layout: ours.then(|| Layout::at(folder, name.clone())),
        name,
        id: container.id?,
        image: container.image_id.unwrap_or_default(),
        state: State::of(&container.state.map(|state| state.to_string()).unwrap_or_default()),
        created: container.created.unwrap_or(0),
        egress: label(Label::EGRESS),
        relaxed: label(Label::RELAXED),
        version: label(Label::VERSION),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(labels: &[(&str, &str)]) -> ContainerSummary {
        ContainerSummary {
            id: Some("c0ffee".into()),
            labels: Some(labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()),
            ..ContainerSummary::default()
        }
    }

    #[test]
    fn what_has_not_our_label_is_not_ours() {
        assert_eq!(found_in(summary(&[("dev.sentrix.name", "a")])), None);
        assert_eq!(found_in(summary(&[("dev.sentrix", "1"), ("dev.sentrix.name", "../x")])), None);
        let found = found_in(summary(&[
            ("dev.sentrix", "1"),
            ("dev.sentrix.name", "a"),
            ("dev.sentrix.folder", "/etc"),
        ]));
        assert_eq!(found.unwrap().layout, None);
        let found = found_in(summary(&[
            ("dev.sentrix", "1"),
            ("dev.sentrix.name", "a"),
            ("dev.sentrix.folder", "/s/a"),
        ]));
        assert_eq!(found.unwrap().layout.unwrap().token_file(), PathBuf::from("/s/a/token"));
    }
}
