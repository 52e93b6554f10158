// Recipes for what an upstream lacks: what they built is served under the upstream's name, and nothing else that is kept beside it.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { makeIndex } from '../conformance/documents.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { type BuildApp, startBuildApp } from './build-app.ts';

const NAME = 'lab/library/app';
/** Where what is built for it is kept, to which anyone who has the right may push. */
const SHADOW = `local/builds/${NAME}`;

let directory: string;
let app: BuildApp;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veneer-recipes-'));
  const containerFile = join(directory, 'app.Containerfile');
  await writeFile(containerFile, 'FROM scratch\nARG VERSION\nENV VERSION=$VERSION\n');
  const recipe = { match: `${NAME}:{version}-built`, containerFile, args: { VERSION: '{version}' } };
  // Each pull asks the upstream, also for what it has just said that it lacks.
  const cache = { negative: '0s' };
  app = await startBuildApp({ config: { cache, builds: { backends: ['embedded'], recipes: [recipe] } } });
});

afterEach(async () => {
  await app.close();
  await rm(directory, { recursive: true });
});

async function pushByHand(tag: string): Promise<void> {
  const { mediaType, raw } = makeIndex([], { annotations: { pushed: 'by hand' } });
  const headers = { 'Content-Type': mediaType };
  const body = new TextDecoder().decode(raw);
  expect((await app.request(`/v2/${SHADOW}/manifests/${tag}`, { method: 'PUT', headers, body })).status).toBe(201);
}

async function statusOf(tag: string): Promise<number> {
  return (await app.request(`/v2/${NAME}/manifests/${tag}`)).status;
}

async function listTags(): Promise<unknown> {
  return Object(await (await app.request(`/v2/${NAME}/tags/list`)).json()).tags;
}

/** The upstream answers all with 503. */
function failUpstream(): void {
  app.registry.intercept((_request, response) => {
    response.writeHead(503).end();
    return true;
  });
}

test('a tag that somebody pushed beside what is built is not one of the upstream', async () => {
  await pushByHand('1-pushed');
  expect(await statusOf('1-pushed')).toBe(404);
  expect(await listTags()).toEqual(['1']);
  failUpstream();
  expect(await statusOf('1-pushed')).toBe(502);
});

test('a tag that a recipe built is served, also while the upstream fails, and after a restart', async () => {
  const { digest } = await app.head(NAME, '2-built');
  expect(await listTags()).toEqual(['1', '2-built']);
  failUpstream();
  for (const restart of [false, true]) {
    if (restart) await app.restart();
    expect((await app.head(NAME, '2-built')).digest).toBe(digest);
  }
});

test('a tag that somebody pushed over what a recipe built is not served, and built again', async () => {
  const { digest } = await app.head(NAME, '2-built');
  await pushByHand('2-built');
  failUpstream();
  expect(await statusOf('2-built')).toBe(502);
  app.registry.intercept();
  expect((await app.head(NAME, '2-built')).digest).toBe(digest);
  expect((await app.head(SHADOW, '2-built')).digest).toBe(digest);
});

test('what was built for one tag and pushed as another is not served', async () => {
  const { mediaType, digest, size } = await app.head(NAME, '2-built');
  const raw = await app.read(SHADOW, { mediaType, digest, size });
  const init = { method: 'PUT', headers: { 'Content-Type': mediaType }, body: new TextDecoder().decode(raw) };
  expect((await app.request(`/v2/${SHADOW}/manifests/3`, init)).status).toBe(201);
  expect(await statusOf('3')).toBe(404);
});

describe('where what is built is pushed to another registry', () => {
  const REMEMBERED = { negative: '10m', tagFreshness: '10m' };
  let away: TestServer;

  beforeEach(async () => {
    away = await startServer();
    const recipe = { match: `${NAME}:{version}-built`, containerFile: join(directory, 'app.Containerfile') };
    await app.configure({
      cache: REMEMBERED,
      upstreams: { lab: { url: app.registry.url }, away: { url: `http://127.0.0.1:${away.port}` } },
      builds: { backends: ['embedded'], repository: 'away/local/builds', recipes: [recipe] },
    });
  });

  afterEach(() => away.close());

  test('it is there for the pull that waited, though a moment ago it was not', async () => {
    const { digest } = await app.head(NAME, '2-built');
    expect((await app.head(NAME, '2-built')).digest).toBe(digest);
    const path = `/v2/local/builds/${NAME}/manifests/2-built`;
    expect((await away.send('HEAD', path)).headers['docker-content-digest']).toBe(digest);
  });
});
