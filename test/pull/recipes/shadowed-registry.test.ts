// What recipes built for an upstream's names, served under those names: by tag, by digest, in lists.
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { HostedRepositories } from '../../../src/hosted/repositories.ts';
import { digestOf } from '../../../src/oci/digest.ts';
import { RegistryError } from '../../../src/oci/errors.ts';
import { mediaTypes } from '../../../src/oci/media-type.ts';
import {
  createShadowedRegistry,
  mergeTags,
  type Shadow,
  shadowName,
} from '../../../src/pull/recipes/recipe-registry.ts';
import { createHostedRegistry } from '../../../src/pull/registries.ts';
import type { Registry } from '../../../src/pull/registry.ts';
import { createPlace, type Place, pushSmall, readBlob } from '../../hosted/fixture.ts';
import { createRecipeFixture, settle } from './recipe-fixture.ts';

let places: readonly [Place, Place];
let ours: HostedRepositories;
let theirs: HostedRepositories;
let upstream: Registry;
/** What recipes built, as `<tag>@<digest>`. */
let built: Set<string>;

beforeEach(async () => {
  places = [await createPlace(), await createPlace()];
  [ours, theirs] = [await places[0].open(), await places[1].open()];
  upstream = createHostedRegistry(theirs, 'docker.io');
  built = new Set();
});

afterEach(() => Promise.all(places.map(place => place.remove())));

const NAME = 'local/builds/docker.io/library/app';

/** Every repository of the upstream but `library/plain` has a shadow. */
function shadowed(own: Partial<Registry> = {}): Registry {
  const registry = createHostedRegistry(ours, 'local');
  const wasBuilt: Shadow['wasBuilt'] = async (tag, digest) => built.has(`${tag}@${digest}`);
  return createShadowedRegistry({ ...upstream, ...own }, repository =>
    repository === 'library/plain' ? undefined : { registry, repository: `builds/docker.io/${repository}`, wasBuilt },
  );
}

const pushByHand = (seed: string, ...tags: string[]) => pushSmall(ours, NAME, seed, { tags });
/** As a recipe does. */
async function pushOurs(seed: string, ...tags: string[]) {
  const pushed = await pushByHand(seed, ...tags);
  for (const tag of tags) built.add(`${tag}@${pushed.digest}`);
  return pushed;
}
/** Under the name that the upstream's repository has in the registry that plays it. */
const pushTheirs = (seed: string, ...tags: string[]) => pushSmall(theirs, 'docker.io/library/app', seed, { tags });

test('serves a tag of the upstream where it has it, and ours where it lacks it', async () => {
  const [own, { digest }] = [await pushTheirs('theirs', '1'), await pushOurs('ours', '1', '2')];
  expect(await shadowed().resolveTag('library/app', '1')).toBe(own.digest);
  expect(await shadowed().resolveTag('library/app', '2')).toBe(digest);
});

test.each([404, 429, 502])('serves a tag of ours where the upstream answers %i', async status => {
  const { digest } = await pushOurs('ours', '2');
  const resolveTag = async () => {
    throw new RegistryError('UNKNOWN', 'theirs', { status });
  };
  expect(await shadowed({ resolveTag }).resolveTag('library/app', '2')).toBe(digest);
  await expect(shadowed({ resolveTag }).resolveTag('library/app', '3')).rejects.toMatchObject({ message: 'theirs' });
  await expect(shadowed({ resolveTag }).resolveTag('library/plain', '2')).rejects.toMatchObject({ message: 'theirs' });
});

test.each([404, 429, 502])('serves no tag that somebody pushed by hand where the upstream answers %i', async status => {
  const { digest } = await pushOurs('ours', '2');
  await pushByHand('by hand', '2', '3');
  built.add(`4@${digest}`).add(`3@${digest}`);
  const resolveTag = async () => {
    throw new RegistryError('UNKNOWN', 'theirs', { status });
  };
  for (const tag of ['2', '3', '4']) {
    await expect(shadowed({ resolveTag }).resolveTag('library/app', tag)).rejects.toMatchObject({ message: 'theirs' });
  }
});

test.each([401, 403])('serves nothing of ours where the upstream answers %i', async status => {
  await pushOurs('ours', '2');
  const resolveTag = async () => {
    throw new RegistryError('DENIED', 'theirs', { status });
  };
  await expect(shadowed({ resolveTag }).resolveTag('library/app', '2')).rejects.toMatchObject({ status });
});

test('serves manifests and blobs of both by their digests', async () => {
  const registry = shadowed();
  for (const [hosted, name, pushed] of [
    [ours, NAME, await pushOurs('ours', '2')],
    [theirs, 'docker.io/library/app', await pushTheirs('theirs', '1')],
  ] as const) {
    expect(digestOf((await registry.getManifest('library/app', pushed.digest)).raw)).toBe(pushed.digest);
    const blob = await registry.getBlob('library/app', pushed.layer);
    expect(await new Response(await blob.open()).bytes()).toEqual(await readBlob(hosted, name, pushed.layer));
    expect((await registry.headBlob('library/app', pushed.layer)).size).toBe(blob.size);
    const config = { mediaType: mediaTypes.ociConfig, digest: pushed.config };
    const size = (await registry.headBlob('library/app', pushed.config)).size ?? 0;
    expect(digestOf(await registry.readConfig('library/app', { ...config, size }))).toBe(pushed.config);
  }
});

test('gives the error of the upstream for what neither has, and asks ours for no repository without a recipe', async () => {
  const { digest, layer } = await pushOurs('ours', '2');
  const registry = shadowed();
  await expect(registry.getManifest('library/plain', digest)).rejects.toMatchObject({ status: 404 });
  await expect(registry.getBlob('library/plain', layer)).rejects.toMatchObject({ status: 404 });
  const missing = shadowed({
    getManifest: async () => {
      throw new RegistryError('MANIFEST_UNKNOWN', 'theirs');
    },
  });
  const { digest: other } = await pushTheirs('theirs', '1');
  await expect(missing.getManifest('library/app', other)).rejects.toMatchObject({ message: 'theirs' });
});

test('lists the tags of both, each once and in order', async () => {
  await pushTheirs('theirs', '1', '3');
  await pushOurs('ours', '2', '3', '4');
  expect(await shadowed().listTags('library/app', {})).toEqual({ tags: ['1', '2', '3', '4'], hasMore: false });
  expect(await shadowed().listTags('library/app', { n: 2 })).toEqual({ tags: ['1', '2'], hasMore: true });
  expect(await shadowed().listTags('library/app', { n: 2, last: '2' })).toEqual({ tags: ['3', '4'], hasMore: false });
});

test('lists no tag that somebody pushed by hand, however many there are', async () => {
  await pushTheirs('theirs', '1', '6');
  await pushByHand('by hand', '2', '3', '4', '7');
  await pushOurs('ours', '5');
  expect(await shadowed().listTags('library/app', {})).toEqual({ tags: ['1', '5', '6'], hasMore: false });
  expect(await shadowed().listTags('library/app', { n: 1 })).toEqual({ tags: ['1'], hasMore: true });
  expect(await shadowed().listTags('library/app', { n: 1, last: '1' })).toEqual({ tags: ['5'], hasMore: true });
  expect(await shadowed().listTags('library/app', { n: 1, last: '5' })).toEqual({ tags: ['6'], hasMore: false });
});

test('lists the tags of ours where the upstream has no such repository, and the other way round', async () => {
  await pushOurs('ours', '2');
  expect((await shadowed().listTags('library/app', {})).tags).toEqual(['2']);
  await pushSmall(theirs, 'docker.io/library/other', 'theirs', { tags: ['z'] });
  expect((await shadowed().listTags('library/other', {})).tags).toEqual(['z']);
  await expect(shadowed().listTags('library/none', {})).rejects.toMatchObject({ code: 'NAME_UNKNOWN' });
});

test('shows no tag past the end of a page that continues', () => {
  const merged = mergeTags({ tags: ['a', 'b'], hasMore: true }, { tags: ['b', 'x'], hasMore: false }, { n: 5 });
  expect(merged).toEqual({ tags: ['a', 'b'], hasMore: true });
});

test('finds the referrers of an image where it is', async () => {
  const { digest, raw } = await pushOurs('ours', '2');
  const subject = { mediaType: mediaTypes.ociManifest, digest, size: raw.byteLength };
  const referrer = await pushReferrer(ours, NAME, subject);
  const index = await shadowed().findReferrers('library/app', digest);
  expect(new TextDecoder().decode(index?.raw)).toContain(referrer);
  const own = await pushTheirs('theirs', '1');
  const signature = await pushReferrer(theirs, 'docker.io/library/app', { ...subject, digest: own.digest });
  const others = await shadowed().findReferrers('library/app', own.digest);
  expect(new TextDecoder().decode(others?.raw)).toContain(signature);
});

async function pushReferrer(hosted: HostedRepositories, name: string, subject: object): Promise<string> {
  const { digest, config, layer } = await pushSmall(hosted, name, 'signature');
  const { raw } = await hosted.manifests.get(name, digest);
  const manifest = { ...JSON.parse(new TextDecoder().decode(raw)), subject, annotations: { config, layer } };
  const push = {
    raw: new TextEncoder().encode(JSON.stringify(manifest)),
    contentType: mediaTypes.ociManifest,
    tags: [],
  };
  return (await hosted.manifests.put(name, push)).digest;
}

test.each([
  ['docker.io', 'library/app', NAME],
  ['registry.example:5000', 'a/b', 'local/builds/registry.example-5000/a/b'],
  ['[::1]:5000', 'a', 'local/builds/1-5000/a'],
  ['my_alias', 'a', 'local/builds/my_alias/a'],
])('images for %s/%s are in %3$s', (registry, repository, expected) => {
  expect(shadowName('local/builds', registry, repository)).toBe(expected);
});

test('an image that a recipe builds for a missing tag of an upstream is served under its name', async () => {
  const fixture = await createRecipeFixture();
  const recipe = { match: 'docker.io/library/{name}:{tag}', containerFile: 'Containerfile' };
  const plain = createShadowedRegistry(upstream, repository => ({
    registry: fixture.local,
    repository: `builds/docker.io/${repository}`,
    wasBuilt: (tag, digest) => fixture.images.wasBuilt(`docker.io/${repository}:${tag}`, digest),
  }));
  const registry = fixture.withRecipes([recipe])(plain, name => shadowName('local/builds', 'docker.io', name));
  const pull = registry.resolveTag('library/app', '9');
  await settle();
  expect(fixture.begun[0]?.target).toEqual({ repository: NAME, tag: '9' });
  const digest = await fixture.succeed(0, 'built');
  expect(await pull).toBe(digest);
  expect((await registry.getManifest('library/app', digest)).digest).toBe(digest);
  expect((await registry.listTags('library/app', {})).tags).toEqual(['9']);
  await fixture.remove();
});
