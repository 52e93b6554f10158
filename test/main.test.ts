// The process, as it is started: what it says, what it refuses to start with, and how it ends.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { Agent, type ClientRequest, type IncomingMessage, request } from 'node:http';
import { request as requestTls, Agent as TlsAgent } from 'node:https';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { digestOf } from '../src/oci/digest.ts';

const MAIN = join(import.meta.dirname, '../src/main.ts');

let folder: string;
let children: ChildProcess[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veneer-main-'));
  children = [];
});

afterEach(async () => {
  for (const child of children) child.kill('SIGKILL');
  await rm(folder, { recursive: true });
});

/** In the folder, on a free port. */
function start(...args: readonly string[]) {
  const { VENEER_CONFIG: _, VENEER_DATA_DIR: __, VENEER_LOG: ___, ...env } = process.env;
  const options = { cwd: folder, env: { ...env, VENEER_LISTEN: '127.0.0.1:0' }, stdio: 'pipe' } as const;
  const child = spawn(process.execPath, [MAIN, ...args], options);
  children.push(child);
  return child;
}

/** Runs to its end. */
async function run(...args: readonly string[]) {
  const child = start(...args);
  const [out, err, [exitCode]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'exit')]);
  return { out, err, exitCode };
}

/** A service that listens, and its lines so far. */
async function startService(...args: readonly string[]) {
  const child = start(...args);
  const lines: string[] = [];
  let rest = '';
  const find = async (pattern: RegExp): Promise<string> => {
    for (;;) {
      const found = lines.find(line => pattern.test(line));
      if (found) return found;
      await once(child.stdout, 'data');
    }
  };
  child.stdout.on('data', chunk => {
    const parts = `${rest}${chunk}`.split('\n');
    rest = parts.pop() ?? '';
    lines.push(...parts);
  });
  const port = Number(/http:\/\/127\.0\.0\.1:(\d+)/.exec(await find(/listening/))?.[1]);
  return { child, port, find, lines };
}

async function answerOf(sent: ClientRequest): Promise<IncomingMessage> {
  const [response] = await once(sent, 'response');
  response.resume();
  return response;
}

describe('a start', () => {
  test('without configuration says in one line where it listens, where data lies, and what to try', async () => {
    const { find, port } = await startService();
    expect(JSON.parse(await find(/listening/)).msg).toBe(
      `listening on http://127.0.0.1:${port}, data in ${join(folder, '.veneer')}; try: docker pull 127.0.0.1:${port}/library/alpine:3`,
    );
    expect(await find(/access is open/)).toContain('anyone on this machine may pull, push and delete');
  });

  test('keeps what it writes from other users of the machine', async () => {
    await mkdir(join(folder, '.veneer'), { mode: 0o755 });
    await startService();
    const modes = (await readdir(join(folder, '.veneer'))).map(
      async name => (await stat(join(folder, '.veneer', name))).mode & 0o077,
    );
    expect(new Set(await Promise.all(modes))).toEqual(new Set([0]));
  });

  test('lists every fault of the configuration', async () => {
    await writeFile(join(folder, 'veneer.yaml'), 'lissen: 1\ntokens: { ttl: 3 }\n');
    const { err, exitCode } = await run();
    expect([err.split('\n'), exitCode]).toEqual([
      [
        'invalid configuration:',
        '  veneer.yaml:1: lissen: unknown key; did you mean listen?',
        '  veneer.yaml:2: tokens.ttl: expected a duration such as 30s, 5m, 36h or 7d',
        '',
      ],
      1,
    ]);
  });

  test('names the line of YAML that is broken', async () => {
    await writeFile(join(folder, 'veneer.yaml'), 'listen: 127.0.0.1:0\nfoo: bar: baz\n');
    const { err, exitCode } = await run();
    expect([err, exitCode]).toEqual([expect.stringMatching(/^invalid configuration:\n {2}veneer\.yaml:2: .+\n$/), 1]);
  });

  test('is refused where another Veneer has the data directory, and leaves that one alone', async () => {
    const { port } = await startService();
    const { err, exitCode } = await run();
    expect([err, exitCode]).toEqual([
      `another Veneer process is using ${join(folder, '.veneer')}: stop it first, or name another data directory\n`,
      1,
    ]);
    expect((await fetch(`http://127.0.0.1:${port}/health/ready`)).status).toBe(200);
  });

  test.each([
    ['a file', 'taken', /^cannot use \/.*\/taken: it is a file; expected a directory\n$/],
    ['below a file', 'taken/data', /^cannot use \/.*\/taken\/data: ENOTDIR.*\n$/],
    [
      'one with records that are none',
      'other',
      /^cannot use \/.*\/other\/records\.db: it is damaged, .*\(file is not a database\): .*veneer restore.*\n$/,
    ],
  ])('is refused where the data directory is %s', async (_, directory, message) => {
    await writeFile(join(folder, 'taken'), '');
    await mkdir(join(folder, 'other'));
    await writeFile(join(folder, 'other/records.db'), 'notes, and not a few of them\n'.repeat(100));
    const { err, exitCode } = await run('--data-dir', directory);
    expect([err, exitCode]).toEqual([expect.stringMatching(message), 1]);
  });

  test('is refused where the port is taken', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = Object(other.address());
    const { err, exitCode } = await run('--listen', `127.0.0.1:${port}`);
    other.close();
    expect([err, exitCode]).toEqual([
      expect.stringMatching(new RegExp(`^cannot listen on 127\\.0\\.0\\.1:${port}: .*address already in use.*\n$`)),
      1,
    ]);
  });
});

describe('SIGTERM', () => {
  const blob = Buffer.from('0123456789'.repeat(1000));

  /** A push of a blob, half of which is sent. */
  async function startPush(port: number) {
    const path = `/v2/local/app/blobs/uploads/?digest=${digestOf(blob)}`;
    const agent = new Agent({ keepAlive: true });
    const headers = { 'Content-Length': blob.byteLength, Expect: '100-continue' };
    const sent = request({ port, host: '127.0.0.1', method: 'POST', path, headers, agent });
    await once(sent, 'continue');
    sent.write(blob.subarray(0, 5000));
    return sent;
  }

  test('ends the process, a connection that is kept alive notwithstanding', async () => {
    const { child, port, find } = await startService();
    const agent = new Agent({ keepAlive: true });
    await answerOf(request({ port, host: '127.0.0.1', path: '/health/live', agent }).end());
    child.kill('SIGTERM');
    await find(/stopped/);
    expect(child.exitCode ?? (await once(child, 'exit'))[0]).toBe(0);
    agent.destroy();
  });

  test('lets a push come to its end, takes no other, and keeps what was pushed', async () => {
    const first = await startService();
    const push = await startPush(first.port);
    first.child.kill('SIGTERM');
    await first.find(/draining/);
    await expect(fetch(`http://127.0.0.1:${first.port}/v2/`)).rejects.toThrow('fetch failed');
    push.end(blob.subarray(5000));
    expect((await answerOf(push)).statusCode).toBe(201);
    if (first.child.exitCode === null) await once(first.child, 'exit');
    const { port } = await startService();
    expect((await fetch(`http://127.0.0.1:${port}/v2/local/app/blobs/${digestOf(blob)}`)).status).toBe(200);
  });

  test('cuts a push that takes longer than the grace time, and leaves in order', async () => {
    await writeFile(join(folder, 'veneer.yaml'), 'shutdownGrace: 100ms\n');
    const { child, port, find } = await startService();
    const push = await startPush(port);
    const broken = once(push, 'error');
    child.kill('SIGTERM');
    expect((await broken)[0].code).toBe('ECONNRESET');
    await find(/stopped/);
    expect(child.exitCode ?? (await once(child, 'exit'))[0]).toBe(0);
  });
});

test.each([
  [['--help'], /Usage: veneer .*\n.*--listen.*\n {2}token .*\n {2}gc /s],
  [['token', '--help'], /Usage: veneer token .*create.*list.*revoke/s],
  [['token', 'create', '--help'], /Usage: veneer token create .*--ttl/s],
  [['gc', '--help'], /Usage: veneer gc .*--dry-run/s],
])('%j explains itself', async (args, help) => {
  const { out, exitCode } = await run(...args);
  expect([out, exitCode]).toEqual([expect.stringMatching(help), 0]);
});

test.each([
  [['--lisen', 'x'], "error: unknown option '--lisen'"],
  [['tokens'], "error: unknown command 'tokens'\n(Did you mean token?)"],
  [['gc'], 'error: there is no registry in '],
  [['token', 'list', '--data-dir', 'nowhere'], 'error: '],
])('%j is refused, and starts nothing', async (args, message) => {
  const { err, exitCode } = await run(...args);
  expect([err, exitCode]).toEqual([expect.stringContaining(message), 1]);
  expect(await readdir(folder)).toEqual([]);
});

test('serves over TLS of its own, reads the files again at SIGHUP, and ends in order', async () => {
  const use = async (name: string) => {
    for (const end of ['pem', 'key'])
      await copyFile(join(import.meta.dirname, `../fixtures/certificates/${name}.${end}`), join(folder, `tls.${end}`));
  };
  await use('server');
  await writeFile(join(folder, 'veneer.yaml'), 'tls: { cert: tls.pem, key: tls.key }\n');
  const { child, find } = await startService();
  const port = Number(/https:\/\/127\.0\.0\.1:(\d+)/.exec(await find(/listening on https/))?.[1]);
  const agent = new TlsAgent({ keepAlive: true, rejectUnauthorized: false });
  const ask = () => answerOf(requestTls({ port, host: '127.0.0.1', path: '/v2/', agent }).end());
  expect((await ask()).statusCode).toBe(200);
  await use('expired');
  child.kill('SIGHUP');
  await find(/the TLS certificate was reloaded/);
  await writeFile(join(folder, 'tls.key'), 'none');
  child.kill('SIGHUP');
  await find(/the changed TLS files cannot be used: the previous ones stay/);
  expect((await ask()).statusCode).toBe(200);
  child.kill('SIGTERM');
  await find(/stopped/);
  expect(child.exitCode ?? (await once(child, 'exit'))[0]).toBe(0);
  agent.destroy();
});

test('a reader of the log that pauses delays no request, and misses no line', async () => {
  const { child, find, lines, port } = await startService();
  child.stdout.pause();
  // Lines of more than a pipe and the buffers of its reader hold.
  const agent = new Agent({ keepAlive: true, maxSockets: 16 });
  const path = `/v2/${'a'.repeat(1000)}`;
  const ask = async () => {
    const response = await answerOf(request({ port, path, agent, headers: { 'User-Agent': 'a'.repeat(256) } }).end());
    if (!response.complete) await once(response, 'end');
  };
  await Promise.all(Array.from({ length: 400 }, ask));
  agent.destroy();
  expect(lines.filter(line => line.includes(path))).toEqual([]);
  child.kill('SIGTERM');
  child.stdout.resume();
  await find(/stopped/);
  if (child.exitCode === null) await once(child, 'exit');
  expect(lines.filter(line => JSON.parse(line).path === path)).toHaveLength(400);
});

test('a command whose reader has left says nothing of it', async () => {
  const child = start('mirror-config', 'podman', '--address', 'http://localhost:8080');
  child.stdout.destroy();
  const [err, [exitCode]] = await Promise.all([text(child.stderr), once(child, 'exit')]);
  expect([err, exitCode]).toEqual([expect.not.stringMatching(/EPIPE|node:/), 0]);
});

test('SIGHUP reads the rules again, and a faulty file ends nothing', async () => {
  const { child, find, port } = await startService();
  const rule = { name: 'one', match: { image: '**' }, env: { A: '1' } };
  await writeFile(join(folder, 'veneer.yaml'), JSON.stringify({ rules: [rule] }));
  child.kill('SIGHUP');
  expect(JSON.parse(await find(/the rules have changed"/)).rules).toEqual(['one']);
  await writeFile(join(folder, 'veneer.yaml'), JSON.stringify({ rules: [{ ...rule, env: {} }] }));
  child.kill('SIGHUP');
  expect(JSON.parse(await find(/the previous ones stay/)).faults).toEqual([
    expect.stringContaining('rules.0: changes nothing'),
  ]);
  await rm(join(folder, 'veneer.yaml'));
  child.kill('SIGHUP');
  await find(
    /the previous ones stay.*cannot read veneer\.yaml \(ENOENT\)|cannot read veneer\.yaml \(ENOENT\).*the previous ones stay/,
  );
  const response = await answerOf(request({ port, path: '/v2/' }).end());
  expect(response.statusCode).toBe(200);
});
