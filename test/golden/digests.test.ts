// Every byte that augmentation and rules make, by digests that are recorded: a change that is to keep bytes is seen where it does not.
// Where bytes are to change, VENEER_RECORD_GOLDEN=1 records the digests again; the difference of digests.json says what changed.
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { digestOf } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/errors.ts';
import { run } from '../augment/fixture.ts';
import { startApp, type TestApp } from '../support/app.ts';
import type { GeneratedImage } from '../support/images.ts';
import { LAYER_BLOB, requestsAt, rulesAt, SERVED_LAYERS, STEPS } from './changes.ts';
import { createGoldenImages, createIncludedImage, type GoldenImage, packPlain, tarOf } from './images.ts';
import { differencesFrom, type Made } from './record.ts';

const images = createGoldenImages();
/** The registry by a name that is the same in each run: provenance tells it. */
const UPSTREAM = 'docker.io';
const FROZEN = [
  'OCI and Docker in one index',
  'nested indexes with attestations and an artifact',
  'empty config fields',
];

const manifestSchema = z.object({ manifests: z.array(z.object({ digest: z.string() })).default([]) });

let app: TestApp;

beforeEach(async () => {
  app = await startApp();
  const putAll = (repository: string, { content, root }: GeneratedImage) =>
    app.registry.put(
      repository,
      [...content].map(([digest, each]) => ({ ...each, ...(digest === root.digest && { tags: ['1'] }) })),
    );
  for (const { name, image } of images) putAll(repositoryOf(name), image);
  putAll('golden/included', createIncludedImage());
  app.registry.put('golden/layers', [{ mediaType: 'application/octet-stream', raw: LAYER_BLOB }]);
  app.registry.intercept(({ url = '' }, response) => {
    const raw = SERVED_LAYERS[url];
    if (raw) response.writeHead(200, { 'content-length': raw.byteLength }).end(raw);
    return raw !== undefined;
  });
});

afterEach(() => app.close());

test('the pure functions make the recorded digests of every image', async () => {
  const made = await makeAll(Object.keys(STEPS), ({ image }, step) => augmented(image, step));
  expect(differencesFrom('augment', made)).toEqual([]);
});

test('tokens serve the recorded digests of every image', async () => {
  await configure([]);
  const requests = requestsAt(app.registry.host);
  const made = await makeAll(Object.keys(requests), async ({ name }, request) => {
    const response = await submit({ ...bodyFor(name), ...requests[request] });
    if (response.status !== 200) return `refused: ${response.status}`;
    const { targetImage } = z.object({ targetImage: z.string() }).parse(await response.json());
    return pulled(targetImage.replace(/^[^/]+\/|:[^:]+$/g, ''));
  });
  expect(differencesFrom('tokens', made)).toEqual([]);
});

test('rules serve the recorded digests of every image', async () => {
  const layers = await writeLayers();
  const sets = rulesAt({ host: app.registry.host, ...layers });
  const made: Record<string, string> = {};
  for (const [set, rules] of Object.entries(sets)) {
    await configure(rules);
    Object.assign(made, await makeAll([set], ({ name }) => pulled(`${UPSTREAM}/${repositoryOf(name)}`)));
  }
  expect(differencesFrom('rules', made)).toEqual([]);
});

test('frozen copies have the recorded digests', async () => {
  await configure([]);
  const containerConfig = { env: ['FROZEN=1'], layers: [{ location: `http://${app.registry.host}/layer.tar.gz` }] };
  const made = await makeAll(['frozen'], async ({ name }) => {
    if (!FROZEN.includes(name)) return undefined;
    const response = await submit({ ...bodyFor(name), containerConfig, freeze: true });
    if (response.status !== 200) return `refused: ${response.status}`;
    const { buildId } = z.object({ buildId: z.string() }).parse(await response.json());
    // The log ends when the copy does.
    await (await app.request(`/v1alpha1/builds/${buildId}/logs`)).text();
    const record = await (await app.request(`/v1alpha1/builds/${buildId}`)).json();
    return z.object({ digest: z.string() }).parse(record).digest;
  });
  expect(differencesFrom('frozen', made)).toEqual([]);
});

/** What each image becomes by each change, by both their names. */
async function makeAll(
  changes: readonly string[],
  make: (image: GoldenImage, change: string) => Promise<string | undefined>,
): Promise<Made> {
  const made = images.flatMap(image =>
    changes.map(async change => ({ [`${image.name}, ${change}`]: await make(image, change) })),
  );
  const entries = Object.entries(Object.assign({}, ...(await Promise.all(made))));
  return z.record(z.string(), z.string()).parse(Object.fromEntries(entries.filter(([, value]) => value !== undefined)));
}

async function augmented(image: GeneratedImage, step: string): Promise<string> {
  try {
    return (await run(image, STEPS[step] ?? [])).root.digest;
  } catch (error) {
    if (error instanceof RegistryError) return `refused: ${error.code}`;
    throw error;
  }
}

/** The digest of what a name's tag leads to, and one of the provenance of that and of the first image in it. */
async function pulled(name: string): Promise<string> {
  const response = await app.request(`/v2/${name}/manifests/1`);
  if (response.status !== 200) return `refused: ${response.status}`;
  const raw = await response.bytes();
  const { manifests } = manifestSchema.parse(JSON.parse(new TextDecoder().decode(raw)));
  const subjects = [digestOf(raw), ...manifests.map(({ digest }) => digest).slice(0, 1)];
  const referrers = await Promise.all(subjects.map(subject => referrersOf(name, subject)));
  const provenance = referrers.flat();
  return provenance.length === 0 ? digestOf(raw) : `${digestOf(raw)}, provenance ${provenance.join(' ')}`;
}

async function referrersOf(name: string, subject: string): Promise<readonly string[]> {
  const response = await app.request(`/v2/${name}/referrers/${subject}`);
  return manifestSchema.parse(await response.json()).manifests.map(({ digest }) => digest);
}

function submit(body: object): Promise<Response> {
  return app.request('/v1alpha2/container', { method: 'POST', body });
}

function bodyFor(name: string) {
  return { containerImage: `${UPSTREAM}/${repositoryOf(name)}:1` };
}

function repositoryOf(name: string): string {
  return `golden/image-${images.findIndex(image => image.name === name)}`;
}

async function configure(rules: readonly object[]): Promise<void> {
  const upstreams = { [UPSTREAM]: { url: app.registry.url } };
  await app.configure({ rules, upstreams, layers: { allowPrivateAddresses: true } });
}

async function writeLayers(): Promise<{ readonly directory: string; readonly file: string }> {
  const directory = join(app.directory, 'layer');
  const file = join(app.directory, 'layer.tar.gz');
  await mkdir(join(directory, 'bin'), { recursive: true });
  await writeFile(join(directory, 'ca.pem'), 'a certificate');
  await writeFile(join(directory, 'bin/tool'), 'a tool');
  await symlink('tool', join(directory, 'bin/alias'));
  // What the umask takes away depends on the machine.
  const modes = { '.': 0o755, bin: 0o750, 'ca.pem': 0o644, 'bin/tool': 0o755 };
  await Promise.all(Object.entries(modes).map(([path, mode]) => chmod(join(directory, path), mode)));
  await writeFile(file, packPlain(tarOf([{ name: 'bin/of-file', body: 'of a file' }]), 'gzip'));
  return { directory, file };
}
