// The hostile script: tries to get out of the container and writes what came of it, one JSON line a try:
//   {"id": "...", "result": "refused" | "succeeded" | "could-not-try", "how": "..."}
// Sentrix runs it in the running container, as the user that OpenClaw has, and judges by its lines alone. Nothing it does
// outlives it. The argument is JSON: {"egress": "door|open|none", "allowed": ["host", 443] | null, "pids": 256,
// "largest": bytes, "bomb": false}.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import dgram from 'node:dgram';
import dns from 'node:dns';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const ask = JSON.parse(process.argv[2] ?? '{}');
const STATE = '/home/node/.openclaw';
const WORK = path.join(STATE, '.sentrix-selftest');
const WAIT = 900;

const report = (id, result, how) =>
  process.stdout.write(`${JSON.stringify({ id, result, how: String(how).slice(0, 200) })}\n`);
const refused = (id, how) => report(id, 'refused', how);
const succeeded = (id, how) => report(id, 'succeeded', how);
const untried = (id, why) => report(id, 'could-not-try', why);

async function attempt(id, run) {
  try {
    await run();
  } catch (error) {
    untried(id, `the script failed: ${error.message}`);
  }
}

// --- network -----------------------------------------------------------------------------------------------------

// What comes of a TCP connection. A closed port answers too: whoever gets that has reached the machine.
const reach = (host, port) =>
  new Promise((done) => {
    const socket = net.connect({ host, port });
    const end = (outcome) => {
      socket.destroy();
      done(outcome);
    };
    socket.setTimeout(WAIT, () => end({ reached: false, how: 'no answer' }));
    socket.once('connect', () => end({ reached: true, how: 'connected' }));
    socket.once('error', (error) => end({ reached: error.code === 'ECONNREFUSED' || error.code === 'ECONNRESET', how: error.code }));
  });

async function direct(id, targets) {
  const outcomes = await Promise.all(targets.map(async ([host, port]) => ({ at: `${host}:${port}`, ...(await reach(host, port)) })));
  const out = outcomes.find((outcome) => outcome.reached);
  if (out) succeeded(id, `${out.at}: ${out.how}`);
  else refused(id, `${outcomes.length} tried: ${[...new Set(outcomes.map((outcome) => outcome.how))].join(', ')}`);
}

// Addresses at which this container could meet its host: its routes' gateways, and Docker's usual ones.
function hostAddresses() {
  const found = new Set(['172.17.0.1', '172.18.0.1', '192.168.65.1', '10.0.2.2']);
  try {
    for (const line of fs.readFileSync('/proc/net/route', 'utf8').split('\n').slice(1)) {
      const gateway = line.split('\t')[2];
      if (gateway && gateway !== '00000000') found.add(gateway.match(/../g).reverse().map((part) => parseInt(part, 16)).join('.'));
    }
  } catch {
    // No route at all.
  }
  return [...found];
}

const lookup = (id) =>
  new Promise((done) => {
    const resolver = new dns.promises.Resolver({ timeout: WAIT, tries: 1 });
    resolver.resolve4(`c2vudHJpeA.${process.pid}.sentrix-selftest.example.com`).then(
      (answer) => succeeded(id, `a name server answered ${answer}`),
      (error) => {
        if (['ENOTFOUND', 'ENODATA', 'ESERVFAIL', 'EREFUSED'].includes(error.code)) succeeded(id, `a name server answered ${error.code}: the label has left`);
        else refused(id, error.code);
      },
    ).finally(done);
  });

const datagram = (id) =>
  new Promise((done) => {
    const socket = dgram.createSocket('udp4');
    const end = (say, how) => {
      say(id, how);
      socket.close();
      done();
    };
    socket.on('error', (error) => end(refused, error.code));
    socket.send('sentrix', 53, '1.1.1.1', (error) => (error ? end(refused, error.code) : end(succeeded, 'a datagram was sent')));
  });

// --- the door ----------------------------------------------------------------------------------------------------

// Sends bytes to the door and gives what comes back until it closes, or for a while after the first bytes.
const door = (bytes, { then, wait = 2000 } = {}) =>
  new Promise((done) => {
    const socket = net.connect({ host: '127.0.0.1', port: 3128 });
    let got = Buffer.alloc(0);
    let second = false;
    const end = (closed) => {
      socket.destroy();
      const head = got.toString('latin1');
      const status = Number(/^HTTP\/1\.[01] (\d{3})/.exec(head)?.[1] ?? 0);
      done({ status, got, head, closed, second });
    };
    socket.setTimeout(wait, () => end(false));
    socket.once('connect', () => socket.write(bytes));
    socket.on('data', (part) => {
      got = Buffer.concat([got, part]).subarray(0, 1 << 20);
      const text = got.toString('latin1');
      const whole = text.indexOf('\r\n\r\n');
      if (whole < 0) return;
      if (then && !second) {
        if (!/^HTTP\/1\.[01] 200/.test(text)) return end(true);
        second = true;
        got = Buffer.alloc(0);
        socket.write(then);
      } else if (!then) end(true);
    });
    socket.on('error', () => end(true));
    socket.on('close', () => end(true));
  });

const connectTo = (target, more = '') => `CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n${more}\r\n`;
const getFrom = (url, host) => `GET ${url} HTTP/1.1\r\nHost: ${host ?? new URL(url).host}\r\nConnection: close\r\n\r\n`;

// The door refuses with 4xx. What failed behind it was let through.
function judge(id, what, answer) {
  if (answer.status === 503 && answer.head.includes('door of this sandbox is closed')) return untried(id, 'the door is closed');
  if (answer.status === 0) return answer.closed ? refused(id, `${what}: closed without an answer`) : untried(id, `${what}: the door says nothing`);
  if (answer.status >= 400 && answer.status < 500) return refused(id, `${what}: ${answer.status}`);
  return succeeded(id, `${what}: ${answer.status}`);
}

async function throughDoor(id, tries) {
  const answers = await Promise.all(tries.map(async ([what, bytes]) => [what, await door(bytes)]));
  const bad = answers.find(([, answer]) => answer.status >= 200 && answer.status < 400) ?? answers.find(([, answer]) => answer.status >= 500 && !(answer.status === 503 && answer.head.includes('door of this sandbox'))) ?? answers.find(([, answer]) => answer.status === 503) ?? answers[0];
  if (answers.every(([, answer]) => (answer.status >= 400 && answer.status < 500) || (answer.status === 0 && answer.closed))) {
    return refused(id, answers.map(([what, answer]) => `${what}: ${answer.status || 'closed'}`).join(', '));
  }
  return judge(id, bad[0], bad[1]);
}

// A TLS ClientHello for a name, as small as servers and proxies understand it.
function clientHello(name) {
  const u16 = (value) => Buffer.from([value >> 8, value & 255]);
  const vector = (bytes) => Buffer.concat([u16(bytes.length), bytes]);
  const extension = (kind, bytes) => Buffer.concat([u16(kind), vector(bytes)]);
  const host = Buffer.from(name, 'latin1');
  const extensions = vector(
    Buffer.concat([
      extension(0, vector(Buffer.concat([Buffer.from([0]), vector(host)]))),
      extension(10, vector(Buffer.concat([u16(29), u16(23)]))),
      extension(13, vector(Buffer.concat([u16(0x0403), u16(0x0804), u16(0x0401)]))),
      extension(43, Buffer.from([2, 3, 3])),
    ]),
  );
  const random = Buffer.alloc(32, 7);
  const body = Buffer.concat([u16(0x0303), random, Buffer.from([0]), vector(Buffer.concat([u16(0xc02b), u16(0xc02f), u16(0xc030)])), Buffer.from([1, 0]), extensions]);
  const handshake = Buffer.concat([Buffer.from([1, 0]), vector(body)]);
  return Buffer.concat([Buffer.from([22, 3, 1]), vector(handshake)]);
}

// In a tunnel to an allowed place, something else than TLS for that place. A server's hello or answer means it got there.
async function inTunnel(id, bytes, arrived) {
  if (!ask.allowed) return untried(id, 'nothing is allowed, so there is no tunnel to misuse');
  const [host, port] = ask.allowed;
  const answer = await door(connectTo(`${host}:${port}`), { then: bytes, wait: 4000 });
  if (!answer.second) {
    return answer.status >= 500 ? untried(id, `${host} cannot be reached from here: ${answer.status}`) : untried(id, `${host}: no tunnel, ${answer.status || 'closed'}`);
  }
  if (arrived(answer.got)) return succeeded(id, `what ${host} answers came back`);
  if (answer.closed) return refused(id, 'the tunnel was closed');
  return untried(id, 'the tunnel stayed open, and nothing came back');
}

// --- the kernel --------------------------------------------------------------------------------------------------

// A program that makes one system call and exits with its error number, 0 where the kernel took it. Arguments are numbers
// or strings, which become pointers.
function program(call, args) {
  const words = args.map((arg) => (typeof arg === 'string' ? Buffer.from(`${arg}\0`, 'latin1') : arg));
  const BASE = 0x400000n;
  const HEAD = 120;
  const x64 = process.arch === 'x64';
  const length = x64 ? 6 * 10 + 5 + 2 + 3 + 3 + 2 + 2 + 5 + 2 : 4 * (6 * 4 + 1 + 1 + 3 + 1 + 1);
  let tail = BASE + BigInt(HEAD + length + 8);
  const values = Array.from({ length: 6 }, (_, index) => {
    const word = words[index] ?? 0;
    if (!Buffer.isBuffer(word)) return BigInt.asUintN(64, BigInt(word));
    const at = tail;
    tail += BigInt(word.length);
    return at;
  });
  const le = (value, bytes) => {
    const out = Buffer.alloc(bytes);
    if (bytes === 8) out.writeBigUInt64LE(BigInt(value));
    else if (bytes === 4) out.writeUInt32LE(Number(value));
    else out.writeUInt16LE(Number(value));
    return out;
  };
  let code;
  if (x64) {
    const load = [[0x48, 0xbf], [0x48, 0xbe], [0x48, 0xba], [0x49, 0xba], [0x49, 0xb8], [0x49, 0xb9]];
    code = Buffer.concat([
      ...values.map((value, index) => Buffer.concat([Buffer.from(load[index]), le(value, 8)])),
      Buffer.from([0xb8]), le(call, 4), Buffer.from([0x0f, 0x05]),
      Buffer.from([0x48, 0x89, 0xc7, 0x48, 0xf7, 0xdf, 0x79, 0x02, 0x31, 0xff]),
      Buffer.from([0xb8]), le(60, 4), Buffer.from([0x0f, 0x05]),
    ]);
  } else {
    const moves = (register, value) =>
      [0, 1, 2, 3].map((part) => le(((part === 0 ? 0xd2800000 : 0xf2800000) | (part << 21) | (Number((value >> BigInt(16 * part)) & 0xffffn) << 5) | register) >>> 0, 4));
    const one = (register, value) => le((0xd2800000 | (value << 5) | register) >>> 0, 4);
    code = Buffer.concat([
      ...values.flatMap((value, register) => moves(register, value)), one(8, call), le(0xd4000001, 4),
      le(0xcb0003e0, 4), le(0xf100001f, 4), le(0x9a9fc000, 4), one(8, 93), le(0xd4000001, 4),
    ]);
  }
  const strings = Buffer.concat([Buffer.alloc(8), ...words.filter(Buffer.isBuffer)]);
  const size = HEAD + code.length + strings.length;
  const head = Buffer.concat([
    Buffer.from([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    le(2, 2), le(x64 ? 62 : 183, 2), le(1, 4), le(BASE + BigInt(HEAD), 8), le(64, 8), le(0, 8), le(0, 4), le(64, 2), le(56, 2), le(1, 2), le(0, 2), le(0, 2), le(0, 2),
    le(1, 4), le(7, 4), le(0, 8), le(BASE, 8), le(BASE, 8), le(size, 8), le(size, 8), le(0x1000, 8),
  ]);
  return Buffer.concat([head, code, strings]);
}

// [x64, arm64]
const CALLS = {
  mount: [165, 40], unshare: [272, 97], ptrace: [101, 117], keyctl: [250, 219], bpf: [321, 280], userfaultfd: [323, 282],
  io_uring_setup: [425, 425], finit_module: [313, 273], perf_event_open: [298, 241], open_by_handle_at: [304, 265],
  socket: [41, 198], mknodat: [259, 33], setns: [308, 268], kexec_load: [246, 104], chroot: [161, 51], clock_settime: [227, 112],
  prctl: [157, 167], process_vm_readv: [310, 270],
};
const ERRORS = { 1: 'EPERM', 2: 'ENOENT', 9: 'EBADF', 13: 'EACCES', 14: 'EFAULT', 22: 'EINVAL', 38: 'ENOSYS', 93: 'EPROTONOSUPPORT', 97: 'EAFNOSUPPORT' };

function systemCall(id, name, args) {
  const numbers = CALLS[name];
  const index = { x64: 0, arm64: 1 }[process.arch];
  if (index === undefined) return untried(id, `no program for ${process.arch}`);
  const file = path.join(WORK, id);
  fs.writeFileSync(file, program(numbers[index], args), { mode: 0o700 });
  const ran = spawnSync(file, { timeout: WAIT, stdio: 'ignore' });
  fs.rmSync(file, { force: true });
  if (ran.error) return untried(id, `the program cannot be run: ${ran.error.code}`);
  if (ran.signal) return ran.signal === 'SIGSYS' ? refused(id, `${name}: killed by the filter`) : untried(id, `the program ended by ${ran.signal}`);
  const said = `${name}: ${ran.status === 0 ? 'done' : (ERRORS[ran.status] ?? `error ${ran.status}`)}`;
  return [1, 13, 38, 97].includes(ran.status) ? refused(id, said) : succeeded(id, said);
}

// --- files and processes -----------------------------------------------------------------------------------------

// Each try throws where it is refused.
function files(id, tries) {
  const why = [];
  for (const [what, run] of tries) {
    try {
      run();
    } catch (error) {
      why.push(`${what}: ${error.code ?? error.message}`);
      continue;
    }
    return succeeded(id, what);
  }
  return refused(id, why.join(', '));
}

const writable = (file) => () => fs.closeSync(fs.openSync(file, 'r+'));
const readable = (file) => () => {
  const opened = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
  fs.closeSync(opened);
};
const creates = (folder) => () => {
  const file = path.join(folder, '.sentrix-selftest-file');
  fs.writeFileSync(file, 'x', { flag: 'wx' });
  fs.rmSync(file);
};
const sameMode = (file) => () => fs.chmodSync(file, fs.statSync(file).mode & 0o7777);

async function setuid() {
  const found = [];
  for (const folder of ['/usr/bin', '/usr/sbin', '/bin', '/usr/lib/openssh', '/usr/libexec']) {
    let names = [];
    try {
      names = fs.readdirSync(folder);
    } catch {
      continue;
    }
    for (const name of names) {
      const stat = fs.statSync(path.join(folder, name), { throwIfNoEntry: false });
      if (stat?.isFile() && stat.uid === 0 && stat.mode & 0o4000) found.push(path.join(folder, name));
    }
  }
  const su = found.find((file) => /\/(su|passwd|newgrp|chsh)$/.test(file));
  if (!su) return refused('setuid', 'no program in the image would change the user');
  // It waits for a password that never comes; meanwhile the kernel says whom it runs as.
  const child = spawn(su, [], { stdio: ['pipe', 'ignore', 'ignore'] });
  child.on('error', () => {});
  try {
    for (let tries = 0; tries < 40; tries += 1) {
      await sleep(5);
      const status = fs.readFileSync(`/proc/${child.pid}/status`, 'utf8');
      if (!/^Name:\s*node/m.test(status)) {
        const effective = /^Uid:\s+\d+\s+(\d+)/m.exec(status)[1];
        if (effective === '0' && process.getuid() !== 0) succeeded('setuid', `${su} runs as root`);
        else if (process.getuid() === 0) untried('setuid', 'root already');
        else refused('setuid', `${su} runs as ${effective}`);
        return;
      }
    }
    untried('setuid', `${su} did not start`);
  } catch {
    untried('setuid', `${su} ended at once`);
  } finally {
    child.kill('SIGKILL');
  }
}

function processes() {
  const read = (file) => {
    try {
      return fs.readFileSync(file, 'utf8').trim();
    } catch {
      return '';
    }
  };
  const limit = read('/sys/fs/cgroup/pids.max') || read('/sys/fs/cgroup/pids/pids.max');
  const now = read('/sys/fs/cgroup/pids.current') || read('/sys/fs/cgroup/pids/pids.current');
  if (!ask.bomb) {
    // A real bomb would take processes from OpenClaw while it starts; the tests throw one into a container without it.
    if (/^\d+$/.test(limit) && Number(limit) <= ask.pids) return refused('fork-bomb', `the kernel stops at ${limit}, ${now} run now`);
    if (limit) return succeeded('fork-bomb', `the limit is ${limit}`);
    return untried('fork-bomb', 'the limit cannot be seen from inside');
  }
  const want = ask.pids + 80;
  const ran = spawnSync('/bin/sh', ['-c', `i=0; while [ $i -lt ${want} ]; do sleep 3 & i=$((i+1)); done; exit 0`], { timeout: 8000, encoding: 'utf8' });
  if (ran.status === 0) return succeeded('fork-bomb', `${want} processes were started`);
  return refused('fork-bomb', `stopped before ${want}: ${(ran.stderr ?? '').trim().split('\n')[0] || ran.error?.code}`);
}

function fill() {
  const folder = fs.mkdtempSync('/tmp/sentrix-selftest-');
  const file = path.join(folder, 'fill');
  const part = Buffer.alloc(8 << 20, 1);
  const most = 300 << 20;
  let written = 0;
  try {
    const opened = fs.openSync(file, 'w');
    try {
      while (written < most) written += fs.writeSync(opened, part);
    } finally {
      fs.closeSync(opened);
    }
    succeeded('disk-fill', `${written >> 20} MiB of /tmp were taken`);
  } catch (error) {
    if (['ENOSPC', 'EDQUOT', 'EFBIG'].includes(error.code)) refused('disk-fill', `${error.code} after ${written >> 20} MiB`);
    else untried('disk-fill', error.code);
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

function largeFile() {
  const file = path.join(WORK, 'large');
  const opened = fs.openSync(file, 'w');
  try {
    fs.ftruncateSync(opened, ask.largest + 1);
    succeeded('file-size', `a file of ${ask.largest + 1} bytes`);
  } catch (error) {
    if (error.code === 'EFBIG') refused('file-size', `EFBIG over ${ask.largest} bytes`);
    else untried('file-size', error.code);
  } finally {
    fs.closeSync(opened);
    fs.rmSync(file, { force: true });
  }
}

function temporary() {
  const file = `/tmp/sentrix-selftest-${process.pid}`;
  fs.writeFileSync(file, program(process.arch === 'x64' ? 60 : 93, [0]), { mode: 0o700 });
  const ran = spawnSync(file, { timeout: WAIT });
  fs.rmSync(file, { force: true });
  if (ran.error?.code === 'EACCES') refused('tmp-exec', 'EACCES');
  else if (ran.error) untried('tmp-exec', ran.error.code);
  else succeeded('tmp-exec', 'a program in /tmp ran');
}

function privileges() {
  const status = fs.readFileSync('/proc/self/status', 'utf8');
  const field = (name) => new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(status)?.[1];
  const caps = ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'].filter((name) => !/^0+$/.test(field(name) ?? ''));
  if (caps.length) succeeded('capabilities', caps.map((name) => `${name} ${field(name)}`).join(', '));
  else refused('capabilities', 'none in any set');
  if (field('NoNewPrivs') === '1') refused('new-privileges', 'they stay off');
  else succeeded('new-privileges', `NoNewPrivs is ${field('NoNewPrivs')}`);
  if (process.getuid() === 0 && !ask.rootless) succeeded('root', 'processes run as root');
  else refused('root', `processes run as ${process.getuid()}`);
  systemCallQuietly('prctl', [22, 0]);
  if (field('Seccomp') === '2') refused('seccomp-off', 'the filter stays on');
  else succeeded('seccomp-off', `Seccomp is ${field('Seccomp')}`);
}

function systemCallQuietly(name, args) {
  const index = { x64: 0, arm64: 1 }[process.arch];
  if (index === undefined) return;
  const file = path.join(WORK, 'quiet');
  fs.writeFileSync(file, program(CALLS[name][index], args), { mode: 0o700 });
  spawnSync(file, { timeout: WAIT, stdio: 'ignore' });
  fs.rmSync(file, { force: true });
}

function init() {
  const comm = (pid) => {
    try {
      return fs.readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
    } catch {
      return '';
    }
  };
  if (comm(2) === 'kthreadd' || ['systemd', 'init'].includes(comm(1))) return succeeded('proc-1', `process 1 is ${comm(1)}: the host's processes are seen`);
  return refused('proc-1', `process 1 is the container's own ${comm(1)}`);
}

// --- all of it ---------------------------------------------------------------------------------------------------

fs.rmSync(WORK, { recursive: true, force: true });
fs.mkdirSync(WORK, { recursive: true, mode: 0o700 });

const networks = [
  attempt('direct-ip', () => direct('direct-ip', [['1.1.1.1', 443], ['8.8.8.8', 53]])),
  attempt('direct-ipv6', () => direct('direct-ipv6', [['2606:4700:4700::1111', 443]])),
  attempt('metadata', () => direct('metadata', [['169.254.169.254', 80], ['169.254.170.2', 80]])),
  attempt('host-ports', () => direct('host-ports', hostAddresses().flatMap((host) => [22, 80, 443, 2375, 3128, 18789].map((port) => [host, port])))),
  attempt('dns-label', () => lookup('dns-label')),
  attempt('udp', () => datagram('udp')),
  attempt('interfaces', () => {
    const others = Object.entries(os.networkInterfaces()).filter(([, all]) => all.some((one) => !one.internal)).map(([name]) => name);
    if (others.length) succeeded('interfaces', `there is ${others.join(', ')}`);
    else refused('interfaces', 'only loopback');
  }),
];
if (ask.egress === 'door') {
  const evil = 'sentrix-selftest.example.com';
  const tunnelled = (bytes) => bytes.length > 0 && bytes[0] === 22;
  networks.push(
    attempt('door-http', () => throughDoor('door-http', [[`http://${evil}/`, getFrom(`http://${evil}/`)]])),
    attempt('door-connect', () => throughDoor('door-connect', [[`${evil}:443`, connectTo(`${evil}:443`)]])),
    attempt('door-ip', () => throughDoor('door-ip', [['1.1.1.1:443', connectTo('1.1.1.1:443')], ['http://1.1.1.1/', getFrom('http://1.1.1.1/')]])),
    attempt('door-ipv6', () => throughDoor('door-ipv6', [['[2606:4700:4700::1111]:443', connectTo('[2606:4700:4700::1111]:443')], ['[::1]:22', connectTo('[::1]:22')]])),
    attempt('door-metadata', () => throughDoor('door-metadata', [['169.254.169.254:80', connectTo('169.254.169.254:80')], ['http://169.254.169.254/', getFrom('http://169.254.169.254/latest/meta-data/')]])),
    attempt('door-loopback', () => throughDoor('door-loopback', [['127.0.0.1:22', connectTo('127.0.0.1:22')], ['localhost:22', connectTo('localhost:22')], ['host.sentrix.internal:22', connectTo('host.sentrix.internal:22')]])),
    attempt('door-disguise', () => throughDoor('door-disguise', [['2130706433:80', connectTo('2130706433:80')], ['0x7f.1:80', connectTo('0x7f.1:80')], ['127.1:80', connectTo('127.1:80')], ['[::ffff:127.0.0.1]:80', connectTo('[::ffff:127.0.0.1]:80')]])),
    attempt('door-host-header', () => throughDoor('door-host-header', [[`Host ${evil}`, ask.allowed ? getFrom(`http://${ask.allowed[0]}/`, evil) : getFrom(`http://${evil}/`, 'localhost')]])),
    attempt('door-port', () => (ask.allowed ? throughDoor('door-port', [[`${ask.allowed[0]}:22`, connectTo(`${ask.allowed[0]}:22`)]]) : throughDoor('door-port', [[`${evil}:22`, connectTo(`${evil}:22`)]]))),
    attempt('door-sni', () => inTunnel('door-sni', clientHello(evil), tunnelled)),
    attempt('door-nested', () => inTunnel('door-nested', connectTo(`${evil}:443`), (bytes) => /^HTTP\/1\.[01] 2/.test(bytes.toString('latin1')) || (!/^HTTP\//.test(bytes.toString('latin1')) && tunnelled(bytes)))),
  );
}

await attempt('setuid', setuid);
await attempt('privileges', privileges);
await attempt('proc-1', init);
await attempt('fork-bomb', processes);
await attempt('disk-fill', fill);
await attempt('file-size', largeFile);
await attempt('tmp-exec', temporary);
await attempt('engine-socket', () => files('engine-socket', ['/var/run/docker.sock', '/run/docker.sock', '/run/containerd/containerd.sock', '/run/podman/podman.sock'].map((file) => [file, () => fs.statSync(file)])));
await attempt('devices', () => files('devices', ['/dev/mem', '/dev/kmem', '/dev/kmsg', '/dev/sda', '/dev/vda', '/dev/nvme0n1', '/dev/fuse', '/dev/kvm'].map((file) => [file, readable(file)])));
await attempt('kernel-files', () => files('kernel-files', ['/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', '/sys/kernel/uevent_helper', '/sys/fs/cgroup/release_agent', '/sys/fs/cgroup/cgroup.procs', '/proc/sys/kernel/hostname'].map((file) => [file, writable(file)])));
await attempt('kernel-memory', () => files('kernel-memory', ['/proc/kcore', '/proc/keys', '/proc/timer_list', '/sys/firmware/dmi/tables/DMI'].map((file) => [file, () => { if (fs.readFileSync(file, { flag: 'r' }).length > 0) return; throw new Error('empty'); }])));
await attempt('root-write', () => files('root-write', [['/home/node', creates('/home/node')], ['/usr/local/lib/node_modules/openclaw', creates('/usr/local/lib/node_modules/openclaw')], ['/opt/sentrix', creates('/opt/sentrix')], ['/etc', creates('/etc')]]));
await attempt('config-write', () => files('config-write', [['mode of openclaw.json', sameMode('/etc/openclaw/openclaw.json')], ['open openclaw.json', writable('/etc/openclaw/openclaw.json')], ['beside openclaw.json', creates('/etc/openclaw')]]));
await attempt('secrets-write', () => files('secrets-write', [['mode of secrets', sameMode('/run/sentrix/secrets')], ['in secrets', creates('/run/sentrix/secrets')]]));
if (ask.egress === 'door') await attempt('door-replace', () => files('door-replace', [['beside the socket', creates('/run/sentrix/door')], ['mode of the folder', sameMode('/run/sentrix/door')]]));

const calls = [
  ['raw-socket', 'socket', [2, 3, 1]],
  ['packet-socket', 'socket', [17, 3, 768]],
  ['vsock', 'socket', [40, 1, 0]],
  ['mount', 'mount', ['none', '/tmp', 'tmpfs', 0, 0]],
  ['unshare', 'unshare', [0x10000000]],
  ['setns', 'setns', [-1, 0]],
  ['ptrace', 'ptrace', [0, 0, 0, 0]],
  ['peek', 'process_vm_readv', [1, 0, 0, 0, 0, 0]],
  ['keyctl', 'keyctl', [0, -3, 0]],
  ['bpf', 'bpf', [0, '\0'.repeat(127), 120]],
  ['userfaultfd', 'userfaultfd', [1]],
  ['io-uring', 'io_uring_setup', [1, '\0'.repeat(127)]],
  ['module', 'finit_module', [-1, '', 0]],
  ['perf', 'perf_event_open', ['\0'.repeat(127), 0, -1, -1, 0]],
  ['handle', 'open_by_handle_at', [-1, '\0'.repeat(31), 0]],
  ['device-node', 'mknodat', [-100, path.join(WORK, 'node'), 0o60600, 2049]],
  ['kexec', 'kexec_load', [0, 17, 0, 0]],
  ['chroot', 'chroot', ['/tmp']],
];
for (const [id, name, args] of calls) await attempt(id, () => systemCall(id, name, args));
await Promise.all(networks);

fs.rmSync(WORK, { recursive: true, force: true });
process.exit(0);
