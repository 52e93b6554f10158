// Images that a recipe builds: when a build begins, who waits for it, and what is served when it fails.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { QueueFull } from '../../../src/builds/builds.ts';
import { UnsupportedPlatform } from '../../../src/builds/executor/platforms.ts';
import type { RecipeOptions } from '../../../src/builds/recipes/recipe.ts';
import { InvalidBuild } from '../../../src/builds/request.ts';
import { RegistryError } from '../../../src/oci/errors.ts';
import { parsePlatform } from '../../../src/oci/platform.ts';
import { createPlainRegistry, pullManifest } from '../../../src/pull/augmented-registry.ts';
import type { Registry } from '../../../src/pull/registry.ts';
import { pushSmall } from '../../hosted/fixture.ts';
import { createMemoryBackend, createMemoryRegistry, parseSpec } from '../../support/build-backends.ts';
import { createRecipeFixture, POLICY, type RecipeFixture, settle } from './recipe-fixture.ts';

const recipe: RecipeOptions = {
  match: 'local/tools/{name}:{version}',
  containerFile: 'Containerfile',
  args: { NAME: '{name}', VERSION: '{version}' },
};
const renewed = { ...recipe, ttlMs: 1000 };

let fixture: RecipeFixture;

beforeEach(async () => {
  fixture = await createRecipeFixture();
});

afterEach(() => fixture.remove());

function open(options: RecipeOptions = recipe): Registry {
  return fixture.withRecipes([options])(fixture.local, repository => `local/${repository}`);
}

async function errorOf(pull: Promise<unknown>): Promise<RegistryError> {
  const error = await pull.catch(caught => caught);
  if (error instanceof RegistryError) return error;
  throw new Error('no error of a registry', { cause: error });
}

test('builds a missing image for its name and tag, and serves it', async () => {
  const pull = open().resolveTag('tools/jq', '1.7');
  await settle();
  expect(fixture.begun).toMatchObject([
    { match: { args: { NAME: 'jq', VERSION: '1.7' } }, target: { repository: 'local/tools/jq', tag: '1.7' } },
  ]);
  const digest = await fixture.succeed(0, 'a');
  expect(await pull).toBe(digest);
});

test('builds nothing that is there, and nothing that no recipe is for', async () => {
  const { digest } = await pushSmall(fixture.hosted, 'local/tools/jq', 'a', { tags: ['1'] });
  const registry = open();
  expect(await registry.resolveTag('tools/jq', '1')).toBe(digest);
  expect((await errorOf(registry.resolveTag('other/jq', '1'))).code).toBe('NAME_UNKNOWN');
  expect(fixture.begun).toEqual([]);
});

test('builds nothing where it is unknown whether the image is there', async () => {
  const failing: Registry = {
    ...fixture.local,
    resolveTag: async () => {
      throw new RegistryError('UNKNOWN', 'it broke', { status: 502 });
    },
  };
  const registry = fixture.withRecipes([recipe])(failing, repository => repository);
  expect((await errorOf(registry.resolveTag('tools/jq', '1'))).status).toBe(502);
  expect(fixture.begun).toEqual([]);
});

test('makes one build for twenty pulls at the same time', async () => {
  const registry = open();
  const pulls = Array.from({ length: 20 }, () => registry.resolveTag('tools/jq', '1'));
  await settle();
  const digest = await fixture.succeed(0, 'a');
  expect(await Promise.all(pulls)).toEqual(Array(20).fill(digest));
  expect(fixture.begun).toHaveLength(1);
});

test('lets a client leave, and continues for the others', async () => {
  const registry = open();
  const client = new AbortController();
  const leaving = registry.resolveTag('tools/jq', '1', { signal: client.signal });
  const staying = registry.resolveTag('tools/jq', '1');
  await settle();
  const reason = new Error('the client left');
  client.abort(reason);
  await expect(leaving).rejects.toBe(reason);
  const digest = await fixture.succeed(0, 'a');
  expect(await staying).toBe(digest);
});

test('lets a client leave while its build is planned', async () => {
  const planned = Promise.withResolvers<void>();
  fixture.onStart = () => planned.promise;
  const client = new AbortController();
  const pull = open().resolveTag('tools/jq', '1', { signal: client.signal });
  await settle();
  client.abort(new Error('the client left'));
  await expect(pull).rejects.toThrow('the client left');
  planned.resolve();
});

test.each([
  ['planned', () => new Promise<void>(() => {}), 'it is being planned'],
  ['built', () => {}, 'bd-0123456789abcdef_1 is still running'],
])('sends a client away when an image is still being %s at the deadline', async (_name, onStart, message) => {
  await fixture.remove();
  fixture = await createRecipeFixture({ ...POLICY, holdMs: 5 });
  fixture.onStart = onStart;
  const error = await errorOf(open().resolveTag('tools/jq', '1'));
  expect(error).toMatchObject({ code: 'UNAVAILABLE', status: 503 });
  expect(error.message).toContain(message);
});

test('tells why a build failed, and does not begin it again for a while', async () => {
  const registry = open();
  const pull = errorOf(registry.resolveTag('tools/jq', '1'));
  await settle();
  fixture.fail(0, { reason: 'exit code 2', step: 'RUN make' });
  expect(await pull).toMatchObject({ code: 'MANIFEST_UNKNOWN', status: 404 });
  expect((await pull).message).toContain('[RUN make] exit code 2');

  fixture.advance(POLICY.failureMemoryMs - 1);
  expect((await errorOf(registry.resolveTag('tools/jq', '1'))).message).toBe((await pull).message);
  expect(fixture.begun).toHaveLength(1);
  fixture.advance(1);
  const again = registry.resolveTag('tools/jq', '1');
  await settle();
  expect(fixture.begun).toHaveLength(2);
  const digest = await fixture.succeed(1, 'a');
  expect(await again).toBe(digest);
});

test('remembers a failure also where everybody had left before it', async () => {
  const registry = open();
  const client = new AbortController();
  const pull = registry.resolveTag('tools/jq', '1', { signal: client.signal });
  await settle();
  client.abort(new Error('the client left'));
  await expect(pull).rejects.toThrow('the client left');
  fixture.fail(0);
  await settle();
  expect((await errorOf(registry.resolveTag('tools/jq', '1'))).message).toContain('exit code 1');
  expect(fixture.begun).toHaveLength(1);
});

const amd64 = parsePlatform('linux/amd64');
const backend = createMemoryBackend({ registry: createMemoryRegistry() });
const away = { backend, platforms: [], fault: 'it is asleep' };

test.each([
  ['a recipe with a fault', new InvalidBuild('line 3: RUM is no instruction'), 404, 'RUM is no instruction', 1],
  ['a full queue', new QueueFull('100 builds wait'), 429, '100 builds wait', 2],
  ['a builder that is away', new UnsupportedPlatform([amd64], [away], parseSpec()), 503, 'it is asleep', 2],
  ['a platform that none has', new UnsupportedPlatform([amd64], [], parseSpec()), 404, 'no builder is configured', 1],
  ['a closed base', new RegistryError('DENIED', 'the base is closed'), 403, 'the base is closed', 2],
])('says of %s what is wrong', async (_name, error, status, message, starts) => {
  fixture.onStart = () => {
    throw error;
  };
  const registry = open();
  for (let i = 0; i < 2; i++) {
    const thrown = await errorOf(registry.resolveTag('tools/jq', '1'));
    expect(thrown.status).toBe(status);
    expect(thrown.message).toContain(message);
  }
  expect(fixture.begun).toHaveLength(starts);
});

async function built(registry: Registry, seed: string) {
  const pull = registry.resolveTag('tools/jq', '1');
  await settle();
  const digest = await fixture.succeed(fixture.begun.length - 1, seed);
  await pull;
  await settle();
  return digest;
}

test('plans an image again after its time, and the pull waits for what it becomes', async () => {
  const registry = open(renewed);
  const old = await built(registry, 'old');
  fixture.advance(999);
  expect(await registry.resolveTag('tools/jq', '1')).toBe(old);
  fixture.advance(1);
  expect(await built(registry, 'new')).not.toBe(old);
  expect(fixture.begun).toHaveLength(2);
  fixture.advance(999);
  await registry.resolveTag('tools/jq', '1');
  expect(fixture.begun, 'its time begins again').toHaveLength(2);
});

test('keeps an image that would be the same', async () => {
  const registry = open(renewed);
  const digest = await built(registry, 'a');
  fixture.advance(1000);
  const pull = registry.resolveTag('tools/jq', '1');
  await settle();
  await fixture.findSame(1);
  expect(await pull).toBe(digest);
  await settle();
  fixture.advance(999);
  await registry.resolveTag('tools/jq', '1');
  expect(fixture.begun).toHaveLength(2);
});

test('never plans an image again whose recipe gives it no time', async () => {
  const registry = open();
  await built(registry, 'a');
  fixture.advance(1e12);
  await registry.resolveTag('tools/jq', '1');
  expect(fixture.begun).toHaveLength(1);
});

test('serves the old image while a new one cannot be built, says so, and tries again later', async () => {
  const registry = open({ ...recipe, ttlMs: 10 * POLICY.failureMemoryMs });
  const digest = await built(registry, 'a');
  fixture.advance(10 * POLICY.failureMemoryMs);
  const pull = registry.resolveTag('tools/jq', '1');
  await settle();
  fixture.fail(1, { reason: 'the network is down' });
  expect(await pull).toBe(digest);
  expect(fixture.stale).toHaveLength(1);
  expect(fixture.stale[0]).toMatch(/^local\/tools\/jq:1: .*the network is down/);

  expect(await registry.resolveTag('tools/jq', '1')).toBe(digest);
  expect([fixture.begun.length, fixture.stale.length]).toEqual([2, 1]);
  fixture.advance(POLICY.failureMemoryMs);
  await built(registry, 'new');
  expect(fixture.begun).toHaveLength(3);
});

test('lets a client leave that waits for an image to be built again', async () => {
  const registry = open(renewed);
  await built(registry, 'a');
  fixture.advance(1000);
  const client = new AbortController();
  const pull = registry.resolveTag('tools/jq', '1', { signal: client.signal });
  await settle();
  client.abort(new Error('the client left'));
  await expect(pull).rejects.toThrow('the client left');
  expect(fixture.stale).toEqual([]);
});

test('leaves a tag alone that somebody pushed over what was built', async () => {
  const registry = open(renewed);
  await built(registry, 'a');
  const { digest } = await pushSmall(fixture.hosted, 'local/tools/jq', 'by hand', { tags: ['1'] });
  fixture.advance(1e9);
  expect(await registry.resolveTag('tools/jq', '1')).toBe(digest);
  expect(fixture.begun).toHaveLength(1);
});

test('leaves a tag alone that nobody built', async () => {
  const { digest } = await pushSmall(fixture.hosted, 'local/tools/jq', 'by hand', { tags: ['1'] });
  const registry = open(renewed);
  fixture.advance(1e9);
  expect(await registry.resolveTag('tools/jq', '1')).toBe(digest);
  expect(fixture.begun).toEqual([]);
});

test('knows after a restart what was built, even where it ended unseen', async () => {
  const client = new AbortController();
  const left = open(renewed).resolveTag('tools/jq', '1', { signal: client.signal });
  await settle();
  client.abort(new Error('the client left'));
  await expect(left).rejects.toThrow('the client left');
  // The record of the image is the one from before the build ended.
  const before = await fixture.place.records.get('recipe-image', 'local/tools/jq:1');
  await fixture.succeed(0, 'old');
  await settle();
  await fixture.place.records.put('recipe-image', 'local/tools/jq:1', before ?? new Uint8Array());

  const registry = open(renewed);
  fixture.advance(1000);
  await built(registry, 'new');
  expect(fixture.begun).toHaveLength(2);
});

test('says of a recipe that needs its own image as a base that it does, and not late', async () => {
  const registry = open();
  const bases: unknown[] = [];
  fixture.onStart = async ({ match }) => {
    const other = match.args.NAME === 'jq' ? 'tools/yq' : 'tools/jq';
    const error = await errorOf(registry.resolveTag(other, '1'));
    bases.push(error.message);
    throw new InvalidBuild(error.message);
  };
  expect((await errorOf(registry.resolveTag('tools/jq', '1'))).status).toBe(404);
  expect(bases[0]).toBe('local/tools/jq:1 is not there, and its recipe would need it as a base');
});

test('ends the wait of a client that leaves, all the way from its request', async () => {
  const client = new AbortController();
  const pull = { registry: createPlainRegistry(open()), repository: 'tools/jq' };
  const served = pullManifest(pull, '1', { acceptsIndex: true, signal: client.signal });
  await settle();
  client.abort(new Error('the client left'));
  await expect(served).rejects.toThrow('the client left');
  expect(fixture.begun).toHaveLength(1);
});
