// `veneer cache`, as it is typed: in place where no service runs, through the service where one does, and images that are pulled into it.
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { findCacheTarget } from '../../src/app/caching.ts';
import { createCacheCommand } from '../../src/cli/cache.ts';
import type { Service } from '../../src/cli/service/service.ts';
import { loadConfig } from '../../src/config/config.ts';
import { generateImage } from '../support/images.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { runCommand } from './run.ts';

const PLATFORMS = ['linux/amd64', 'linux/arm64'];

let registry: TestRegistry;
let server: TestServer | undefined;
let directory: string | undefined;
let service: Service;
let image: string;
let files: number;

beforeEach(async () => {
  registry = await startRegistry();
  server = await startServer({ upstreams: { lab: { url: registry.url } } });
  directory = server.directory;
  service = { url: new URL(`http://127.0.0.1:${server.port}`) };
  const generated = generateImage({ seed: 1, platforms: PLATFORMS, layers: 2, family: 'oci' });
  registry.put(
    'team/app',
    [...generated.content].map(([digest, content]) => ({
      ...content,
      ...(digest === generated.root.digest && { tags: ['1'] }),
    })),
  );
  files = generated.content.size;
  image = 'lab/team/app:1';
});

afterEach(async () => {
  await stop();
  await registry.close();
  if (directory) await rm(directory, { recursive: true, force: true });
});

/** Ends the service, and leaves its data. */
async function stop(): Promise<void> {
  if (!server) return;
  const empty = await server.restart({});
  server = undefined;
  await empty.app.close();
}

function run(...args: readonly string[]) {
  const dataDir = join(directory ?? '', 'data');
  const config = loadConfig({ env: {}, flags: { dataDir } });
  const findTarget = () => ({ ...findCacheTarget(config, pino({ level: 'silent' }), undefined), service });
  const deps = { findService: () => service, stdin: Readable.from([]), terminal: undefined };
  const command = createCacheCommand({ ...deps, findTarget, listenForInterrupt: () => new AbortController().signal });
  return runCommand(command, args);
}

describe('warm', () => {
  test('brings every manifest and blob of all platforms, each once', async () => {
    const { out, err, exitCode } = await run('warm', image);
    expect({ err, exitCode }).toEqual({ err: '', exitCode: 0 });
    expect(out).toMatch(/^lab\/team\/app:1: 3 manifests, (\d+) of \1 blobs, .*B\n$/);
    await expect.poll(async () => (await run('stat')).out).toContain(`cached: ${files} files, `);
    const asked = registry.requests.filter(({ method, url }) => method === 'GET' && url.includes('/blobs/'));
    expect(new Set(asked.map(({ url }) => url)).size).toBe(asked.length);
  });

  test('brings the platforms that are asked for alone', async () => {
    const { out, exitCode } = await run('warm', image, '--platform', 'linux/arm64');
    expect({ out, exitCode }).toEqual({ out: expect.stringContaining('2 manifests, 3 of 3 blobs'), exitCode: 0 });
  });

  test.each<[string, readonly string[], string]>([
    [
      'a platform that is not there',
      ['lab/team/app:1', '--platform', 'linux/s390x'],
      'there are linux/amd64, linux/arm64',
    ],
    ['no platform', ['lab/team/app:1', '--platform', 'a/b/c/d'], '--platform: '],
    ['an image that is not there', ['lab/team/none:1'], 'lab/team/none:1: '],
    ['no image', ['lab/team/APP'], 'lab/team/APP: '],
  ])('says what is wrong with %s', async (_, args, message) => {
    const { err, exitCode } = await run('warm', ...args);
    expect({ err, exitCode }).toEqual({ err: expect.stringContaining(message), exitCode: 1 });
  });

  test('brings what it can where one of the images is not there', async () => {
    const { out, err, exitCode } = await run('warm', 'lab/team/none:1', image);
    expect({ out, exitCode }).toEqual({ out: expect.stringContaining(image), exitCode: 1 });
    expect(err).toContain('could not pull 1 of 2 images');
  });
});

const ways: [string, () => Promise<void>][] = [
  ['in place', stop],
  ['through the service', async () => {}],
];

describe.each(ways)('%s', (_, prepare) => {
  beforeEach(async () => {
    await run('warm', image);
    await expect.poll(async () => (await run('stat')).out).toContain(`cached: ${files} files, `);
    await prepare();
  });

  test('ls lists repositories, and what one links', async () => {
    const { out } = await run('ls');
    expect(out).toMatch(/^REPOSITORY +MANIFESTS +BLOBS +SIZE +LAST USE\nlab\/team\/app +3 +\d+ +.*iB +\d{4}-.*Z\n$/);
    const contents = (await run('ls', 'lab/team/app')).out.trimEnd().split('\n');
    expect(contents).toHaveLength(files + 1);
    expect(contents.filter(line => line.includes('application/vnd.oci.image.'))).toHaveLength(3);
  });

  test('stat says how much there is, and where the marks are', async () => {
    const { out } = await run('stat');
    expect(out).toContain(`cached: ${files} files, `);
    expect(out).toContain('eviction: above 47.5 GiB, down to 42.5 GiB');
    expect(out).toContain('unused content is evicted after: never');
  });

  test('prune says what would go, and then removes it', async () => {
    const dry = await run('prune', '--match', 'lab/**', '--dry-run');
    expect(dry.out).toMatch(new RegExp(`^would remove: ${files} files, .*\nwould remain: 0 files, 0 B\n$`));
    expect((await run('prune', '--older-than', '1h')).out).toContain('removed: 0 files');
    expect((await run('prune', '--match', 'docker.io/**')).out).toContain('removed: 0 files');
    expect((await run('prune', '--to', '1B')).out).toMatch(
      new RegExp(`^removed: ${files} files, .*\nremaining: 0 files`),
    );
    expect((await run('ls')).out).toBe('');
  });

  test('by age is refused where the clock is ahead, unless it is forced', async () => {
    // A service has written its own by now, and goes by what it has seen.
    if (server) return;
    await writeFile(
      join(directory ?? '', 'data', 'clock.json'),
      JSON.stringify({ passed: Date.now() - 30 * 86_400_000 }),
    );
    const { out, err, exitCode } = await run('prune', '--older-than', '1h');
    const message = expect.stringMatching(/^error: the clock has jumped ahead: .*use --force to prune anyway\n$/);
    expect({ out, err, exitCode }).toEqual({ out: '', err: message, exitCode: 1 });
    expect((await run('prune', '--older-than', '1h', '--force')).out).toContain('removed: 0 files');
  });

  test('verify says that all is well', async () => {
    const { out } = await run('verify', '--rate', '1GiB');
    expect(out).toMatch(new RegExp(`^verified: ${files} files, .*\ndamaged: 0 files, 0 B\n$`));
  });

  test.each<[string, readonly string[]]>([
    ['', []],
    [' as lines of JSON', ['--json']],
  ])('verify finds what is damaged, hosted too, says what mends it, and fails%s', async (_, args) => {
    const hosted = join(directory ?? '', 'data', 'hosted', 'blobs', 'sha256', 'ab');
    await mkdir(hosted, { recursive: true });
    const digest = `sha256:ab${'0'.repeat(62)}`;
    await writeFile(join(hosted, digest.slice('sha256:'.length)), 'turned');
    const { out, err, exitCode } = await run('verify', ...args);
    expect({ exitCode, err }).toEqual({ exitCode: 1, err: expect.stringContaining('found damaged content') });
    expect(out).toContain(digest);
    expect(out).toContain('it is missing (404) until it is pushed again');
    expect(await run('verify', ...args)).toMatchObject({ exitCode: 0, err: '' });
  });

  test('lines of JSON come as they are', async () => {
    const lines = (await run('ls', '--json')).out
      .trimEnd()
      .split('\n')
      .map(line => JSON.parse(line));
    expect(lines).toMatchObject([{ kind: 'repository', repository: 'lab/team/app' }]);
  });

  test.each([
    [['prune'], 'select what to remove'],
    [['prune', '--to', 'much'], '--to: expected a size'],
    [['prune', '--older-than', 'long'], '--older-than: expected a duration'],
    [['verify', '--rate', '0'], '--rate: '],
  ])('%j is refused', async (args, message) => {
    const { err, exitCode } = await run(...args);
    expect({ err, exitCode }).toEqual({ err: expect.stringContaining(message), exitCode: 1 });
  });
});

test('a directory without a cache is refused, and nothing is made in it', async () => {
  await stop();
  const empty = await mkdtemp(join(tmpdir(), 'veneer-cache-'));
  await rm(directory ?? '', { recursive: true });
  directory = empty;
  const { err, exitCode } = await run('stat');
  expect({ err, exitCode }).toEqual({ err: expect.stringContaining('there is no cache in'), exitCode: 1 });
  expect(await readdir(empty)).toEqual([]);
});
