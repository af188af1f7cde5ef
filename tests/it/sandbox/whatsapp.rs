//! A channel whose plugin is baked into the image: OpenClaw loads it from there, and its login goes by the door.

use std::time::Duration;

use sentrix::openclaw::config::{Channel, ChannelKind};
use sentrix::sandbox::{BakedChannel, ContainerSpec, ImageState, Wanted};

use super::stand_in::{self, Mood};
use super::{Box_, engine};

#[tokio::test]
async fn openclaw_loads_whatsapp_from_the_image_and_its_login_goes_by_the_door() {
    let Some((engine, image)) = engine().await else { return };
    let wanted = Wanted { channels: [BakedChannel::Whatsapp].into(), ..Wanted::default() };
    let there = engine.image(&image, &wanted).await.unwrap();
    assert!(matches!(there, ImageState::Current(_)), "{there:?}: run tests/run, which bakes it in");
    let it = Box_::new(engine, "whatsapp");
    let channel = Channel { kind: ChannelKind::WhatsApp, secrets: [].into(), allow_from: Vec::new() };
    it.configure_with(|settings| settings.channels.push(channel), |_| {});
    let seen = stand_in::open(&it.layout.door_socket(), Mood::Strict);
    it.up(&ContainerSpec::new(image)).await;
    eprintln!("ready after {:?}", it.ready().await);
    let mut lines = Vec::new();
    let command = ["openclaw", "channels", "login", "--channel", "whatsapp"];
    let code = it
        .engine
        .talk(&it.name, &command, 100, Duration::from_secs(90), |line| {
            lines.push(line.to_owned());
        })
        .await;
    // This door lets nothing through: the login says so, and nothing else stopped it before.
    assert_eq!(code.unwrap(), 1, "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("Waiting for WhatsApp")), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("403 Forbidden")), "{lines:?}");
    let seen = seen.lock().unwrap();
    assert!(seen.iter().any(|(head, _)| head.starts_with("CONNECT web.whatsapp.com:443")), "{seen:?}");
}
