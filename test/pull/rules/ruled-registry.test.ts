// A registry through rules: what a tag leads to is changed and complete, and its digest means the same to all who found it, whatever
// happens since.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readBlob } from '../../../src/cache/read-through/cached.ts';
import type { ContentDescriptor } from '../../../src/oci/descriptor.ts';
import { type Digest, digestOf } from '../../../src/oci/digest.ts';
import { RegistryError } from '../../../src/oci/errors.ts';
import { parseImageConfig } from '../../../src/oci/image-config.ts';
import { parseManifest } from '../../../src/oci/manifest.ts';
import { mediaTypes } from '../../../src/oci/media-type.ts';
import type { Registry } from '../../../src/pull/registry.ts';
import { makeContent, makeIndex } from '../../conformance/documents.ts';
import { PLATFORMS } from '../../support/app.ts';
import { checkImage } from '../../support/oracle.ts';
import { createRuledFixture, LAYER, type RuledFixture, readerOf } from './ruled-fixture.ts';

const APP = 'library/app';
const LAYER_DIGEST = digestOf(LAYER);
const ENV = { changes: { env: { RULED: 'yes' } } };
/** Images of the Docker family have no annotations. */
const ANNOTATED = { changes: { annotations: { ruled: 'yes' } } };
const LAYERED = { layers: [{ kind: 'directory', path: 'layers' }] } as const;

let fixture: RuledFixture;

beforeEach(async () => {
  fixture = await createRuledFixture();
});

afterEach(() => fixture.close());

async function descriptorOf(registry: Registry, digest: Digest): Promise<ContentDescriptor> {
  const { raw, mediaType } = await registry.getManifest(APP, digest);
  return { digest, mediaType, size: raw.byteLength };
}

/** The images below a digest, all checked, with whether each has what ENV gives. */
async function imagesOf(registry: Registry, digest: Digest, repository = APP) {
  const root = await descriptorOf(registry, digest);
  const images = await checkImage(root, readerOf(registry, repository));
  return Promise.all(
    images.map(async ({ digest: own, config, layers }) => {
      const { architecture, config: run } = parseImageConfig(await registry.readConfig(repository, config));
      return { digest: own, config, layers, architecture, isRuled: run?.Env?.includes('RULED=yes') ?? false };
    }),
  );
}

function refusal(error: unknown): string {
  if (!(error instanceof RegistryError)) throw error;
  return `${error.status} ${error.code} ${error.message}`;
}

describe('a tag', () => {
  test.each([
    { attestations: true },
    { family: 'docker' },
    { family: 'mixed', nested: true },
    { noPlatform: true, noMediaType: true },
    { index: false },
  ] as const)('leads to every platform changed, with every digest right (%o)', async options => {
    const { root } = fixture.putImage(options);
    fixture.rule({ ...ENV, ...LAYERED });
    const registry = fixture.see();
    const digest = await registry.resolveTag(APP, '1');
    const images = await imagesOf(registry, digest);
    expect(digest).not.toBe(root.digest);
    expect(images.map(({ isRuled }) => isRuled)).toEqual('index' in options ? [true] : PLATFORMS.map(() => true));
    for (const { layers } of images) expect(layers.at(-1)?.digest).toBe(LAYER_DIGEST);
  });

  test('leads to the very digest of the upstream where no rule is for it, and nothing is read for that', async () => {
    const { root } = fixture.putImage();
    fixture.rule({ ...ENV, match: { image: ['lab/other/**'], not: [] } });
    expect(await fixture.see().resolveTag(APP, '1')).toBe(root.digest);
    expect(fixture.work).toEqual({ augmentations: 0, writes: 0 });
  });

  test('leads to the very digest where the rules change nothing', async () => {
    const { root } = fixture.putImage({ family: 'docker' });
    fixture.rule(ANNOTATED);
    expect(await fixture.see().resolveTag(APP, '1')).toBe(root.digest);
    expect(fixture.work.writes).toBe(0);
  });

  test('leaves platforms that no rule is for as they are, byte for byte', async () => {
    const { root, content } = fixture.putImage();
    fixture.rule({ ...ENV, match: { image: ['lab/**'], not: [], platform: ['linux/arm64'] } });
    const registry = fixture.see();
    const digest = await registry.resolveTag(APP, '1');
    expect(digest).not.toBe(root.digest);
    const images = await imagesOf(registry, digest);
    expect(images.map(({ architecture, isRuled }) => [architecture, isRuled])).toEqual([
      ['amd64', false],
      ['arm64', true],
      ['arm', false],
    ]);
    for (const image of images) expect(content.has(image.digest)).toBe(!image.isRuled);
  });

  test('is changed by each rule in order, a later one over an earlier one', async () => {
    fixture.putImage({ index: false });
    fixture.rule({ changes: { env: { A: '1', B: '1' } } }, { changes: { env: { B: '2' } } });
    const registry = fixture.see();
    const [image] = await imagesOf(registry, await registry.resolveTag(APP, '1'));
    const config = image && parseImageConfig(await registry.readConfig(APP, image.config));
    expect(config?.config?.Env).toEqual(['PATH=/usr/bin:/bin', 'LANG=C', 'A=1', 'B=2']);
  });

  test('is what the rules of its caller make of it', async () => {
    const { root } = fixture.putImage();
    fixture.rule({ ...ENV, match: { image: ['lab/**'], not: [], caller: ['ci-*'] } });
    expect(await fixture.see('ci-1').resolveTag(APP, '1')).not.toBe(root.digest);
    expect(await fixture.see('dev').resolveTag(APP, '1')).toBe(root.digest);
    expect(await fixture.see().resolveTag(APP, '1')).toBe(root.digest);
  });

  test('that cannot be changed fails, and is not served as it is', async () => {
    const manifest = makeContent(JSON.stringify({ schemaVersion: 2, manifests: [], layers: [] }), mediaTypes.ociIndex);
    fixture.registry.put(APP, [{ ...manifest, tags: ['both'] }]);
    fixture.rule(ENV);
    await expect(fixture.see().resolveTag(APP, 'both')).rejects.toMatchObject({ code: 'MANIFEST_INVALID' });
  });

  test.each([
    [
      'a signature, as cosign has it',
      'sha256-0123.sig',
      {
        config: { mediaType: mediaTypes.ociConfig },
        layers: [{ mediaType: 'application/vnd.dev.cosign.simplesigning.v1+json' }],
      },
    ],
    ['a chart', '1.2.3', { config: { mediaType: 'application/vnd.cncf.helm.config.v1+json' }, layers: [] }],
  ])('of an artifact is untouched: %s', async (_, tag, { config, layers }) => {
    const blob = makeContent('{}', 'application/octet-stream');
    const described = (mediaType: string) => ({ mediaType, digest: blob.digest, size: blob.raw.byteLength });
    const raw = JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaTypes.ociManifest,
      config: described(config.mediaType),
      layers: layers.map(({ mediaType }) => described(mediaType)),
    });
    const artifact = makeContent(raw, mediaTypes.ociManifest);
    fixture.registry.put(APP, [{ ...artifact, tags: [tag] }, blob]);
    fixture.rule({ ...ENV, pinned: 'refused' });
    expect(await fixture.see().resolveTag(APP, tag)).toBe(artifact.digest);
    expect(Buffer.from((await fixture.see().getManifest(APP, artifact.digest)).raw)).toEqual(Buffer.from(artifact.raw));
  });

  test('of an index of artifacts, a list of referrers, is untouched', async () => {
    const index = makeIndex([]);
    fixture.registry.put(APP, [{ ...index, tags: ['sha256-0123'] }]);
    fixture.rule(ENV);
    expect(await fixture.see().resolveTag(APP, 'sha256-0123')).toBe(index.digest);
  });
});

describe('the digest that a tag led to', () => {
  /** What changes between the two steps of a client. */
  const events: readonly (readonly [string, () => unknown])[] = [
    ['nothing', () => {}],
    ['the rule says something else', () => fixture.rule({ changes: { env: { RULED: 'no' } } })],
    ['there are no rules any more', () => fixture.rule()],
    [
      'the rule is for another caller',
      () => fixture.rule({ ...ENV, match: { image: ['lab/**'], not: [], caller: ['x'] } }),
    ],
    ['all of the upstream is refused by digest', () => fixture.rule({ ...ENV, pinned: 'refused' })],
    ['the cache is emptied', () => fixture.restart({ isEmpty: true })],
    ['Veneer starts again', () => fixture.restart()],
    [
      'Veneer starts again with other rules and an empty cache',
      async () => {
        fixture.rule({ changes: { user: 'nobody' } });
        await fixture.restart({ isEmpty: true });
      },
    ],
    [
      'the tag moves on',
      () => {
        fixture.putImage({ seed: 2 });
      },
    ],
  ];

  test.each(events)('is the same to who pulls by it, when %s', async (_, change) => {
    fixture.putImage();
    fixture.rule({ ...ENV, ...LAYERED });
    const digest = await fixture.see().resolveTag(APP, '1');
    const before = await descriptorOf(fixture.see(), digest);
    await change();
    expect(await descriptorOf(fixture.see(), digest)).toEqual(before);
    const images = await imagesOf(fixture.see(), digest);
    expect(images.map(({ isRuled }) => isRuled)).toEqual([true, true, true]);
  });

  test('is the same in another instance that shares nothing, once its clients have resolved the tag', async () => {
    fixture.putImage();
    fixture.rule({ ...ENV, ...LAYERED });
    const digest = await fixture.see().resolveTag(APP, '1');
    await fixture.restart({ isEmpty: true, withoutRecords: true });
    await expect(fixture.see().getManifest(APP, digest)).rejects.toMatchObject({ status: 404 });
    expect(await fixture.see().resolveTag(APP, '1')).toBe(digest);
    expect(await imagesOf(fixture.see(), digest)).toHaveLength(PLATFORMS.length);
  });

  test('changes with the content of rules alone', async () => {
    fixture.putImage();
    fixture.rule({ ...ENV, match: { image: ['lab/**'], not: [] } });
    const digest = await fixture.see().resolveTag(APP, '1');
    fixture.rule({ ...ENV, name: 'other', match: { image: ['lab/library/*'], not: ['lab/other'] } });
    expect(await fixture.see('somebody').resolveTag(APP, '1')).toBe(digest);
    fixture.rule({ changes: { env: { RULED: 'again' } } });
    expect(await fixture.see().resolveTag(APP, '1')).not.toBe(digest);
  });

  test('continues from what is kept when the upstream is gone', async () => {
    fixture.putImage();
    fixture.rule({ ...ENV, ...LAYERED });
    const digest = await fixture.see().resolveTag(APP, '1');
    const images = await imagesOf(fixture.see(), digest);
    for (const { layers } of images) {
      for (const layer of layers.slice(0, -1)) await expect.poll(() => fixture.isKept(layer.digest)).toBe(true);
    }
    fixture.registry.intercept((_, response) => {
      response.writeHead(503).end();
      return true;
    });
    await fixture.restart();
    expect(await fixture.see().resolveTag(APP, '1')).toBe(digest);
    expect(await imagesOf(fixture.see(), digest)).toHaveLength(PLATFORMS.length);
  });

  test('is served though the upstream goes down before anybody reads it', async () => {
    fixture.putImage();
    fixture.rule({ ...ENV, ...LAYERED });
    const digest = await fixture.see().resolveTag(APP, '1');
    fixture.registry.intercept((_, response) => {
      response.destroy();
      return true;
    });
    const index = await fixture.see().getManifest(APP, digest);
    if (index.kind !== 'index') throw new Error(index.kind);
    for (const entry of index.manifests)
      expect((await fixture.see().getManifest(APP, entry.digest)).digest).toBe(entry.digest);
    expect(await readBlob(await fixture.see().getBlob(APP, LAYER_DIGEST), LAYER.byteLength)).toEqual(
      new Uint8Array(LAYER),
    );
  });
});

test('twenty pulls of a tag at once change it once, and write it once', async () => {
  fixture.putImage();
  fixture.rule({ ...ENV, ...LAYERED });
  const registry = fixture.see();
  const digests = await Promise.all(Array.from({ length: 20 }, () => registry.resolveTag(APP, '1')));
  expect(new Set(digests).size).toBe(1);
  expect(fixture.work).toEqual({ augmentations: 1, writes: 1 });
  const manifests = fixture.registry.requests.filter(
    ({ method, url }) => method === 'GET' && url.includes('/manifests/'),
  );
  expect(new Set(manifests.map(({ url }) => url)).size).toBe(manifests.length);
});

describe('blobs', () => {
  test('of rules are had whole, in part, and by their size', async () => {
    fixture.putImage();
    fixture.rule(LAYERED);
    const registry = fixture.see();
    await registry.resolveTag(APP, '1');
    const blob = await registry.getBlob(APP, LAYER_DIGEST);
    expect(await readBlob(blob, LAYER.byteLength)).toEqual(new Uint8Array(LAYER));
    const part = await new Response(await blob.open({ start: 4, end: 8 })).bytes();
    expect(part).toEqual(LAYER.slice(4, 9));
    expect((await registry.headBlob(APP, LAYER_DIGEST)).size).toBe(LAYER.byteLength);
  });

  test('that were made are had as blobs, and as configs', async () => {
    fixture.putImage();
    fixture.rule(ENV);
    const registry = fixture.see();
    const [image] = await imagesOf(registry, await registry.resolveTag(APP, '1'));
    if (!image) throw new Error('no image');
    const raw = await registry.readConfig(APP, image.config);
    expect(digestOf(raw)).toBe(image.config.digest);
    expect(await readBlob(await registry.getBlob(APP, image.config.digest), raw.byteLength)).toEqual(
      new Uint8Array(raw),
    );
    expect((await registry.headBlob(APP, image.config.digest)).size).toBe(raw.byteLength);
  });

  test('and documents are in no repository but that whose tag led to them', async () => {
    fixture.putImage();
    fixture.putImage({ repository: 'library/other', seed: 2 });
    fixture.rule({ ...ENV, ...LAYERED });
    const registry = fixture.see();
    const digest = await registry.resolveTag(APP, '1');
    const [image] = await imagesOf(registry, digest);
    if (!image) throw new Error('no image');
    for (const blob of [LAYER_DIGEST, image.config.digest]) {
      await expect(registry.headBlob('library/other', blob)).rejects.toMatchObject({ status: 404 });
      await expect(registry.getBlob('library/other', blob)).rejects.toMatchObject({ status: 404 });
    }
    for (const manifest of [digest, image.digest]) {
      await expect(registry.getManifest('library/other', manifest)).rejects.toMatchObject({ status: 404 });
    }
    const config = { ...image.config, mediaType: mediaTypes.ociConfig };
    await expect(registry.readConfig('library/other', config)).rejects.toMatchObject({ status: 404 });
  });

  test('of a hosted repository are looked for among what was pushed, so that a push brings what it lacks', async () => {
    fixture.putImage();
    fixture.rule(LAYERED);
    const registry = fixture.see();
    await registry.resolveTag(APP, '1');
    const asked: Digest[] = [];
    const pushed: Registry = {
      ...fixture.plain,
      isHosted: true,
      headBlob: async (_, digest) => {
        asked.push(digest);
        throw new RegistryError('BLOB_UNKNOWN', 'not pushed');
      },
    };
    const hosted = fixture.through(pushed);
    await expect(hosted.headBlob(APP, LAYER_DIGEST)).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
    expect(asked).toEqual([LAYER_DIGEST]);
    expect((await hosted.getBlob(APP, LAYER_DIGEST)).size).toBe(LAYER.byteLength);
  });
});

describe('referrers', () => {
  test('of what rules made are its provenance, which can be read; of the source they are its own', async () => {
    const { root } = fixture.putImage();
    fixture.rule(ENV);
    const registry = fixture.see();
    const digest = await registry.resolveTag(APP, '1');
    const referrers = await registry.findReferrers(APP, digest);
    const index = parseManifest(referrers?.raw ?? new Uint8Array(), mediaTypes.ociIndex);
    if (index.kind !== 'index' || !index.manifests[0]) throw new Error('no provenance');
    const provenance = JSON.parse(
      Buffer.from((await registry.getManifest(APP, index.manifests[0].digest)).raw).toString(),
    );
    expect(provenance.subject.digest).toBe(digest);
    const payload = await readBlob(await registry.getBlob(APP, provenance.layers[0].digest), 1_000_000);
    expect(JSON.parse(Buffer.from(payload ?? []).toString())).toMatchObject({
      source: { name: 'lab/library/app:1', digest: root.digest },
      rules: ['rule-0'],
    });
    fixture.registry.requests.length = 0;
    await registry.findReferrers(APP, root.digest);
    expect(fixture.registry.requests.some(({ url }) => url.includes(root.digest))).toBe(true);
  });
});

describe("a digest of the upstream's", () => {
  test('is served as it is', async () => {
    const { root, content } = fixture.putImage();
    fixture.rule({ ...ENV, ...LAYERED });
    const registry = fixture.see();
    for (const [digest, { raw }] of content) {
      if (digest !== root.digest) continue;
      expect(Buffer.from((await registry.getManifest(APP, root.digest)).raw)).toEqual(Buffer.from(raw));
    }
    expect((await imagesOf(registry, root.digest)).map(({ isRuled }) => isRuled)).toEqual([false, false, false]);
  });

  test('is refused where a rule says so, of an index and of each image', async () => {
    const { root } = fixture.putImage();
    fixture.rule({ ...ENV, name: 'audit', pinned: 'refused' });
    const images = await imagesOf(fixture.plain, root.digest);
    for (const digest of [root.digest, ...images.map(image => image.digest)]) {
      const error = await fixture.see().getManifest(APP, digest).catch(refusal);
      expect(error).toMatch(/^403 DENIED the rule audit changes lab\/library\/app, and sha256:/);
      expect(error).toContain(digest);
      expect(error).toContain('pull it by its tag');
    }
    const tagged = await fixture.see().resolveTag(APP, '1');
    expect((await imagesOf(fixture.see(), tagged)).every(({ isRuled }) => isRuled)).toBe(true);
    await expect(fixture.see().getManifest(APP, root.digest)).rejects.toMatchObject({ code: 'DENIED' });
  });

  test('is refused as a blob, too, once it was refused as what it is: containerd asks so after any failure', async () => {
    const { root } = fixture.putImage();
    fixture.rule({ ...ENV, name: 'audit', pinned: 'refused' });
    const registry = fixture.see();
    await expect(registry.getManifest(APP, root.digest)).rejects.toMatchObject({ code: 'DENIED' });
    expect(await registry.headBlob(APP, root.digest).catch(refusal)).toMatch(/^403 DENIED the rule audit changes /);
    expect(await registry.getBlob(APP, root.digest).catch(refusal)).toMatch(/^403 DENIED the rule audit changes /);
    const images = await imagesOf(registry, await registry.resolveTag(APP, '1'));
    for (const { layers } of images)
      for (const { digest, size } of layers) {
        expect(await registry.headBlob(APP, digest)).toMatchObject({ size });
      }
    fixture.rule(ENV);
    expect((await registry.headBlob(APP, root.digest)).size).toBe(root.size);
  });

  test.each([
    ['the rule would not change it', ANNOTATED],
    ['the rule is for another platform', { match: { image: ['lab/**'], not: [], platform: ['windows/*'] } }],
    ['the rule is for another caller', { match: { image: ['lab/**'], not: [], caller: ['ci'] } }],
    ['the rule leaves the repository alone', { match: { image: ['lab/**'], not: ['lab/library/*'] } }],
    ['the rule is for tags of another repository', { match: { image: ['lab/library/other:1'], not: [] } }],
  ])('is not refused where %s', async (_, rule) => {
    const { root } = fixture.putImage({ family: 'docker' });
    fixture.rule({ ...ENV, ...rule, pinned: 'refused' });
    expect((await fixture.see('dev').getManifest(APP, root.digest)).digest).toBe(root.digest);
  });

  test('is refused by a rule for some tags, but for who was led to it by another tag', async () => {
    const plain = fixture.putImage({ tag: 'edge', seed: 2 });
    fixture.rule({ ...ENV, match: { image: ['lab/library/app:1*'], not: [] }, pinned: 'refused' });
    await expect(fixture.see().getManifest(APP, plain.root.digest)).rejects.toMatchObject({ code: 'DENIED' });
    expect(await fixture.see().resolveTag(APP, 'edge')).toBe(plain.root.digest);
    await fixture.restart();
    const images = await imagesOf(fixture.see(), plain.root.digest);
    expect(images.map(({ isRuled }) => isRuled)).toEqual([false, false, false]);
  });

  test('of a platform that a changed index leaves as it is, is served where others are refused', async () => {
    fixture.putImage();
    fixture.rule({ ...ENV, match: { image: ['lab/**'], not: [], platform: ['linux/arm64'] }, pinned: 'refused' });
    const registry = fixture.see();
    expect(await imagesOf(registry, await registry.resolveTag(APP, '1'))).toHaveLength(PLATFORMS.length);
  });
});
