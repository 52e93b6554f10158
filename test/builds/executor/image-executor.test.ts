// The maker of images: laid out, built by one backend or several, joined, checked, and reported without its secrets.
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { BuildInput } from '../../../src/builds/backend.ts';
import { BackendUnavailable, BuildFailure, BuildStopped } from '../../../src/builds/execution.ts';
import type { Failure } from '../../../src/builds/record.ts';
import type { ContainerFileSpec } from '../../../src/builds/spec.ts';
import { digestOf } from '../../../src/oci/digest.ts';
import { RegistryError } from '../../../src/oci/errors.ts';
import { parseManifest } from '../../../src/oci/manifest.ts';
import { formatPlatform, normalizePlatform } from '../../../src/oci/platform.ts';
import {
  type BackendOptions,
  createMemoryBackend,
  createMemoryRegistry,
  type MemoryRegistry,
  parseSpec,
} from '../../support/build-backends.ts';
import { generateImage } from '../../support/images.ts';
import { checkImage } from '../../support/oracle.ts';
import { ID, IMAGE, openWorkshop, type Workshop } from './fixture.ts';

const PLATFORMS = ['linux/amd64', 'linux/arm64', 'linux/arm/v7'];
const context = { digest: digestOf(new TextEncoder().encode('context')), size: 7 };

async function failureOf(workshop: Workshop, spec: ContainerFileSpec, signal?: AbortSignal): Promise<Failure> {
  const error = await workshop.make(spec, signal).catch(caught => caught);
  if (error instanceof BuildFailure) return error.failure;
  throw new Error('it did not fail as a build does', { cause: error });
}

/** What the image under the name is, checked by the oracle. */
async function pushed(registry: MemoryRegistry, image = IMAGE) {
  const digest = registry.tags.get(image);
  if (!digest) throw new Error(`${image} is not there`);
  const { raw, mediaType } = registry.read(digest);
  await checkImage({ mediaType, digest, size: raw.byteLength }, descriptor => registry.read(descriptor.digest).raw);
  const root = parseManifest(raw, mediaType);
  const entries = root.kind === 'index' ? root.manifests : [];
  const platforms = entries.map(({ platform }) => platform && formatPlatform(normalizePlatform(platform)));
  return { digest, kind: root.kind, platforms, annotations: entries.map(entry => entry.annotations) };
}

test.each([
  ['one platform, an image', ['linux/arm64'], 'image', []],
  ['several, an index of exactly those', ['linux/arm64', 'linux/amd64'], 'index', ['linux/arm64', 'linux/amd64']],
])('pushes %s', async (_name, platforms, kind, entries) => {
  const registry = createMemoryRegistry();
  const workshop = await openWorkshop(registry, [createMemoryBackend({ registry, platforms: PLATFORMS })]);
  const digest = await workshop.make(parseSpec({ platforms }));
  expect(await pushed(registry)).toMatchObject({ digest, kind, platforms: entries });
  expect(workshop.worked).toEqual(['memory']);
  expect([...registry.tags.keys()]).toEqual([IMAGE]);
});

test('lays out the file and the context in a folder for this user alone, and removes it', async () => {
  const registry = createMemoryRegistry();
  const seen: { mode: number; content: string }[] = [];
  const backend = createMemoryBackend({
    registry,
    async onBuild({ directory }) {
      const content = await readFile(join(directory, 'context', 'a.txt'), 'utf8');
      seen.push({ mode: (await stat(join(directory, '..'))).mode & 0o777, content });
    },
  });
  const workshop = await openWorkshop(registry, [backend], {
    unpackContext: async (digest, directory) => {
      await writeFile(join(directory, 'a.txt'), digest);
      return new Map();
    },
  });
  await workshop.make(parseSpec({ context }));
  expect(seen).toEqual([{ mode: 0o700, content: context.digest }]);
  expect(backend.orders[0]).toMatchObject({ containerFile: 'FROM scratch\n', context: ['a.txt'] });
  expect(await workshop.leftovers()).toEqual([]);
});

test('looks up what the builder needs', async () => {
  const registry = createMemoryRegistry();
  const backend = createMemoryBackend({ registry });
  const credentials = new Map([['127.0.0.1:8080', { username: 'builder', password: 'p4ssword' }]]);
  const workshop = await openWorkshop(registry, [backend], {
    findSecret: async id => new TextEncoder().encode(`value of ${id}`),
    findSsh: async id => `/run/${id}.sock`,
    findCredentials: async () => credentials,
  });
  await workshop.make(parseSpec({ secrets: ['npm'], ssh: ['default'], cacheRepository: 'local/cache' }));
  const order = backend.orders[0]?.order;
  expect(order?.secrets.get('npm')).toEqual(new TextEncoder().encode('value of npm'));
  expect(order?.ssh.get('default')).toBe('/run/default.sock');
  expect(order?.credentials).toBe(credentials);
  expect(order?.target).toEqual({ name: '127.0.0.1:8080/local/builds:app', image: IMAGE, isInsecure: true });
  expect(order?.cache?.image).toMatch(/^local\/cache:cache-[0-9a-f]{16}$/);
});

test.each([
  ['secret', { secrets: ['npm'] }],
  ['ssh', { ssh: ['npm'] }],
])('refuses an id of %s that is not configured', async (kind, fields) => {
  const registry = createMemoryRegistry();
  const workshop = await openWorkshop(registry, [createMemoryBackend({ registry })]);
  const reason = `the ${kind} "npm" is not configured here`;
  expect(await failureOf(workshop, parseSpec(fields))).toEqual({ kind: 'build', reason });
});

function spread(registry: MemoryRegistry, second: Partial<BackendOptions> = {}) {
  return [
    createMemoryBackend({ registry, name: 'native', platforms: ['linux/amd64'] }),
    createMemoryBackend({ registry, name: 'far', platforms: ['linux/arm64', 'linux/arm/v7'], ...second }),
  ] as const;
}

test('joins what several backends built, in the order asked for', async () => {
  const registry = createMemoryRegistry();
  const workshop = await openWorkshop(registry, spread(registry));
  const platforms = ['linux/arm/v7', 'linux/amd64', 'linux/arm64'];
  const digest = await workshop.make(parseSpec({ platforms }));
  expect(await pushed(registry)).toMatchObject({ digest, kind: 'index', platforms });
  expect(workshop.worked.toSorted()).toEqual(['far', 'native']);
  expect([...registry.tags.keys()], 'the tags of the parts are gone').toEqual([IMAGE]);
});

test('a file that its builder cannot read as it is fails the build by name', async () => {
  const registry = createMemoryRegistry();
  const backend = { ...createMemoryBackend({ registry }), kind: 'buildkit' } as const;
  const workshop = await openWorkshop(registry, [backend], { unpackContext: async () => new Map([['etc/shadow', 0]]) });
  expect(await failureOf(workshop, parseSpec({ context }))).toMatchObject({
    kind: 'build',
    reason: expect.stringMatching(/"etc\/shadow".*mode 0000/),
  });
  expect(backend.orders).toEqual([]);
});

test('gives each part an own folder with the whole context, and a tag that says what it is', async () => {
  const registry = createMemoryRegistry();
  const backends = spread(registry);
  const workshop = await openWorkshop(registry, backends, {
    unpackContext: async (_digest, directory) => {
      await writeFile(join(directory, 'a.txt'), '');
      return new Map();
    },
    removeTag: async () => {},
  });
  await workshop.make(parseSpec({ platforms: PLATFORMS, context }));
  const orders = backends.flatMap(backend => backend.orders);
  expect(orders.map(({ context: files }) => files)).toEqual([['a.txt'], ['a.txt']]);
  expect(new Set(orders.map(({ order }) => order.directory)).size).toBe(2);
  const parts = [`local/builds:${ID}.part-1-of-2`, `local/builds:${ID}.part-2-of-2`];
  expect([...registry.tags.keys()].toSorted()).toEqual([IMAGE, ...parts]);
});

test('gives a backend that takes one platform at a time one after the other', async () => {
  const registry = createMemoryRegistry();
  let running = 0;
  let most = 0;
  const backend = createMemoryBackend({
    registry,
    platforms: PLATFORMS,
    isMultiPlatform: false,
    async onBuild() {
      running += 1;
      most = Math.max(most, running);
      await new Promise(resolve => setImmediate(resolve));
      running -= 1;
    },
  });
  const workshop = await openWorkshop(registry, [backend]);
  await workshop.make(parseSpec({ platforms: PLATFORMS }));
  expect(backend.orders.map(({ platforms }) => platforms)).toEqual(PLATFORMS.map(platform => [platform]));
  expect(most).toBe(1);
  expect(await pushed(registry)).toMatchObject({ kind: 'index', platforms: PLATFORMS });
  expect(workshop.worked).toEqual(['memory']);
});

test('gives one that takes them at once all platforms at the same time, each with a tag of its own', async () => {
  const registry = createMemoryRegistry();
  const all = Promise.withResolvers<void>();
  let running = 0;
  const memory = createMemoryBackend({
    registry,
    platforms: PLATFORMS,
    isMultiPlatform: false,
    async onBuild() {
      running += 1;
      if (running === PLATFORMS.length) all.resolve();
      await all.promise;
    },
  });
  const workshop = await openWorkshop(registry, [{ ...memory, isParallel: true }]);
  await workshop.make(parseSpec({ platforms: PLATFORMS }));
  expect(new Set(memory.orders.map(({ order }) => order.target.image)).size).toBe(PLATFORMS.length);
  expect(await pushed(registry)).toMatchObject({ kind: 'index', platforms: PLATFORMS });
  expect(workshop.worked).toEqual(['memory']);
});

test('joins the attestations of the parts, too', async () => {
  const registry = createMemoryRegistry();
  const workshop = await openWorkshop(registry, spread(registry));
  await workshop.make(parseSpec({ platforms: PLATFORMS, attestations: { provenance: 'min' } }));
  const { platforms, annotations } = await pushed(registry);
  expect(platforms).toEqual([...PLATFORMS, ...Array(3).fill('unknown/unknown')]);
  expect(annotations[5]).toMatchObject({ 'vnd.docker.reference.type': 'attestation-manifest' });
});

test('stops the other parts when one fails, and tells that failure with its platform', async () => {
  const registry = createMemoryRegistry();
  let stopped: unknown;
  const begun = Promise.withResolvers<void>();
  const [, far] = spread(registry, {
    onBuild: (_order, { signal }) =>
      new Promise((_, reject) => {
        begun.resolve();
        signal.addEventListener('abort', () => {
          stopped = signal.reason;
          reject(new BuildFailure({ kind: 'infrastructure', reason: 'killed' }));
        });
      }),
  });
  const failing = createMemoryBackend({
    registry,
    name: 'native',
    async onBuild() {
      await begun.promise;
      throw new BuildFailure({ kind: 'build', reason: 'exit code 2', step: 'RUN make' });
    },
  });
  const workshop = await openWorkshop(registry, [failing, far]);
  expect(await failureOf(workshop, parseSpec({ platforms: PLATFORMS }))).toEqual({
    kind: 'build',
    reason: 'exit code 2',
    step: 'RUN make',
    platform: 'linux/amd64',
  });
  expect(stopped).toBeInstanceOf(DOMException);
  expect(await workshop.leftovers()).toEqual([]);
  expect([...registry.tags.keys()]).toEqual([]);
});

test('waits for what it aborts, and rejects with the reason of the signal', async () => {
  const registry = createMemoryRegistry();
  const abort = new AbortController();
  const begun = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<void>();
  const backend = createMemoryBackend({
    registry,
    async onBuild() {
      begun.resolve();
      await ended.promise;
    },
  });
  const workshop = await openWorkshop(registry, [backend]);
  let isSettled = false;
  const made = workshop.make(parseSpec(), abort.signal).finally(() => {
    isSettled = true;
  });
  await begun.promise;
  const reason = new Error('cancelled');
  abort.abort(reason);
  await new Promise(resolve => setImmediate(resolve));
  expect(isSettled).toBe(false);
  ended.resolve();
  await expect(made).rejects.toBe(reason);
  expect(await workshop.leftovers()).toEqual([]);
});

const two = ['linux/amd64', 'linux/arm64'];
const OTHER = digestOf(new TextEncoder().encode('other'));

test.each<[string, readonly string[], Partial<BackendOptions>, string]>([
  ['a platform too few', two, { image: { platforms: ['linux/amd64'] } }, 'linux/arm64 is missing'],
  ['a platform too many', two, { image: { platforms: PLATFORMS } }, 'linux/arm/v7 is too much'],
  ['a platform twice', two, { image: { platforms: [...two, 'linux/amd64'] } }, 'linux/amd64 is too much'],
  ['an image for several', two, { image: { index: false } }, 'it is one image, and no index; linux/arm64 is missing'],
  [
    'an index for one',
    ['linux/amd64'],
    { image: { index: true } },
    'it is an index, and not the image of its one platform',
  ],
  [
    'the image of another',
    ['linux/amd64'],
    { image: { platforms: ['linux/arm64'] } },
    'linux/amd64 is missing; linux/arm64 is too much',
  ],
  [
    'attestations that nobody wants',
    two,
    { image: { attestations: true } },
    'it has attestations that were not requested',
  ],
])('does not believe a builder that pushes %s', async (_name, platforms, options, reason) => {
  const registry = createMemoryRegistry();
  const workshop = await openWorkshop(registry, [createMemoryBackend({ registry, platforms: PLATFORMS, ...options })]);
  expect(await failureOf(workshop, parseSpec({ platforms }))).toEqual({
    kind: 'infrastructure',
    reason: `${IMAGE} is not what was asked for: ${reason}`,
  });
});

test('does not believe a builder that leaves the attestations out', async () => {
  const registry = createMemoryRegistry();
  const backend = createMemoryBackend({ registry, image: { attestations: false } });
  const workshop = await openWorkshop(registry, [backend]);
  const { reason } = await failureOf(workshop, parseSpec({ attestations: { sbom: true } }));
  expect(reason).toContain('the attestations of linux/amd64 are missing');
});

test('does not believe a builder that tells another digest than the tag has', async () => {
  const registry = createMemoryRegistry();
  const workshop = await openWorkshop(registry, [createMemoryBackend({ registry, reports: OTHER })]);
  const { kind, reason } = await failureOf(workshop, parseSpec());
  expect(kind).toBe('infrastructure');
  expect(reason).toBe(`${IMAGE} is ${registry.tags.get(IMAGE)}, but the builder reported ${OTHER}`);
});

const CHANGES = { augmentation: { env: { A: '1' } }, layerSources: [] };

test('tags a hosted image once it is known to be what was asked for', async () => {
  const registry = createMemoryRegistry();
  const backend = createMemoryBackend({ registry });
  const workshop = await openWorkshop(registry, [backend], { isHosted: () => true });
  const digest = await workshop.make(parseSpec({}));
  expect(backend.orders[0]?.order.target.image).toBe(`local/builds:${ID}.unfinished`);
  expect([...registry.tags]).toEqual([[IMAGE, digest]]);
});

test('builds what gets changes under another name, and finishes it under its own', async () => {
  const registry = createMemoryRegistry();
  const backend = createMemoryBackend({ registry });
  const workshop = await openWorkshop(registry, [backend]);
  const spec = parseSpec({ changes: CHANGES });
  const digest = await workshop.make(spec);
  expect(backend.orders[0]?.order.target.image).toBe(`local/builds:${ID}.unfinished`);
  expect(workshop.finished).toMatchObject([
    { source: { repository: 'local/builds', digest }, changes: spec.changes, image: IMAGE },
  ]);
  expect([...registry.tags.keys()]).toEqual([IMAGE]);
});

test.each<[string, unknown, Failure]>([
  ['a builder that is gone', new BackendUnavailable('no answer'), { kind: 'infrastructure', reason: 'no answer' }],
  [
    'a broken registry',
    new RegistryError('UNKNOWN', 'it broke', { status: 502 }),
    { kind: 'infrastructure', reason: 'it broke' },
  ],
  ['a limited one', new RegistryError('TOOMANYREQUESTS', 'too many'), { kind: 'infrastructure', reason: 'too many' }],
  ['a closed one', new RegistryError('DENIED', 'not yours'), { kind: 'build', reason: 'not yours' }],
  [
    'a full disk',
    new Error('ENOSPC: /secret/path'),
    { kind: 'infrastructure', reason: 'internal error: the log of Veneer has the cause' },
  ],
  ['a failure of two lines', new BuildFailure({ kind: 'build', reason: 'a\n  b' }), { kind: 'build', reason: 'a b' }],
])('tells %s as a failure of a build', async (_name, error, failure) => {
  const registry = createMemoryRegistry();
  const backend = createMemoryBackend({
    registry,
    onBuild() {
      throw error;
    },
  });
  expect(await failureOf(await openWorkshop(registry, [backend]), parseSpec())).toEqual(failure);
});

test.each([
  ['none has', [], 'build'],
  ['one that is away may have', ['away'], 'infrastructure'],
])('fails for a platform that %s', async (_name, away, kind) => {
  const registry = createMemoryRegistry();
  const down = away.map(name =>
    createMemoryBackend({
      registry,
      name,
      listPlatforms: async () => {
        throw new BackendUnavailable('no answer');
      },
    }),
  );
  const workshop = await openWorkshop(registry, [createMemoryBackend({ registry }), ...down]);
  expect(await failureOf(workshop, parseSpec({ platforms: ['linux/s390x'] }))).toMatchObject({ kind });
});

test('tells and throws no secret of the build', async () => {
  const registry = createMemoryRegistry();
  const secret = 'canary-1234';
  const leaks = [secret, Buffer.from(secret).toString('base64'), 'p4ssword', btoa('builder:p4ssword')];
  const backend = createMemoryBackend({
    registry,
    onBuild(order: BuildInput, { report }) {
      for (const leak of leaks) report({ kind: 'output', text: `saw ${leak}`, step: `RUN echo ${leak}` });
      const reason = `failed with ${leaks.join(' ')}`;
      const cause = new Error(`cause ${leaks.join(' ')} ${order.id}`);
      throw new BuildFailure({ kind: 'build', reason, step: `RUN ${secret}` }, { cause });
    },
  });
  const workshop = await openWorkshop(registry, [backend], {
    findSecret: async () => new TextEncoder().encode(`${secret}\n`),
    findCredentials: async () => new Map([['host', { username: 'builder', password: 'p4ssword' }]]),
  });
  const error = await workshop.make(parseSpec({ secrets: ['npm'] })).catch(caught => caught);
  const cause = error.cause instanceof Error ? `${error.cause.message} ${error.cause.stack}` : '';
  const all = JSON.stringify([workshop.events, error.failure, error.message, cause]);
  for (const leak of leaks) expect(all).not.toContain(leak);
  expect(error.failure.reason).toBe('failed with *** *** *** ***');
  expect(cause).toContain(ID);
  expect(workshop.events).toContainEqual({ kind: 'output', text: 'saw ***', step: 'RUN echo ***' });
});

test.each([
  ['succeeds', () => undefined],
  ['fails', () => Promise.reject(new BuildFailure({ kind: 'build', reason: 'exit code 2' }))],
])('ends the credentials of a build that %s', async (_, onBuild) => {
  const registry = createMemoryRegistry();
  const credentials = new Map([['host', { username: 'builder', password: 'p4ssword' }]]);
  const ended: unknown[] = [];
  const workshop = await openWorkshop(registry, [createMemoryBackend({ registry, onBuild })], {
    findCredentials: async () => credentials,
    endCredentials: async given => void ended.push(given),
  });
  await workshop.make(parseSpec({})).catch(() => undefined);
  expect(ended).toEqual([credentials]);
});

test.each([
  ['the service stops, and its builder works on', 'closing', true, []],
  ['the service stops, and its builder with it', 'closing', false, ['ended']],
  ['somebody cancels, whatever its builder', 'cancelled', true, ['ended']],
] as const)('the credentials of a build that is under way when %s', async (_, kind, survivesRestart, ended) => {
  const registry = createMemoryRegistry();
  const stop = new AbortController();
  const stopped = new BuildStopped(kind, 'stopped');
  const backend = createMemoryBackend({ registry, onBuild: () => stop.abort(stopped) });
  const calls: string[] = [];
  const workshop = await openWorkshop(registry, [{ ...backend, survivesRestart }], {
    endCredentials: async () => void calls.push('ended'),
  });
  await expect(workshop.make(parseSpec({}), stop.signal)).rejects.toBe(stopped);
  expect(calls).toEqual(ended);
});

describe('where a builder fails for a reason of its own', () => {
  const broken = new BuildFailure({ kind: 'infrastructure', reason: 'no cgroups' });
  const failing = (registry: MemoryRegistry, name: string, error: unknown = broken) =>
    createMemoryBackend({ registry, name, platforms: PLATFORMS, onBuild: () => Promise.reject(error) });

  test.each([
    ['of its machine', broken],
    ['that it is gone', new BackendUnavailable('no answer')],
  ])('(%s) the next that can do it is tried', async (_, error) => {
    const registry = createMemoryRegistry();
    const backends = [
      failing(registry, 'first', error),
      createMemoryBackend({ registry, name: 'unable', platforms: PLATFORMS, unsupportedReason: 'no RUN' }),
      failing(registry, 'second'),
      createMemoryBackend({ registry, name: 'third', platforms: PLATFORMS }),
    ];
    const workshop = await openWorkshop(registry, backends);
    await workshop.make(parseSpec({ platforms: PLATFORMS }));
    expect(await pushed(registry)).toMatchObject({ platforms: PLATFORMS });
    expect(workshop.worked).toEqual(['first', 'second', 'third']);
    const notes = workshop.events.flatMap(({ text }) => (text?.includes('continues') ? [text] : []));
    expect(notes).toEqual([
      `first failed: ${error.message}; second continues`,
      'second failed: no cgroups; third continues',
    ]);
    expect(await workshop.leftovers()).toEqual([]);
  });

  test('the failure is that of the last one that could', async () => {
    const registry = createMemoryRegistry();
    const last = new BuildFailure({ kind: 'infrastructure', reason: 'no namespaces' });
    const workshop = await openWorkshop(registry, [failing(registry, 'first'), failing(registry, 'second', last)]);
    await expect(workshop.make(parseSpec())).rejects.toMatchObject({
      failure: { kind: 'infrastructure', reason: 'no namespaces' },
    });
  });

  test('no other is tried for a fault of the Containerfile', async () => {
    const registry = createMemoryRegistry();
    const fault = new BuildFailure({ kind: 'build', reason: 'exit code 2' });
    const backends = [failing(registry, 'first', fault), createMemoryBackend({ registry, name: 'second' })];
    const workshop = await openWorkshop(registry, backends);
    await expect(workshop.make(parseSpec())).rejects.toMatchObject({ failure: { reason: 'exit code 2' } });
    expect(workshop.worked).toEqual(['first']);
  });
});

test('does not build on a base of another platform, which the plan could not look at', async () => {
  const registry = createMemoryRegistry();
  const platforms = ['linux/amd64'];
  registry.put('base:1', generateImage({ seed: 1, platforms, layers: 1, family: 'oci', index: false }));
  const backend = createMemoryBackend({ registry, platforms: PLATFORMS });
  const workshop = await openWorkshop(registry, [backend]);
  const make = (platform: string) =>
    workshop.make(parseSpec({ containerFile: 'FROM base:1\n', platforms: [platform] }));
  await expect(make('linux/arm64')).rejects.toMatchObject({
    failure: {
      kind: 'build',
      reason: 'containerFile: line 1: base:1 has no image for linux/arm64, only for linux/amd64',
    },
  });
  expect(backend.orders).toEqual([]);
  await make('linux/amd64');
  expect(backend.orders).toHaveLength(1);
});

test('begins no other part once one has failed', async () => {
  const registry = createMemoryRegistry();
  const failed = Promise.withResolvers<void>();
  const [, far] = spread(registry);
  const failing = createMemoryBackend({
    registry,
    name: 'native',
    onBuild() {
      failed.resolve();
      throw new BuildFailure({ kind: 'build', reason: 'exit code 2' });
    },
  });
  const workshop = await openWorkshop(registry, [failing, far], {
    // The context of the second part takes until the first has failed.
    unpackContext: async (_digest, directory) => {
      if (directory.endsWith(join('2', 'context'))) await failed.promise.then(() => new Promise(setImmediate));
      return new Map();
    },
  });
  expect(await failureOf(workshop, parseSpec({ platforms: PLATFORMS, context }))).toMatchObject({
    reason: 'exit code 2',
  });
  expect(far.orders).toEqual([]);
});
