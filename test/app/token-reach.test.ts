// What hangs from a token is served through it, and nothing else of the source's repository, in whatever order it is asked for.
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { isIndexType, isManifestType, mediaTypes } from '../../src/oci/media-type.ts';
import { dataUrl, makeLayer, PLATFORMS, startApp, type TestApp } from '../support/app.ts';
import { type Content, type GeneratedImage, generateImage } from '../support/images.ts';

const layer = await makeLayer('opt/hello', 'hi');
const containerConfig = { env: ['A=1'], layers: [{ location: dataUrl(layer) }] };

let app: TestApp;

beforeAll(async () => {
  app = await startApp();
});

afterAll(() => app.close());

interface Document {
  readonly artifactType?: string;
  readonly config?: Named;
  readonly layers?: readonly Named[];
  readonly manifests?: readonly Named[];
  readonly subject?: Named;
}

interface Named {
  readonly digest: string;
  readonly mediaType?: string;
}

type Contents = Map<string, Content>;

const isDocument = ({ mediaType }: Content) => isManifestType(mediaType) || isIndexType(mediaType);
const parse = ({ raw }: Content): Document => JSON.parse(new TextDecoder().decode(raw));

function add(contents: Contents, mediaType: string, value: object | string): Named {
  const raw = new TextEncoder().encode(typeof value === 'string' ? value : JSON.stringify(value));
  const digest = digestOf(raw);
  contents.set(digest, { mediaType, raw });
  return Object({ mediaType, digest, size: raw.byteLength });
}

/** An artifact about something, and what is about that: an SBOM with its signature, and an index of two more. */
function addReferrers(contents: Contents, about: Named, text: string): void {
  const subject = { mediaType: mediaTypes.ociManifest, size: 2, ...about };
  const manifest = { schemaVersion: 2, mediaType: mediaTypes.ociManifest, artifactType: 'application/x' };
  const config = add(contents, mediaTypes.ociEmpty, '{}');
  const artifact = (target: Named | undefined, name: string): Named =>
    add(contents, mediaTypes.ociManifest, {
      ...{ ...manifest, config, layers: [add(contents, 'text/plain', `${name} of ${text}`)] },
      ...(target && { subject: target }),
    });
  artifact(artifact(subject, 'sbom'), 'signature');
  const manifests = [artifact(undefined, 'one'), artifact(undefined, 'two')];
  add(contents, mediaTypes.ociIndex, { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests, subject });
}

/** All that hangs from the root, as the specs have it. */
function reachedFrom(root: string, contents: Contents): ReadonlySet<string> {
  const reached = new Set([root]);
  for (let before = 0; before < reached.size; ) {
    before = reached.size;
    for (const [digest, content] of contents) {
      if (!isDocument(content)) continue;
      const { config, layers = [], manifests = [], subject } = parse(content);
      if (subject && reached.has(subject.digest)) reached.add(digest);
      if (!reached.has(digest)) continue;
      for (const named of [...(config ? [config] : []), ...layers, ...manifests]) reached.add(named.digest);
    }
  }
  return reached;
}

const imageOptions = fc.record({
  family: fc.constantFrom('oci' as const, 'docker' as const, 'mixed' as const),
  index: fc.boolean(),
  nested: fc.boolean(),
  attestations: fc.boolean(),
  artifact: fc.boolean(),
  foreign: fc.boolean(),
  noMediaType: fc.boolean(),
  noEntryType: fc.boolean(),
});
type Options = typeof imageOptions extends fc.Arbitrary<infer T> ? T : never;

/** Two images in one repository, both with referrers of all their documents; a token is for the first. */
async function setUp(repository: string, [own, other]: readonly [Options, Options], platform?: string | undefined) {
  const contents: Contents = new Map();
  const put = (options: Options, seed: number, tag: string): GeneratedImage => {
    const image = generateImage({ ...options, seed, platforms: PLATFORMS, layers: 2 });
    for (const [digest, content] of image.content) contents.set(digest, content);
    for (const [digest, content] of image.content) if (isDocument(content)) addReferrers(contents, { digest }, digest);
    const tags = (digest: string) => digest === image.root.digest && { tags: [tag] };
    app.registry.put(
      repository,
      [...contents].map(([digest, content]) => ({ ...content, ...tags(digest) })),
    );
    return image;
  };
  const image = put(own, 1, '1');
  put(other, 2, 'other');
  const containerImage = `${app.registry.host}/${repository}:1`;
  const chosen = platform !== undefined && { containerPlatform: platform };
  const { name } = await app.submit({ containerImage, containerConfig, ...chosen });
  return { name, contents, image, reached: reachedFrom(image.root.digest, contents) };
}

/** An attestation, or another artifact: what nobody runs, and nothing changes. */
function isArtifact(content: Content): boolean {
  const { artifactType, layers = [] } = parse(content);
  return artifactType !== undefined || layers.some(({ mediaType }) => mediaType?.includes('in-toto'));
}

async function statusOf(method: string, path: string, headers = {}): Promise<number> {
  const response = await app.request(`/v2/${path}`, { method, headers });
  await response.body?.cancel();
  return response.status;
}

async function referrersOf(name: string, digest: string): Promise<readonly string[]> {
  const response = await app.request(`/v2/${name}/referrers/${digest}`);
  expect(response.status).toBe(200);
  return Object(await response.json()).manifests.map((entry: Named) => entry.digest);
}

let repositories = 0;

test('serves each part of its image and of what is about that, and hides all else, in any order and after a restart', async () => {
  const platforms = fc.constantFrom(undefined, 'linux/arm64');
  await fc.assert(
    fc.asyncProperty(fc.tuple(imageOptions, imageOptions), platforms, fc.nat(), async (options, wanted, seed) => {
      repositories += 1;
      const platform = options[0].index ? wanted : undefined;
      const { name, contents, image, reached } = await setUp(`library/reach-${repositories}`, options, platform);
      const subjects = Map.groupBy(contents, ([, content]) => isDocument(content) && parse(content).subject?.digest);
      await app.restart();
      for (const [digest, content] of shuffle([...contents], seed)) {
        const isReached = reached.has(digest);
        const blob = await Promise.all(['GET', 'HEAD'].map(method => statusOf(method, `${name}/blobs/${digest}`)));
        if (!isDocument(content)) {
          expect([digest, blob]).toEqual([digest, isReached ? [200, 200] : [404, 404]]);
          continue;
        }
        // The image itself is served as it became.
        const isShown = isReached && (!image.content.has(digest) || isArtifact(content));
        expect([digest, await statusOf('GET', `${name}/manifests/${digest}`)]).toEqual([digest, isShown ? 200 : 404]);
        if (!isShown) expect([digest, blob]).toEqual([digest, [404, 404]]);
        const about = isReached ? (subjects.get(digest) ?? []).map(([referrer]) => referrer) : [];
        expect([digest, await referrersOf(name, digest)]).toEqual([digest, about]);
      }
    }),
    { numRuns: 10 },
  );
});

function shuffle<T>(all: readonly T[], seed: number): readonly T[] {
  const keyed = all.map((each, at) => ({ each, key: Math.imul(at + 1, seed | 1) >>> 0 }));
  return keyed.sort((a, b) => a.key - b.key).map(({ each }) => each);
}

test('asks the upstream about unknown blobs only once in a while', async () => {
  app.putImage();
  const { name } = await app.submit({ containerConfig });
  const digests = Array.from({ length: 20 }, (_, at) => digestOf(new TextEncoder().encode(`guess ${at}`)));
  await statusOf('GET', `${name}/blobs/${digests[0]}`);
  app.registry.requests.length = 0;
  for (const digest of digests) expect(await statusOf('GET', `${name}/blobs/${digest}`)).toBe(404);
  expect(app.registry.requests).toEqual([]);
});

test('needs no upstream for what was pulled, after a restart', async () => {
  const { name, image } = await setUp('library/down', [{ ...PLAIN, attestations: true }, PLAIN]);
  const pulled = await pullAll(name);
  app.registry.intercept((_request, response) => {
    response.writeHead(503).end();
    return true;
  });
  await app.restart();
  expect(await pullAll(name)).toEqual(pulled);
  expect(pulled.length).toBeGreaterThan(PLATFORMS.length * 4);
  expect(await statusOf('GET', `${name}/manifests/${image.root.digest}`)).toBe(404);
  app.registry.intercept();
});

/** As engines do: the tag, each manifest, its config and its layers. */
async function pullAll(name: string): Promise<readonly string[]> {
  const read = async (digest: string, kind: string): Promise<readonly string[]> => {
    const response = await app.request(`/v2/${name}/${kind}/${digest}`);
    expect([digest, response.status]).toEqual([digest, 200]);
    const raw = await response.bytes();
    if (kind === 'blobs') return [digest];
    const { config, layers = [], manifests = [] } = parse({ mediaType: '', raw });
    const below = [
      ...manifests.map(entry => read(entry.digest, 'manifests')),
      ...[...(config ? [config] : []), ...layers].map(entry => read(entry.digest, 'blobs')),
    ];
    return [digest, ...(await Promise.all(below)).flat()];
  };
  return read('1', 'manifests');
}

test('says the same of what is absent and of what it hides', async () => {
  const { name, contents, reached } = await setUp('library/same', [PLAIN, PLAIN]);
  const hidden = [...contents].find(([digest, content]) => !isDocument(content) && !reached.has(digest))?.[0] ?? '';
  const absent = digestOf(new TextEncoder().encode('nowhere'));
  for (const kind of ['blobs', 'manifests']) {
    const answers = [hidden, absent].map(async digest => {
      const response = await app.request(`/v2/${name}/${kind}/${digest}`);
      return [response.status, (await response.text()).replace(digest, '')];
    });
    const [first, second] = await Promise.all(answers);
    expect(first).toEqual(second);
  }
});

const PLAIN: Options = {
  ...{ family: 'oci', index: true, nested: false, attestations: false },
  ...{ artifact: false, foreign: false, noMediaType: false, noEntryType: false },
};
