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
case "${CHANNEL:-}" in
  "") ;;
  whatsapp)
    # A state folder of the image: `run` copies nothing, the plugin is loaded from here.
    mkdir -p /opt/sentrix/channels
    OPENCLAW_STATE_DIR=/opt/sentrix/channels openclaw plugins install "@openclaw/whatsapp"
    chmod -R a+rX /opt/sentrix/channels
    ;;
  *) echo "unknown channel ${CHANNEL}" >&2; exit 64 ;;
esac
npm cache clean --force >/dev/null 2>&1 || true
rm -rf /root/.npm /root/.openclaw /tmp/*
