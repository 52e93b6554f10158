// `veneer gc`, as it is typed: in place where no service runs, through the service where one does, and clear refusals.
import { once } from 'node:events';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import type { Server } from 'node:http';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getRequestListener } from '@hono/node-server';
import { Command, CommanderError } from 'commander';
import { type Context, Hono } from 'hono';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createUnconfiguredAccess } from '../../src/access/access.ts';
import { findGcTarget } from '../../src/app/hosting.ts';
import { createGcCommand, type GcTarget } from '../../src/cli/gc.ts';
import { configSchema } from '../../src/config/schema.ts';
import { createBlobFiles } from '../../src/content/blob-files.ts';
import { createInventory } from '../../src/content/inventory.ts';
import { createGarbageCollector } from '../../src/hosted/gc/collector.ts';
import { gcReportSchema } from '../../src/hosted/gc/report.ts';
import { createHostedStore } from '../../src/hosted/store.ts';
import { createCollectApi } from '../../src/http/admin/collect-api.ts';
import { createAuthentication } from '../../src/http/middleware/authentication.ts';
import { createErrorHandler } from '../../src/http/middleware/errors.ts';
import { createMemory } from '../../src/memory.ts';
import { RegistryError } from '../../src/oci/errors.ts';
import { type DirectoryLock, lockDirectory } from '../../src/state/data-directory.ts';
import { createSqliteStore } from '../../src/state/sqlite.ts';
import { bytes, createPlace, type Place, pushBlob, pushSmall } from '../hosted/fixture.ts';

const memory = createMemory();

let place: Place;
let dataDir: string;
let owner: DirectoryLock | undefined;
let server: Server | undefined;

beforeEach(async () => {
  owner = undefined;
  server = undefined;
  place = await createPlace(directory => {
    // Else its first owner would find the records open already.
    lockDirectory(directory).release();
    return createSqliteStore({ path: join(directory, 'records.db') });
  });
  dataDir = place.directory;
  const hosted = await place.open();
  await pushSmall(hosted, 'local/app', 'a', { tags: ['a'] });
  await pushBlob(hosted, 'local/app', bytes('nothing refers to this'));
  await pushBlob(hosted, 'local/team/other', bytes('x'.repeat(2000)));
});

afterEach(async () => {
  owner?.release();
  server?.closeAllConnections();
  server?.close();
  await place.remove();
});

const openHere: GcTarget['openCollector'] = async () => {
  const { content, records } = place;
  const store = createHostedStore({ content, records, memory, now: () => new Date() });
  const collector = createGarbageCollector(store, { graceMs: 0, inventory: createInventory(dataDir) });
  return { ...collector, async close() {} };
};

/** A service that owns the data directory. */
async function serve(authorise: (c: Context) => void = () => {}): Promise<URL> {
  owner = lockDirectory(dataDir);
  const log = pino({ level: 'silent' });
  const app = new Hono();
  app.onError(createErrorHandler(log));
  const access = createUnconfiguredAccess({ isOpen: true });
  app.use(createAuthentication({ access, publicUrl: undefined, addressOf: () => '127.0.0.1' }));
  app.use(async (c, next) => {
    authorise(c);
    await next();
  });
  app.route('/', createCollectApi({ collector: await openHere(), log }));
  return listen(createServer(getRequestListener(app.fetch)));
}

async function listen(made: Server): Promise<URL> {
  server = made.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server has no port');
  return new URL(`http://127.0.0.1:${address.port}`);
}

async function run(args: readonly string[] = [], given: Partial<GcTarget> = {}, isTerminal = false) {
  const written = { out: '', err: '' };
  const findTarget = () => ({ dataDir, openCollector: openHere, service: undefined, ...given });
  const gc = createGcCommand({ findTarget, isTerminal });
  gc.exitOverride().configureOutput({
    writeOut(text) {
      written.out += text;
    },
    writeErr(text) {
      written.err += text;
    },
  });
  try {
    await new Command('veneer').addCommand(gc).parseAsync(['gc', ...args], { from: 'user' });
    return { ...written, exitCode: 0 };
  } catch (error) {
    if (error instanceof CommanderError) return { ...written, exitCode: error.exitCode };
    throw error;
  }
}

const TABLE = [
  'REPOSITORY        TAGS  MANIFESTS  BLOBS   SIZE',
  'local/app            0          0      1   22 B',
  'local/team/other     0          0      1  2 KiB',
];
const STAYS = 'remaining: 1 tag, 1 manifest, 2 blobs; 416 B';

const ways: [string, () => Promise<Partial<GcTarget>>][] = [
  ['in place', async () => ({})],
  ['through the service', async () => ({ service: { url: await serve() }, openCollector: () => expect.unreachable() })],
];

describe.each(ways)('%s', (_, prepare) => {
  test('a dry run says what would go, and changes nothing', async () => {
    const before = await place.inventory();
    const { out, err, exitCode } = await run(['--dry-run'], await prepare());
    expect(out.trimEnd().split('\n')).toEqual([
      ...TABLE,
      'would remove: 0 tags, 0 manifests, 2 blobs; 2 KiB',
      'would free: 2 KiB on disk',
      STAYS,
    ]);
    expect({ err, exitCode }).toEqual({ err: '', exitCode: 0 });
    expect(await place.inventory()).toEqual(before);
  });

  test('a run removes what nothing refers to, and then there is nothing to remove', async () => {
    const given = await prepare();
    await place.content.put(bytes('a crash left this'));
    const { out } = await run([], given);
    expect(out.trimEnd().split('\n')).toEqual([
      ...TABLE,
      'removed: 0 tags, 0 manifests, 2 blobs; 2 KiB',
      'left by a crash: 1 file; 17 B',
      'freed: 2 KiB on disk',
      STAYS,
    ]);
    expect(await place.inventory()).toHaveLength(3);
    expect((await run([], given)).out).toBe(`removed: nothing\nfreed: 0 B on disk\n${STAYS}\n`);
  });

  test('a run that would remove most of what is there is refused, and --force insists', async () => {
    const given = await prepare();
    for (let at = 0; at < 20; at += 1) await place.content.put(bytes(`of no repository ${at}`));
    const before = await place.inventory();
    const refused = await run([], given);
    expect([refused.out, refused.exitCode]).toEqual(['', 1]);
    expect(refused.err).toMatch(/^error: nothing was collected: 20 of 25 files .*veneer repair.*--force\n$/);
    expect(await place.inventory()).toEqual(before);
    expect((await run(['--force'], given)).out).toContain('left by a crash: 20 files');
    expect(await place.inventory()).toHaveLength(3);
  });

  test('content that is damaged or lost is named, with what helps, and stays linked', async () => {
    const given = await prepare();
    const { pathOf } = createBlobFiles(dataDir);
    const { layer } = await pushSmall(await place.open(), 'local/other', 'b', { tags: ['b'] });
    await rm(pathOf(layer));
    const { out, exitCode } = await run(['--dry-run'], given);
    expect(out.trimEnd().split('\n').slice(-3)).toEqual([
      'remaining: 2 tags, 2 manifests, 4 blobs; 832 B',
      'missing: 1 file; 10 B, damaged on the disk or lost. Pulls of it are a 404 until it is pushed again:',
      `  ${layer}, 10 B: local/other`,
    ]);
    expect(exitCode).toBe(0);
  });

  test('--json prints the report for programs', async () => {
    const { out } = await run(['--json', '--dry-run'], await prepare());
    expect(gcReportSchema.parse(JSON.parse(out))).toMatchObject({
      dryRun: true,
      repositories: [{ repository: 'local/app' }, { repository: 'local/team/other' }],
      removed: { tags: 0, manifests: 0, blobs: 2, bytes: 2022 },
      freedBytes: 2022,
    });
  });

  test('a terminal sees how far it is, and the line is cleared in the end', async () => {
    const { out, err } = await run(['--dry-run'], await prepare(), true);
    expect(err).toMatch(/^\rcollecting: \d+ repositories done, \d+ tags, manifests, blobs and files seen/);
    expect(err.endsWith('\r\u001b[K')).toBe(true);
    expect(err).not.toContain('\n');
    expect(out).not.toContain('\r');
  });
});

describe('in place', () => {
  test('is refused while the clock is ahead of the time that has passed, unless it is forced', async () => {
    const collector = findGcTarget(configSchema({}).parse({ dataDir }), pino({ level: 'silent' }), undefined);
    await writeFile(join(dataDir, 'clock.json'), JSON.stringify({ passed: Date.now() - 30 * 86_400_000 }));
    const { out, err, exitCode } = await run([], collector);
    const message = expect.stringMatching(
      /^error: nothing was collected: the clock has jumped ahead, .*use --force to collect anyway\n$/,
    );
    expect({ out, err, exitCode }).toEqual({ out: '', err: message, exitCode: 1 });
    expect(await run(['--force'], collector)).toMatchObject({
      out: expect.stringContaining('removed: nothing'),
      exitCode: 0,
    });
  });

  test('the data directory is owned while it runs, and free afterwards', async () => {
    const openCollector: GcTarget['openCollector'] = async () => {
      expect(() => lockDirectory(dataDir)).toThrow('another Veneer process');
      return openHere();
    };
    expect((await run([], { openCollector })).exitCode).toBe(0);
    lockDirectory(dataDir).release();
  });

  test('a failure gives the data directory free', async () => {
    await expect(run([], { openCollector: () => Promise.reject(new Error('a disk of tears')) })).rejects.toThrow(
      'a disk of tears',
    );
    lockDirectory(dataDir).release();
  });

  test('a directory without a registry is refused, and nothing is made in it', async () => {
    const empty = await mkdtemp(join(tmpdir(), 'veneer-gc-'));
    const { out, err, exitCode } = await run([], { dataDir: empty });
    expect({ out, exitCode }).toEqual({ out: '', exitCode: 1 });
    expect(err).toContain(`error: there is no registry in ${empty}: name the data directory of the service`);
    expect(await readdir(empty)).toEqual([]);
    await rm(empty, { recursive: true });
  });
});

describe('through the service', () => {
  const ACCESS_TOKEN = `vnr_${'0123456789'.repeat(4)}`;
  test.each([
    ['an access token', ACCESS_TOKEN, `Basic ${Buffer.from(`token:${ACCESS_TOKEN}`).toString('base64')}`],
    [
      'a token with a line break behind it',
      `${ACCESS_TOKEN}\n`,
      `Basic ${Buffer.from(`token:${ACCESS_TOKEN}`).toString('base64')}`,
    ],
    ['user and password', 'ada:secret', `Basic ${Buffer.from('ada:secret').toString('base64')}`],
    ['a bearer token', 'ey.x.y', 'Bearer ey.x.y'],
    ['nothing, where there is none', undefined, undefined],
  ])('%s shows who asks', async (_, token, authorization) => {
    const seen: (string | undefined)[] = [];
    const url = await serve(c => void seen.push(c.req.header('Authorization')));
    await run(['--dry-run'], { service: { url, token } });
    expect(seen).toEqual([authorization]);
  });

  const refused = (code: 'UNAUTHORIZED' | 'DENIED') => () => {
    throw new RegistryError(code, 'the user ada may not delete local');
  };
  test.each<[string, () => Promise<Partial<GcTarget>>, string]>([
    [
      'a caller who is not known',
      async () => ({ service: { url: await serve(refused('UNAUTHORIZED')) } }),
      'answered 401, the user ada may not delete local: set VENEER_TOKEN to a token made with --admin',
    ],
    [
      'a caller who may not',
      async () => ({ service: { url: await serve(refused('DENIED')), token: 'ada:secret' } }),
      'answered 403, the user ada may not delete local',
    ],
    [
      'a service that is not there',
      async () => {
        const url = await serve();
        server?.close();
        return { service: { url } };
      },
      'another process uses the data directory, but no service answers at 127.0.0.1:',
    ],
    [
      'a service whose address nobody knows',
      async () => {
        await serve();
        return {};
      },
      'but the configuration does not say where it listens',
    ],
    [
      'an answer that breaks off',
      async () => {
        owner = lockDirectory(dataDir);
        const url = await listen(createServer((_, response) => response.end('')));
        return { service: { url } };
      },
      'closed the connection',
    ],
    [
      'a connection that breaks',
      async () => {
        owner = lockDirectory(dataDir);
        const cut = createServer((_, response) => response.write('{', () => response.destroy()));
        return { service: { url: await listen(cut) } };
      },
      'closed the connection',
    ],
    [
      'a server that is another',
      async () => {
        owner = lockDirectory(dataDir);
        return { service: { url: await listen(createServer((_, response) => response.end('<html>\n'))) } };
      },
      'is not a Veneer service of this version',
    ],
    [
      'a server that sends the token elsewhere',
      async () => {
        owner = lockDirectory(dataDir);
        const url = await listen(
          createServer((_, response) => response.writeHead(307, { Location: 'http://x.example/' }).end()),
        );
        return { service: { url, token: 'ada:secret' } };
      },
      'no service answers at 127.0.0.1:',
    ],
    [
      'a run that fails',
      async () => {
        const url = await serve();
        await writeFile(join(dataDir, 'blobs', 'sha512', 'in the way'), '');
        await rm(join(dataDir, 'blobs'), { recursive: true });
        return { service: { url } };
      },
      'see the log of Veneer',
    ],
  ])('%s is an error that says so', async (_, prepare, message) => {
    const { out, err, exitCode } = await run([], await prepare());
    expect({ out, exitCode }).toEqual({ out: '', exitCode: 1 });
    expect(err).toContain(message);
    expect(err).not.toContain('secret');
  });
});
