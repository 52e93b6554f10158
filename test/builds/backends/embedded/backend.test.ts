import { chmod, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createEmbeddedBackend } from '../../../../src/builds/backends/embedded/backend.ts';
import { BuildFailure } from '../../../../src/builds/execution.ts';
import type { ProgressEvent } from '../../../../src/builds/progress.ts';
import { parseManifest } from '../../../../src/oci/manifest.ts';
import { mediaTypes } from '../../../../src/oci/media-type.ts';
import { formatPlatform } from '../../../../src/oci/platform.ts';
import { createImageStore, type ImageStore, packTar } from '../../../support/build-images.ts';
import { createOrder, type OrderOptions } from '../../../support/build-order.ts';
import { type FlatImage, flattenImages } from '../../../support/flat-image.ts';
import { checkImage } from '../../../support/oracle.ts';
import { measureLongestHoldMs } from '../../../support/thread-time.ts';

const IMAGE = 'local/builds:app';

let folder: string;
let store: ImageStore;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veneer-embedded-'));
  store = createImageStore();
});

afterEach(() => rm(folder, { recursive: true, force: true }));

interface Options extends Partial<Omit<OrderOptions, 'containerFile' | 'image'>> {
  readonly signal?: AbortSignal;
  readonly report?: (event: ProgressEvent) => void;
  readonly prepare?: (directory: string) => Promise<void>;
}

async function build(containerFile: string, { signal, report = () => {}, prepare, ...options }: Options = {}) {
  const order = await createOrder(folder, { containerFile, image: IMAGE, ...options });
  await prepare?.(join(order.directory, 'context'));
  return createEmbeddedBackend(store).build(order, { signal: signal ?? AbortSignal.timeout(20_000), report });
}

/** What was pushed, checked by the oracle. */
async function pushed(): Promise<readonly FlatImage[]> {
  const root = store.tags.get(IMAGE);
  if (!root) throw new Error('nothing was pushed');
  await checkImage(root, store.read);
  return flattenImages(root, store.read);
}

async function failureOf(building: Promise<unknown>) {
  const error = await building.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof BuildFailure) return error.failure;
  throw error ?? new Error('it succeeded');
}

test('pushes an image for one platform, and an index in the order that was asked for several', async () => {
  const { digest } = await build('FROM scratch\nCOPY a /\n', { context: { a: 'A' } });
  expect(store.tags.get(IMAGE)).toMatchObject({ digest, mediaType: mediaTypes.ociManifest });
  const platforms = ['linux/arm64', 'linux/riscv64', 'linux/amd64'];
  const index = await build('FROM scratch\nCOPY a /\n', { context: { a: 'A' }, platforms });
  expect(store.tags.get(IMAGE)).toMatchObject({ digest: index.digest, mediaType: mediaTypes.ociIndex });
  expect((await pushed()).map(({ platform }) => platform)).toEqual(platforms);
});

test('keeps all bits of modes of the context, and of those that it had before it was on disk', async () => {
  const context = { su: 'x', shadow: 'x', 'tmp/f': 'x', odd: 'x' };
  const order = await createOrder(folder, { containerFile: 'FROM scratch\nCOPY . /\n', image: IMAGE, context });
  const modes = { su: 0o4755, tmp: 0o3777, odd: 0o2470 };
  for (const [name, mode] of Object.entries(modes)) await chmod(join(order.directory, 'context', name), mode);
  const contextModes = new Map([['shadow', 0]]);
  const options = { signal: AbortSignal.timeout(20_000), report: () => {} };
  await createEmbeddedBackend(store).build({ ...order, contextModes }, options);
  const [image] = await pushed();
  const found = Object.entries(image?.files ?? {}).map(([name, { mode }]) => `${mode} ${name}`);
  expect(found.toSorted()).toEqual(expect.arrayContaining(['4755 su', '3777 tmp', '2470 odd', '0 shadow']));
});

test.each<[what: string, text: string, context?: Readonly<Record<string, string>>]>([
  [
    'variables by the hundred thousand',
    `ENV ${Array.from({ length: 60_000 }, (_, i) => `a${i}=b`).join(' ')}\n`.repeat(2),
  ],
  [
    'labels by the hundred thousand',
    `LABEL ${Array.from({ length: 60_000 }, (_, i) => `a${i}=b`).join(' ')}\n`.repeat(2),
  ],
  ['every port again and again', `EXPOSE ${'1-65535 '.repeat(5000)}\n`],
  ['values that double', `ENV A=aaaa\n${'ENV A=$A$A\n'.repeat(500)}`],
  ['patterns with many stars', `ENV A=${'a'.repeat(5000)}\n${`LABEL a=\${A##${'*a'.repeat(100)}b}\n`.repeat(500)}`],
  ['sources without end', `COPY ${'. '.repeat(100_000)}/\n`, { a: 'x' }],
  ['deep directories', `WORKDIR ${'/a'.repeat(200_000)}\n`],
  ['wildcards upon wildcards', `COPY ${`${'*a'.repeat(60)}b `.repeat(2000)}/\n`, { ['a'.repeat(250)]: 'x' }],
  ['excludes upon excludes', `COPY ${`--exclude=${'*a'.repeat(60)}b `.repeat(2000)}. /\n`, { ['a'.repeat(250)]: 'x' }],
])('%s hold nobody up', async (_, text, context = {}) => {
  const run = async () => {
    const building = build(`FROM scratch\n${text}`, { context, signal: AbortSignal.timeout(4000) });
    const outcome = await building.then(
      () => 'built',
      (error: unknown) => error,
    );
    const isForeseen = outcome === 'built' || outcome instanceof BuildFailure || outcome instanceof DOMException;
    expect(isForeseen || outcome).toBe(true);
  };
  // It was for ever.
  expect(await measureLongestHoldMs(run)).toBeLessThan(1500);
});

test('gives the same digests each time', async () => {
  await store.make('base', { platforms: ['linux/amd64'], layers: [[{ name: 'etc/passwd', body: 'ann:x:5:6::/:\n' }]] });
  const text = 'FROM base\nARG X\nCOPY --chown=ann a b /d/\nWORKDIR /w\nENV X=$X\n';
  const context = { a: 'A', b: 'B' };
  const first = await build(text, { context });
  const other = createImageStore();
  await other.make('base', { platforms: ['linux/amd64'], layers: [[{ name: 'etc/passwd', body: 'ann:x:5:6::/:\n' }]] });
  store = other;
  expect(await build(text, { context })).toEqual(first);
  expect(await build(text, { context, spec: { args: { SOURCE_DATE_EPOCH: '86400' } } })).not.toEqual(first);
});

test('pushes blobs before manifests, and the tag last', async () => {
  await store.make('base', { platforms: ['linux/amd64', 'linux/arm64'], layers: [[{ name: 'x', body: 'x' }]] });
  await build('FROM base\nCOPY a /\n', { context: { a: 'A' }, platforms: ['linux/amd64', 'linux/arm64'] });
  const kinds = store.pushes.map(push => push.split(' ')[0]);
  // The layers are the same for both platforms, and pushed once.
  expect(kinds).toEqual(['blob', 'blob', 'blob', 'blob', 'manifest', 'manifest', 'manifest', 'tag']);
});

test('reads no layer where only the configuration changes', async () => {
  const base = {
    platforms: ['linux/amd64'],
    layers: [await packTar([{ name: 'x' }])],
    run: { Env: ['A=1'], Cmd: ['x'] },
  };
  await store.make('base', base);
  await build('FROM base\nENV B=$A\nCOPY --link a /\nLABEL c=d\n', {
    context: { a: 'A' },
    spec: { labels: { e: 'f' } },
  });
  // Once, to be pushed.
  expect(store.opened).toHaveLength(1);
  const [image] = await pushed();
  expect(image?.config).toMatchObject({
    Env: ['A=1', expect.stringMatching(/^PATH=/), 'B=1'],
    Labels: { c: 'd', e: 'f' },
  });
});

test('takes the base that the spec has pinned', async () => {
  const old = await store.make('base', { platforms: ['linux/amd64'], run: { Env: ['V=old'] } });
  await store.make('base', { platforms: ['linux/amd64'], run: { Env: ['V=new'] } });
  await build('FROM base\n', { spec: { bases: { base: old } } });
  expect((await pushed())[0]?.config).toMatchObject({ Env: expect.arrayContaining(['V=old']) });
});

test.each(['gzip', 'zstd', 'uncompressed'] as const)('packs its layers as %s', async mode => {
  await build('FROM scratch\nCOPY a /\n', {
    context: { a: 'A'.repeat(5000) },
    spec: { compression: { mode, level: 3 } },
  });
  const root = store.tags.get(IMAGE);
  const manifest = root && parseManifest(store.read(root), root.mediaType);
  const types = { gzip: 'tar+gzip', zstd: 'tar+zstd', uncompressed: 'tar' };
  expect(manifest).toMatchObject({ layers: [{ mediaType: `application/vnd.oci.image.layer.v1.${types[mode]}` }] });
  expect((await pushed())[0]?.files).toHaveProperty('a');
});

test('tells its steps by the names that BuildKit gives them', async () => {
  await store.make('base', { platforms: ['linux/arm64'] });
  const events: ProgressEvent[] = [];
  const text = 'FROM base AS one\nENV a=b\nCOPY a \\\n  /\nFROM one\nWORKDIR /w\n';
  await build(text, { context: { a: 'A' }, platforms: ['linux/arm64'], report: entry => events.push(entry) });
  expect(events.map(({ step, state }) => `${state} ${step}`)).toEqual([
    'started [linux/arm64 one 1/2] FROM base AS one',
    'done [linux/arm64 one 1/2] FROM base AS one',
    'started [linux/arm64 one 2/2] COPY a   /',
    'done [linux/arm64 one 2/2] COPY a   /',
    'started [linux/arm64 stage-1 1/1] WORKDIR /w',
    'done [linux/arm64 stage-1 1/1] WORKDIR /w',
  ]);
  expect(events.every(({ platform }) => platform === 'linux/arm64')).toBe(true);
});

test('names the platforms that a base has, where one is missing', async () => {
  await store.make('base', { platforms: ['linux/amd64', 'linux/arm64'] });
  expect(await failureOf(build('FROM base\n', { platforms: ['linux/amd64', 'linux/s390x'] }))).toEqual({
    kind: 'build',
    reason: 'line 1: base has no image for linux/s390x, only for linux/amd64, linux/arm64',
    platform: 'linux/s390x',
    step: 'FROM base',
  });
  expect(store.tags.size).toBe(0);
});

test('refuses an image of another platform that is no index', async () => {
  await store.make('base', { platforms: ['linux/arm64'], isSingle: true });
  expect(await failureOf(build('FROM base\n'))).toMatchObject({ kind: 'build', platform: 'linux/amd64' });
});

test.each<[text: string, reason: RegExp, step?: string]>([
  ['COPY missing /x', /^line 2: \/missing does not exist$/],
  ['COPY ../a /x', /^line 2: \/a does not exist$/],
  ['COPY dir /file', /^line 2: \/file is not a directory$/],
  ['COPY f /dir/\nCOPY f /dir/f/g', /^line 3: \/dir\/f is not a directory$/, 'COPY f /dir/f/g'],
  ['COPY --parents dir/none /x', /^line 2: \/dir\/none does not exist$/],
  ['COPY [ /x', /"\[" without its "\]"/],
  ['COPY --link --chown=ann f /x', /a name, which --link cannot look up/],
  ['COPY --chmod=9 f /x', /an octal mode/],
  ['COPY --chmod=u!x f /x', /write it as 755/],
  ['COPY f /.wh.x', /begins with \.wh\./],
  ['ADD bad.tar.xz /x', /compressed with xz/],
  ['EXPOSE 70000', /not a port/],
  ['STOPSIGNAL SIGNOTHING', /not a signal/],
  // biome-ignore lint/suspicious/noTemplateCurlyInString: a variable of the Containerfile
  ['USER ${X:?give X}', /^line 2: X: give X$/],
])('says where and why %j fails', async (text, reason, step = text) => {
  await store.make('base', { platforms: ['linux/amd64'], layers: [[{ name: 'file' }]] });
  const prepare = (context: string) =>
    writeFile(join(context, 'bad.tar.xz'), Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]));
  const building = build(`FROM base\n${text}\n`, { context: { f: 'F', 'dir/x': 'X' }, prepare });
  expect(await failureOf(building)).toMatchObject({
    kind: 'build',
    reason: expect.stringMatching(reason),
    platform: 'linux/amd64',
    step,
  });
});

test('refuses a platform of a stage that is none', async () => {
  const failure = await failureOf(build('FROM --platform=no/such/platform/here scratch\n'));
  expect(failure).toMatchObject({ kind: 'build', reason: expect.stringMatching(/^line 1: .*is not a platform/) });
});

test('says what the registry of a base says, and in which step', async () => {
  await expect(build('FROM scratch\nCOPY --from=nothing f /x\n')).rejects.toMatchObject({
    name: 'BuildFailure',
    failure: { kind: 'build', step: 'COPY --from=nothing f /x', reason: 'line 2: nothing: there is no nothing' },
  });
});

test('says what is wrong with the file itself', async () => {
  expect(await failureOf(build('FROM scratch\nCOPPY a b\n'))).toMatchObject({
    kind: 'build',
    reason: /^line 2: .*COPY\?$/,
  });
  expect(await failureOf(build('FROM scratch\n', { spec: { stage: 'x' } }))).toMatchObject({ reason: /no stage "x"/ });
});

test.each([
  ['a trigger of the base', 'FROM base\n'],
  ['the platform of this machine', `FROM secret-\${BUILDARCH}\n`],
])('reads no image that %s names alone', async (_, containerFile) => {
  const platforms = ['linux/amd64'];
  await store.make('base', { platforms, run: { OnBuild: ['COPY --from=secret-arm64 / /stolen/'] } });
  await store.make('secret-arm64', { platforms });
  const backend = createEmbeddedBackend({ ...store, buildPlatform: { os: 'linux', architecture: 'arm64' } });
  const order = await createOrder(folder, { containerFile, image: IMAGE, platforms });
  const failure = await failureOf(backend.build(order, { signal: AbortSignal.timeout(20_000), report: () => {} }));
  expect(failure).toMatchObject({ kind: 'build', reason: expect.stringMatching(/may not be read/) });
  expect(store.tags.get(IMAGE)).toBeUndefined();
});

test('refuses to run what a trigger of the base wants to run', async () => {
  await store.make('base', { platforms: ['linux/amd64'], run: { OnBuild: ['RUN make'] } });
  expect(await failureOf(build('FROM base\n'))).toMatchObject({ reason: /install BuildKit/, step: 'RUN make' });
});

test('reads nothing outside of the build context', async () => {
  const secret = join(folder, 'secret');
  await writeFile(secret, 'secret');
  const prepare = async (context: string) => {
    await symlink(secret, join(context, 'absolute'));
    await symlink('../../secret', join(context, 'relative'));
    await symlink('/', join(context, 'root'));
  };
  for (const source of ['absolute', 'relative', 'root/../secret', `root${secret}`, '../secret', secret]) {
    expect(await failureOf(build(`FROM scratch\nCOPY ${source} /x\n`, { prepare }))).toMatchObject({
      reason: /does not exist/,
    });
  }
  await build('FROM scratch\nCOPY . /x/\n', { prepare });
  const [image] = await pushed();
  expect(image?.files['x/relative']).toMatchObject({ type: 'symlink', link: '../../secret' });
});

test('leaves out what .dockerignore names', async () => {
  const context = { '.dockerignore': '*\n!keep\n!dir/keep\n', a: 'a', keep: 'k', 'dir/a': 'a', 'dir/keep': 'k' };
  await build('FROM scratch\nCOPY . /\n', { context });
  expect(Object.keys((await pushed())[0]?.files ?? {})).toEqual(['dir', 'dir/keep', 'keep']);
});

test('stops when it is told to, with the reason that it is given', async () => {
  await store.make('base', { platforms: ['linux/amd64'], layers: [[{ name: 'x' }]] });
  const stop = new AbortController();
  const reason = new Error('enough');
  const report = ({ step, state }: ProgressEvent) => {
    if (step?.includes('COPY') && state === 'started') stop.abort(reason);
  };
  await expect(build('FROM base\nCOPY a /\n', { context: { a: 'A' }, signal: stop.signal, report })).rejects.toBe(
    reason,
  );
  expect(store.pushes).toEqual([]);
  await expect(build('FROM scratch\n', { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
});

test('refuses layers and archives that unpack to very much', async () => {
  const bomb = await packTar([{ name: 'zeros', body: '\0'.repeat(4 * 1024 * 1024) }]);
  await store.make('bomb', { platforms: ['linux/amd64'], layers: [bomb] });
  const limits = {
    maxPackedBytes: 1e6,
    maxBytes: 1e9,
    maxEntries: 10,
    maxDepth: 8,
    maxRatio: 10,
    ratioFreeBytes: 1024,
  };
  const order = await createOrder(folder, { containerFile: 'FROM bomb\nWORKDIR /x\n', image: IMAGE });
  const building = createEmbeddedBackend({ ...store, limits }).build(order, {
    signal: AbortSignal.timeout(20_000),
    report: () => {},
  });
  expect(await failureOf(building)).toMatchObject({
    reason: /^line 2: the layer sha256:.* more than 10 times its \d+ bytes/,
  });
});

test('can build for the common platforms of Linux', async () => {
  const backend = createEmbeddedBackend(store);
  const platforms = (await backend.listPlatforms(AbortSignal.timeout(1000))).map(formatPlatform);
  expect(platforms).toEqual(
    expect.arrayContaining(['linux/amd64', 'linux/arm64', 'linux/arm/v7', 'linux/s390x', 'linux/ppc64le']),
  );
  expect(backend).toMatchObject({ name: 'embedded', kind: 'embedded', isMultiPlatform: true });
  await backend.close();
});
