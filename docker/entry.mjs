// Runs inside the container, under docker-init, as the one way in and out:
//   127.0.0.1:3128                      -> /run/sentrix/door/door.sock       (Sentrix's forward proxy on the host)
//   /run/sentrix/gateway/gateway.sock   -> 127.0.0.1:18789                   (OpenClaw's gateway)
// and starts OpenClaw, whose exit code is this program's. SENTRIX_ENTRY=relays starts the relays alone, for tests.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';

const DOOR = '/run/sentrix/door/door.sock';
const GATEWAY = '/run/sentrix/gateway/gateway.sock';
const RAW = '/run/sentrix/raw/raw.jsonl';
const DOOR_PORT = 3128;
const GATEWAY_PORT = 18789;
const MOST_CONNECTIONS = 512;
const CONNECT_MS = 10_000;

const absent =
  'The door of this sandbox is closed: Sentrix is not running or has not opened it. Nothing leaves until it does; do not try another way.\n';
const closed = `HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(absent)}\r\nConnection: close\r\n\r\n${absent}`;

const say = (line) => process.stderr.write(`sentrix-entry: ${line}\n`);

// Joins two sockets. An end of one direction is passed on and leaves the other direction open; an error closes both.
function join(near, far, refuse) {
  let met = false;
  const late = setTimeout(() => far.destroy(new Error('timed out')), CONNECT_MS);
  far.once('connect', () => {
    met = true;
    clearTimeout(late);
    near.pipe(far);
    far.pipe(near);
  });
  far.on('error', () => {
    clearTimeout(late);
    if (!met && refuse && !near.destroyed) {
      near.end(refuse);
      near.resume();
    } else near.destroy();
  });
  near.on('error', () => far.destroy());
  near.on('close', () => {
    clearTimeout(late);
    far.destroy();
  });
  far.on('close', () => {
    if (met) near.destroySoon();
  });
}

function serve(name, options, listen, far, refuse) {
  return new Promise((ready) => {
    const server = net.createServer({ allowHalfOpen: true, noDelay: true, ...options }, (near) => join(near, far(), refuse));
    server.maxConnections = MOST_CONNECTIONS;
    server.on('error', (error) => {
      say(`${name}: ${error.message}`);
      process.exit(74);
    });
    server.listen(listen, ready);
  });
}

const noDoor = process.env.SENTRIX_EGRESS && process.env.SENTRIX_EGRESS !== 'door';
if (!noDoor) {
  await serve('door', {}, { port: DOOR_PORT, host: '127.0.0.1' }, () => net.connect({ path: DOOR, allowHalfOpen: true }), closed);
}
fs.rmSync(GATEWAY, { force: true });
await serve('gateway', {}, { path: GATEWAY, readableAll: false }, () =>
  net.connect({ port: GATEWAY_PORT, host: '127.0.0.1', allowHalfOpen: true, noDelay: true }),
);
fs.chmodSync(GATEWAY, 0o600);

if (process.env.SENTRIX_ENTRY === 'relays') {
  say('relays only');
  for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(0));
} else {
  const openclaw = spawn(
    'openclaw',
    ['gateway', 'run', '--raw-stream', '--raw-stream-path', RAW, '--port', String(GATEWAY_PORT)],
    { stdio: ['ignore', 'inherit', 'inherit'] },
  );
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2']) {
    process.on(signal, () => openclaw.kill(signal));
  }
  openclaw.on('error', (error) => {
    say(`openclaw cannot be started: ${error.message}`);
    process.exit(127);
  });
  openclaw.on('exit', (code, signal) => {
    if (signal) say(`openclaw ended by ${signal}`);
    process.exit(code ?? 128 + (signal === 'SIGKILL' ? 9 : 15));
  });
}
