// What a person at the prompt of each engine reads when a pull fails: the tables of docs/prompt.md, row by row.

import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { basic } from '../access/fixture.ts';
import { clientPath, findMissing } from './support/clients.ts';
import { startContainerd, startDocker } from './support/daemons.ts';
import { CAUSES, type Cause, type FailingPulls, startFailingPulls, USER } from './support/failing-pulls.ts';
import { type Running, run } from './support/process.ts';

interface Engine extends Running {
  /** Everything that it prints. */
  pull(image: string, cause: Cause): Promise<string>;
}

interface EngineKind {
  readonly commands: readonly string[];
  readonly start: (folder: string, closed: string) => Promise<Engine>;
}

/** By the headings of the table. */
const ENGINES: Readonly<Record<string, EngineKind>> = {
  'docker 20.10': { commands: ['dockerd', 'docker'], start: (...args) => startDockerEngine('dockerd', ...args) },
  'containerd 1.6': { commands: ['containerd', 'ctr'], start: folder => startCtr({}, folder) },
  'containerd 2.4': {
    commands: ['containerd-2', 'ctr-2'],
    start: folder => startCtr({ daemon: clientPath('containerd-2'), client: clientPath('ctr-2') }, folder),
  },
  'podman 4.3': { commands: ['podman'], start: startPodman },
};
/** In a cell; all else is what the engine prints instead. */
const [WHOLE, NOTHING] = ['the reason', 'nothing for minutes'];
/** Some wait for minutes before they tell. */
const PATIENCE_MS = 20_000;
const KNOWN: Cause = 'the caller lacks the right';
const tokenSchema = z.object({ token: z.string() });
const errorSchema = z.object({ errors: z.array(z.object({ message: z.string() })) });

const rows = await readTable();
let folder = '';
let pulls: FailingPulls;

describe('docs/prompt.md', { timeout: 120_000 }, () => {
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'veneer-prompt-'));
    pulls = await startFailingPulls(folder);
  }, 180_000);

  afterAll(async () => {
    await pulls?.stop();
    await rm(folder, { recursive: true, force: true });
  }, 60_000);

  test('has a row for each cause', () => {
    expect([...rows.keys()]).toEqual(CAUSES);
  });

  test.each(CAUSES)(
    '%s: the status and the reason are those of the table, and the reason is the phrase, too',
    async cause => {
      const { status, reason } = rowOf(cause);
      const answer = await pulls.whileFailing(cause, image => ask(image, cause));
      expect([String(answer.status), neutral(answer.message)]).toEqual([status, reason]);
      if (answer.status < 400) return;
      expect(answer.phrase).toBe(answer.message);
    },
  );

  describe.each(Object.entries(ENGINES))('%s', (name, { commands, start }) => {
    const missing = findMissing(commands);

    describe.skipIf(missing)(`shows${missing ? ` (${missing})` : ''}`, () => {
      let engine: Engine;

      beforeAll(async () => {
        engine = await start(await mkdtemp(join(folder, 'engine-')), pulls.closed);
      }, 120_000);

      afterAll(() => engine?.stop(), 60_000);

      test.each(CAUSES)('what the table says when %s', async cause => {
        const row = rowOf(cause);
        const shown = neutral(await pulls.whileFailing(cause, image => engine.pull(image, cause)));
        if (row[name] === WHOLE) return expect(shown).toContain(row.reason);
        if (row.reason !== '') expect(shown).not.toContain(row.reason);
        if (row[name] !== NOTHING) expect(shown).toContain(row[name]?.replace(/^`|`$/g, ''));
      });
    });
  });
});

type Row = Readonly<Record<string, string>> & { readonly status: string; readonly reason: string };

function rowOf(cause: Cause): Row {
  const row = rows.get(cause);
  if (!row) throw new Error(`docs/prompt.md has no row for "${cause}"`);
  return row;
}

/** Of the first table, by the cause. */
async function readTable(): Promise<ReadonlyMap<string, Row>> {
  const text = await readFile(join(import.meta.dirname, '../../docs/prompt.md'), 'utf8');
  const [head = [], , ...body] = text
    .split('\n')
    .filter(line => line.startsWith('|'))
    .map(line =>
      line
        .slice(1, -1)
        .split('|')
        .map(cell => cell.trim()),
    );
  return new Map(
    body.map(cells => {
      const { status = '', reason = '', ...row } = Object.fromEntries(head.map((name, at) => [name, cells[at] ?? '']));
      return [row.cause ?? '', { ...row, status, reason: reason.replace(/^`|`$/g, '') }];
    }),
  );
}

/** Without what is another in each run. */
function neutral(text: string): string {
  return text
    .replaceAll(/127\.0\.0\.1:\d+/g, 'veneer.example')
    .replaceAll(/(bd|sc)-[0-9a-f]{16}/g, '$1-0000000000000000')
    .replaceAll(/sha256:[0-9a-f]{64}/g, 'sha256:…')
    .replaceAll(/\b\d+ s\b/g, '60 s');
}

/** As an engine asks: what it may show. */
async function ask(image: string, cause: Cause): Promise<Answer> {
  const [, host, name, tag] = /^([^/]+)\/([^@]+?)(?::|@)((?:sha256:)?[^:/]+)$/.exec(image) ?? [];
  const url = `http://${host}/v2/${name}/manifests/${tag}`;
  const first = await send(url, {});
  if (first.challenge === undefined) return first;
  const [, realm = '', service = '', scope = ''] =
    /realm="([^"]+)",service="([^"]+)",scope="([^"]+)"/.exec(first.challenge) ?? [];
  const headers = { Authorization: basic(USER.name, USER.password) };
  const answer = await fetch(`${realm}?${new URLSearchParams({ service, scope })}`, cause === KNOWN ? { headers } : {});
  return send(url, { Authorization: `Bearer ${tokenSchema.parse(await answer.json()).token}` });
}

interface Answer {
  readonly status: number;
  readonly phrase: string;
  readonly message: string;
  readonly challenge: string | undefined;
}

function send(url: string, headers: Readonly<Record<string, string>>): Promise<Answer> {
  const accept = ['index', 'manifest'].map(kind => `application/vnd.oci.image.${kind}.v1+json`).join(', ');
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const sent = request(url, { headers: { Accept: accept, ...headers }, agent: false }, response => {
    const chunks: Buffer[] = [];
    response.on('data', chunk => chunks.push(chunk));
    response.on('end', () => {
      const { statusCode: status = 0, statusMessage: phrase = '' } = response;
      const { data } = errorSchema.safeParse(JSON.parse(Buffer.concat(chunks).toString()));
      const challenge = response.headers['www-authenticate'];
      resolve({ status, phrase, message: data?.errors[0]?.message ?? '', challenge });
    });
  });
  sent.on('error', reject).end();
  return promise;
}

function printed(
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const options = { env: { ...process.env, ...env }, timeout: PATIENCE_MS };
  execFile(command, args, options, (_, stdout, stderr) => resolve(`${stdout}${stderr}`));
  return promise;
}

async function startDockerEngine(daemon: string, own: string, closed: string): Promise<Engine> {
  const { host, stop } = await startDocker(own, { daemon });
  const envOf = (who: string) => ({ DOCKER_CONFIG: join(own, who) });
  const login = ['-H', host, 'login', '--username', USER.name, '--password-stdin', closed];
  await run('docker', login, { env: envOf('known'), input: USER.password });
  return {
    stop,
    pull: (image, cause) => printed('docker', ['-H', host, 'pull', image], envOf(cause === KNOWN ? 'known' : 'nobody')),
  };
}

async function startCtr(
  { daemon = 'containerd', client = 'ctr' }: { readonly daemon?: string; readonly client?: string },
  own: string,
): Promise<Engine> {
  const { socket, stop } = await startContainerd(own, { daemon });
  const fixed = ['--address', socket, 'images', 'pull', '--plain-http', '--snapshotter', 'native'];
  return {
    stop,
    pull(image, cause) {
      const user = cause === KNOWN ? ['--user', `${USER.name}:${USER.password}`] : [];
      return printed(client, [...fixed, ...user, image]);
    },
  };
}

async function startPodman(own: string): Promise<Engine> {
  const store = ['--root', join(own, 'root'), '--runroot', join(own, 'run'), '--storage-driver', 'vfs'];
  return {
    async stop() {},
    pull(image, cause) {
      const user = cause === KNOWN ? ['--creds', `${USER.name}:${USER.password}`] : [];
      return printed('podman', [...store, 'pull', '--tls-verify=false', ...user, image]);
    },
  };
}
