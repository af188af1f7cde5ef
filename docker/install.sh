#!/bin/sh
# Installs OpenClaw, and a channel's plugin where one is asked for; run once while the image is built, as root.
set -eu
here=/usr/local/share/sentrix
if [ -s "$here/ca.crt" ]; then
  export NODE_EXTRA_CA_CERTS="$here/ca.crt" npm_config_cafile="$here/ca.crt"
fi
# Install scripts stay off: npm 11 blocks them anyway, and what they bring is not needed.
npm install -g --ignore-scripts --no-audit --no-fund --loglevel=warn "openclaw@${OPENCLAW_VERSION}"
npm view "openclaw@${OPENCLAW_VERSION}" dist.integrity > "$here/integrity"
# Finishes the package once while its folder can be written; without it every start on a read-only root fails.
openclaw --version > "$here/version"
# Plugins that OpenClaw does not bring along, each in a folder of its own with what it needs; the configuration names them
# in plugins.load.paths. OpenClaw must not install them at its start: its root is read-only and the door is shut.
for channel in $(echo "${CHANNEL:-}" | tr ',' ' '); do
  case "$channel" in
    whatsapp | discord | slack | signal) package="@openclaw/$channel" ;;
    brave) package="@openclaw/brave-plugin" ;;
    *) echo "unknown channel $channel" >&2; exit 64 ;;
  esac
  OPENCLAW_STATE_DIR=/tmp/plugin openclaw plugins install "$package"
  mkdir -p "/opt/sentrix/plugins/$channel"
  mv /tmp/plugin/npm/projects/*/node_modules "/opt/sentrix/plugins/$channel/"
  rm -rf /tmp/plugin
  # A name that does not move: the package's own folder, reached without a link.
  test -f "/opt/sentrix/plugins/$channel/node_modules/$package/openclaw.plugin.json"
  chmod -R a+rX,go-w "/opt/sentrix/plugins/$channel"
done
npm cache clean --force >/dev/null 2>&1 || true
rm -rf /root/.npm /root/.openclaw /tmp/*
