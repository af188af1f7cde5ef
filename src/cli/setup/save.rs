//! Answers → `sentrix.toml` and key files.
//!
//! **Invariant:** no secret stands in `sentrix.toml`. A secret is written only to a file that its owner alone can read, whole or
//! not at all, and never through a symbolic link.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;
use toml::Value;

use super::answers::{Answers, Env, Keep, Secret, Security, Slot};
use crate::cli::failure::Failure;
use crate::cli::world::store_failure;
use crate::store::export;
use crate::text::{self, push};

/// Where files go.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// The working folder's settings.
    pub(super) here: PathBuf,
    /// The user's settings; none where there is no home.
    pub(super) user: Option<PathBuf>,
    /// The folder of key files.
    pub(super) keys: Option<PathBuf>,
    pub(super) home: Option<PathBuf>,
}

impl Places {
    /// As the environment says: `$XDG_CONFIG_HOME/sentrix`, else `~/.config/sentrix`.
    pub(super) fn of(env: Env<'_>) -> Self {
        let folder = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = folder("HOME");
        let config = folder("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
        let config = config.map(|config| config.join("sentrix"));
        Self {
            here: PathBuf::from("sentrix.toml"),
            user: config.as_ref().map(|config| config.join("sentrix.toml")),
            keys: config.map(|config| config.join("keys")),
            home,
        }
    }

    /// A path as it is shown.
    pub(super) fn short(&self, path: &Path) -> String {
        text::plain(&self.written(path))
    }

    /// A path as it is written down: `~/…` below the home folder, `./…` in the working folder.
    fn written(&self, path: &Path) -> String {
        let below = self.home.as_ref().and_then(|home| path.strip_prefix(home).ok());
        match below {
            Some(rest) => format!("~/{}", rest.display()),
            None if path.parent().is_some_and(|parent| parent.as_os_str().is_empty()) => {
                format!("./{}", path.display())
            }
            None => path.display().to_string(),
        }
    }
}

/// What was written.
#[derive(Debug)]
pub(super) struct Saved {
    /// The file that was there before.
    pub(super) backup: Option<PathBuf>,
    /// Key files.
    pub(super) keys: Vec<PathBuf>,
}

/// Writes key files, a copy of settings that are replaced, and the settings: all of them or, where one cannot be written, none. They
/// come into place in this order, so that settings never name a file that is not there.
///
/// # Errors
/// Where one of them cannot be written.
pub(super) fn write(answers: &Answers, file: &Path, places: &Places) -> Result<Saved, Failure> {
    let mut staged = Vec::new();
    let mut stage = |path: &Path, bytes: &[u8]| {
        staged.push(Staged::new(path, bytes).map_err(|error| cannot("write", path, error))?);
        Ok::<(), Failure>(())
    };
    let mut keys = Vec::new();
    let typed = answers.typed();
    if answers.keep == Keep::File
        && !typed.is_empty()
        && let Some(folder) = &places.keys
    {
        key_folder(folder)?;
        for (name, _, secret) in typed {
            let path = folder.join(name);
            stage(&path, format!("{}\n", secret.expose_secret()).as_bytes())?;
            keys.push(path);
        }
    }
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        export::private_dir(folder).map_err(store_failure)?;
    }
    let backup = match fs::read(file) {
        Ok(old) => {
            let mut name = file.file_name().unwrap_or_default().to_owned();
            name.push(".bak");
            let backup = file.with_file_name(name);
            stage(&backup, &old)?;
            Some(backup)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(cannot("replace", file, error)),
    };
    stage(file, toml(answers, places).as_bytes())?;
    for staged in staged {
        let path = staged.path.clone();
        staged.place().map_err(|error| cannot("write", &path, error))?;
    }
    Ok(Saved { backup, keys })
}

fn cannot(do_what: &str, path: &Path, error: io::Error) -> Failure {
    let path = text::plain(&path.display().to_string());
    Failure::Unavailable(anyhow::Error::new(error).context(format!("cannot {do_what} {path}")))
}

/// The folder of keys, which only its owner may enter.
fn key_folder(folder: &Path) -> Result<(), Failure> {
    export::private_dir(folder).map_err(store_failure)?;
    let data = folder.symlink_metadata().map_err(|error| cannot("look at", folder, error))?;
    if !data.is_dir() {
        return Err(Failure::Refused(format!(
            "{} is a symbolic link, and keys are not written through one. Make it a folder, or keep the keys in variables.",
            text::plain(&folder.display().to_string())
        )));
    }
    if data.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
            .map_err(|error| cannot("close to others", folder, error))?;
    }
    Ok(())
}

/// A file that only its owner can read, beside the place where it belongs; taken away again unless it comes there.
struct Staged {
    beside: PathBuf,
    path: PathBuf,
}

impl Staged {
    fn new(path: &Path, bytes: &[u8]) -> io::Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let beside = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
        if beside.symlink_metadata().is_ok() {
            // Left behind by a process of the same number that was killed.
            fs::remove_file(&beside)?;
        }
        export::write_private_new(&beside, bytes)?;
        Ok(Self { beside, path: path.to_owned() })
    }

    /// Puts it in its place. What was there, a link too, is replaced and never written to.
    fn place(self) -> io::Result<()> {
        fs::rename(&self.beside, &self.path)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Gone where it was placed; where it cannot be taken away, nothing better can be done.
        fs::remove_file(&self.beside).unwrap_or_default();
    }
}

/// The settings as text: the models, and what departs from the defaults.
pub(super) fn toml(answers: &Answers, places: &Places) -> String {
    let mut out = Out {
        text: "# Written by `sentrix setup`. What is not here has its default; keys never stand here.\n"
            .into(),
    };
    let defaults = Answers::default();
    match &answers.models {
        None => {
            out.table("models.patrol", "rules only, whatever keys are around");
            out.set("provider", "none");
            out.table("models.investigator", "");
            out.set("provider", "none");
        }
        Some(models) => {
            for (role, model, does) in [
                ("models.patrol", &models.patrol, "reads every new turn"),
                ("models.investigator", &models.investigator, "looks into flags"),
                ("models.agent", &models.agent, "OpenClaw itself"),
            ] {
                out.table(role, does);
                out.set("provider", models.provider.id.as_str());
                out.set("model", model.as_str());
            }
            let key =
                reference(&models.key, answers.keep, &models.provider.id, &models.usual_variable(), places);
            if models.base_url.is_some() || key.is_some() {
                out.table(&format!("providers.{}", models.provider.id), "");
                if let Some(url) = &models.base_url {
                    out.set("base_url", url.as_str());
                }
                out.reference("api_key", key);
            }
        }
    }
    if answers.patrol != defaults.patrol || answers.escalation != defaults.escalation {
        out.table("patrol", "");
        if answers.patrol != defaults.patrol {
            out.set("enabled", answers.patrol);
        }
        if answers.escalation != defaults.escalation {
            out.set("escalation", answers.escalation.word());
        }
    }
    if answers.reasoning != defaults.reasoning
        || answers.capture_reasoning != defaults.capture_reasoning
        || answers.subagents != defaults.subagents
    {
        out.table("agent", "");
        if answers.reasoning != defaults.reasoning {
            out.set("reasoning", answers.reasoning.word());
        }
        if answers.capture_reasoning != defaults.capture_reasoning {
            out.set("capture_reasoning", answers.capture_reasoning);
        }
        if answers.subagents != defaults.subagents {
            out.set("subagents_shown", i64::from(answers.subagents));
        }
    }
    let token =
        |slot: Slot| reference(answers.token(slot), answers.keep, slot.file(), slot.variable(), places);
    for channel in &answers.channels {
        out.table(&format!("channels.{}", channel.id()), "");
        out.set("enabled", true);
        for (name, slot) in channel.slots() {
            out.reference(name, token(*slot));
        }
    }
    if answers.web_search {
        out.table("search", "");
        out.reference("brave_key", token(Slot::Brave));
    }
    let (security, safe) = (answers.security, Security::default());
    if security != safe {
        out.table("security", "");
        for (name, word, default) in [
            ("exec", security.exec, safe.exec),
            ("dm_policy", security.dm_policy, safe.dm_policy),
            ("egress", security.egress, safe.egress),
        ] {
            if word != default {
                out.set(name, word);
            }
        }
        if security.workspace_only != safe.workspace_only {
            out.set("workspace_only", security.workspace_only);
        }
    }
    out.text
}

/// How settings say where a secret is: the ending of the setting's name, and its value.
fn reference(
    secret: &Secret,
    keep: Keep,
    file: &str,
    usual: &str,
    places: &Places,
) -> Option<(&'static str, String)> {
    match (secret, keep, &places.keys) {
        (Secret::None, _, _) => None,
        (Secret::Typed(_), Keep::File, Some(keys)) => Some(("file", places.written(&keys.join(file)))),
        (Secret::Typed(_), _, _) => Some(("env", usual.to_owned())),
        (Secret::Variable(name), _, _) => Some(("env", name.clone())),
    }
}

/// TOML under way.
struct Out {
    text: String,
}

impl Out {
    fn table(&mut self, name: &str, comment: &str) {
        let comment = if comment.is_empty() { String::new() } else { format!("  # {comment}") };
        push(&mut self.text, format_args!("\n[{name}]{comment}\n"));
    }

    fn set(&mut self, name: &str, value: impl Into<Value>) {
        push(&mut self.text, format_args!("{name} = {}\n", value.into()));
    }

    fn reference(&mut self, name: &str, reference: Option<(&str, String)>) {
        if let Some((kind, value)) = reference {
            self.set(&format!("{name}_{kind}"), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use secrecy::SecretString;

    use super::super::answers::{Channel, ModelAnswers};
    use super::*;
    use crate::config::{Escalation, Reasoning};
    use crate::model::provider;

    fn places(dir: &Path) -> Places {
        let home = dir.to_str().unwrap().to_owned();
        Places::of(&move |name| (name == "HOME").then(|| home.clone()))
    }

    fn hostile() -> Answers {
        let mut models = ModelAnswers::of(provider("openai").unwrap(), &|_| None);
        models.key = Secret::Typed(SecretString::from("sk-very-secret"));
        models.patrol = "a\"b\\c'''\"\"\"\u{7f}]".into();
        models.base_url = Some("https://h/\"\n[x]".into());
        let mut answers = Answers {
            models: Some(models),
            channels: vec![Channel::Telegram, Channel::Slack, Channel::Signal],
            web_search: true,
            escalation: Escalation::HighOnly,
            reasoning: Reasoning::Off,
            patrol: false,
            ..Answers::default()
        };
        answers.set_token(Slot::Telegram, Secret::Typed(SecretString::from("1:tele-secret")));
        answers.set_token(Slot::SlackBot, Secret::Variable("SLACK_BOT_TOKEN".into()));
        answers.set_token(Slot::SlackApp, Secret::Typed(SecretString::from("xapp-secret")));
        answers.set_token(Slot::Brave, Secret::Typed(SecretString::from("brave-secret")));
        answers.security.exec = "full";
        answers
    }

    #[test]
    fn what_is_written_is_toml_and_holds_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        for keep in [Keep::File, Keep::Variable] {
            let answers = Answers { keep, ..hostile() };
            let text = toml(&answers, &places);
            assert!(!text.contains("secret"), "{text}");
            let read: toml::Table = text.parse().unwrap();
            let models = answers.models.unwrap();
            assert_eq!(read["models"]["patrol"]["model"].as_str(), Some(models.patrol.as_str()));
            assert_eq!(read["providers"]["openai"]["base_url"].as_str(), models.base_url.as_deref());
            assert_eq!(read["channels"]["signal"]["enabled"].as_bool(), Some(true));
            assert_eq!(read["channels"]["slack"]["bot_token_env"].as_str(), Some("SLACK_BOT_TOKEN"));
            assert_eq!(read["patrol"]["escalation"].as_str(), Some("high_only"));
            let (key, brave) = match keep {
                Keep::File => ("api_key_file", "brave_key_file"),
                Keep::Variable => ("api_key_env", "brave_key_env"),
            };
            assert!(read["providers"]["openai"].get(key).is_some(), "{text}");
            assert!(read["search"].get(brave).is_some(), "{text}");
        }
    }

    #[test]
    fn defaults_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let models = ModelAnswers::of(provider("openai").unwrap(), &|_| Some("k".into()));
        let answers = Answers { models: Some(models), ..Answers::default() };
        insta::assert_snapshot!(toml(&answers, &places(dir.path())), @r#"
        # Written by `sentrix setup`. What is not here has its default; keys never stand here.

        [models.patrol]  # reads every new turn
        provider = "openai"
        model = "gpt-6-luna"

        [models.investigator]  # looks into flags
        provider = "openai"
        model = "gpt-6-sol"

        [models.agent]  # OpenClaw itself
        provider = "openai"
        model = "gpt-6-sol"

        [providers.openai]
        api_key_env = "OPENAI_API_KEY"
        "#);
        let read: toml::Table = toml(&Answers::default(), &places(dir.path())).parse().unwrap();
        assert_eq!(read["models"]["patrol"]["provider"].as_str(), Some("none"));
    }

    #[test]
    fn keys_are_private_and_never_go_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        let keys = places.keys.clone().unwrap();
        fs::create_dir_all(&keys).unwrap();
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o755)).unwrap();
        let elsewhere = dir.path().join("elsewhere");
        fs::write(&elsewhere, "theirs").unwrap();
        symlink(&elsewhere, keys.join("openai")).unwrap();
        let file = dir.path().join("sentrix.toml");
        fs::write(&file, "old").unwrap();

        let saved = write(&hostile(), &file, &places).unwrap();

        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "theirs");
        assert_eq!(fs::read_to_string(keys.join("openai")).unwrap(), "sk-very-secret\n");
        assert_eq!(saved.keys.len(), 4);
        assert!(
            saved.keys.iter().all(|path| mode(path) == 0o600 && path.symlink_metadata().unwrap().is_file())
        );
        assert_eq!(mode(&keys), 0o700);
        assert_eq!((mode(&file), mode(saved.backup.as_deref().unwrap())), (0o600, 0o600));
        assert_eq!(fs::read_to_string(saved.backup.unwrap()).unwrap(), "old");
        let left: Vec<_> = fs::read_dir(&keys).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 4, "{left:?}");
    }

    #[test]
    fn a_linked_folder_of_keys_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        let keys = places.keys.clone().unwrap();
        fs::create_dir_all(keys.parent().unwrap()).unwrap();
        let theirs = dir.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        symlink(&theirs, &keys).unwrap();
        let file = dir.path().join("sentrix.toml");
        assert!(matches!(write(&hostile(), &file, &places), Err(Failure::Refused(_))));
        assert!(!file.exists() && fs::read_dir(&theirs).unwrap().next().is_none());
    }

    #[test]
    fn places_follow_xdg_and_are_shown_short() {
        let at = |vars: &'static [(&str, &str)]| {
            Places::of(&move |name| {
                vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let home = at(&[("HOME", "/home/a")]);
        assert_eq!(home.short(home.user.as_deref().unwrap()), "~/.config/sentrix/sentrix.toml");
        assert_eq!(home.short(&home.here), "./sentrix.toml");
        let xdg = at(&[("HOME", "/home/a"), ("XDG_CONFIG_HOME", "/x")]);
        assert_eq!(xdg.short(xdg.keys.as_deref().unwrap()), "/x/sentrix/keys");
        let relative = at(&[("HOME", "/home/a"), ("XDG_CONFIG_HOME", "x")]);
        assert_eq!(relative.user, home.user);
        assert!(at(&[]).keys.is_none());
    }
}
