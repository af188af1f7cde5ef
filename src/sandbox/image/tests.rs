use super::*;

#[test]
fn the_context_is_the_same_each_time_and_needs_no_front_end() {
    assert_eq!(context(None), context(None));
    let names: Vec<String> = files().into_keys().collect();
    assert_eq!(
        names,
        ["Dockerfile", "entry.mjs", "install.sh", "seccomp.json", "selftest-tools.mjs", "selftest.mjs"]
    );
    let dockerfile = std::str::from_utf8(files()["Dockerfile"]).unwrap();
    assert!(!dockerfile.contains("syntax=") && !dockerfile.contains("--mount"));
    assert!(dockerfile.contains(&format!("ARG BASE_IMAGE={DEFAULT_BASE}")));
    assert!(dockerfile.contains(&format!("ARG OPENCLAW_VERSION={DEFAULT_OPENCLAW}")));
}

#[test]
fn steps_are_told_from_lines() {
    let info = |stream: &str| BuildInfo { stream: Some(stream.into()), ..BuildInfo::default() };
    let (events, fault) = heard(info("Step 3/12 : RUN sh x\n"));
    assert_eq!(events, [BuildEvent::Step { number: 3, of: 12, text: "RUN sh x".into() }]);
    assert_eq!(fault, None);
    let (events, _) = heard(info("\u{1b}[31mnpm\n\n"));
    assert_eq!(events, [BuildEvent::Line("npm".into())]);
}

#[test]
fn a_failure_says_what_to_do() {
    let options = BuildOptions::default();
    let said = why_it_failed("code 1", &["npm error code SELF_SIGNED_CERT_IN_CHAIN".into()], &options);
    assert!(said.contains("--ca-bundle"), "{said}");
    let said = why_it_failed("Get https://registry-1.docker.io/v2/: dial tcp: no such host", &[], &options);
    assert!(said.contains("node:24-bookworm-slim") && said.contains("--base-image"), "{said}");
}

#[test]
fn options_cannot_smuggle_anything_in() {
    let with = |change: &dyn Fn(&mut BuildOptions)| {
        let mut options = BuildOptions::default();
        change(&mut options);
        check(&options)
    };
    assert!(with(&|_| ()).is_ok());
    assert!(with(&|options| options.openclaw_version = "1; rm -rf /".into()).is_err());
    assert!(with(&|options| options.base_image = "--x".into()).is_err());
    assert!(with(&|options| options.image = "a b".into()).is_err());
    assert_eq!(split("localhost:5000/a"), ("localhost:5000/a", "latest"));
    assert_eq!(split("a/b:c"), ("a/b", "c"));
}

#[test]
fn what_differs_is_said() {
    let facts = ImageFacts {
        id: "i".into(),
        name: "n".into(),
        size_bytes: 1,
        openclaw: "2026.9.6".into(),
        integrity: String::new(),
        sentrix: "0.1.0".into(),
        base: String::new(),
        channel: String::new(),
        ca: false,
    };
    let hash = folder_hash();
    assert_eq!(stale(&facts, "1", &hash, &Wanted::default()), None);
    assert!(stale(&facts, "", &hash, &Wanted::default()).unwrap().contains("sentrix build"));
    assert!(stale(&facts, "1", "x", &Wanted::default()).unwrap().contains("0.1.0"));
    let wanted = Wanted { openclaw_version: Some("2026.10.1".into()), ..Wanted::default() };
    assert!(stale(&facts, "1", &hash, &wanted).unwrap().contains("2026.10.1 is wanted"));
    let wanted =
        Wanted { channels: [BakedChannel::Whatsapp, BakedChannel::Slack].into(), ..Wanted::default() };
    assert_eq!(stale(&facts, "1", &hash, &wanted).unwrap(), "it is without slack,whatsapp");
    let facts = ImageFacts { channel: "discord,slack,whatsapp".into(), ..facts };
    assert_eq!(stale(&facts, "1", &hash, &wanted), None);
}
