// Plans of copies: what refers to something comes after it, everything is there once, and there is a limit to all of it.
import { expect, test } from 'vitest';
import { planCopy } from '../../src/copy/copy-plan.ts';
import type { Digest } from '../../src/oci/digest.ts';
import { parseManifest } from '../../src/oci/manifest.ts';
import { readerOf } from '../augment/fixture.ts';
import { type Content, descriptorOf, LAYER, makeContent, makeImage, makeIndex } from '../conformance/documents.ts';
import { type GeneratedImage, generateImage } from '../support/images.ts';

const PLATFORMS = ['linux/amd64', 'linux/arm64'];
const generate = (options: object) =>
  generateImage({ seed: 3, platforms: PLATFORMS, layers: 2, family: 'oci', ...options });

function plan({ content, root }: Pick<GeneratedImage, 'content'> & { readonly root: { readonly digest: Digest } }) {
  const read = (digest: Digest) => readerOf(content).readManifest({ digest, mediaType: '', size: 0 });
  return read(root.digest).then(manifest => planCopy([{ manifest, tags: ['1'] }], read));
}

/** An index of these, and what is in it. */
function indexOf(entries: readonly Content[], fields: object = {}) {
  const root = makeIndex(entries.map(descriptorOf), fields);
  return { root, content: new Map([...entries, root].map(each => [each.digest, each])) };
}

test('manifests come after what they refer to, and the root with its tags is the last', async () => {
  const image = generate({ nested: true, attestations: true });
  const { manifests } = await plan(image);
  const order = manifests.map(({ manifest }) => manifest.digest);
  manifests.forEach(({ manifest }, i) => {
    const entries = manifest.kind === 'index' ? manifest.manifests : [];
    for (const { digest } of entries) expect(order.indexOf(digest)).toBeLessThan(i);
  });
  expect(order.at(-1)).toBe(image.root.digest);
  expect(manifests.map(({ tags }) => tags.length)).toEqual([...order.slice(1).map(() => 0), 1]);
});

test('platforms are those of the entries, and attestations have none', async () => {
  const { manifests } = await plan(generate({ attestations: true }));
  expect(manifests.map(({ platform }) => platform)).toEqual([
    PLATFORMS[0],
    undefined,
    PLATFORMS[1],
    undefined,
    undefined,
  ]);
});

test('what two images share is there once', async () => {
  const image = makeImage('a');
  const { manifests, blobs } = await plan(
    indexOf([image, image, makeImage('a', { fields: { annotations: { b: 'c' } } })]),
  );
  expect([manifests.length, blobs.length]).toEqual([3, 3]);
});

test('an entry of an index may be a layer', async () => {
  const layer = makeContent('cached', LAYER);
  const { manifests, blobs } = await plan(indexOf([layer]));
  expect([manifests.length, blobs.map(({ descriptor }) => descriptor.digest)]).toEqual([1, [layer.digest]]);
});

test.each([
  ['with an address of its own stays there', ['https://layers.example/1'], 0],
  ['without one is brought', undefined, 1],
])('a layer not to be distributed %s', async (_, urls, count) => {
  const layer = makeContent('foreign', 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip');
  const image = makeImage('a', { layers: [layer], describe: () => ({ urls }) });
  const { blobs } = await plan(indexOf([image]));
  expect(blobs.filter(({ descriptor }) => descriptor.digest === layer.digest)).toHaveLength(count);
});

test.each([
  ['too many manifests', Array.from({ length: 1100 }, (_, i) => makeImage(`${i}`))],
  [
    'too many bytes of manifests',
    Array.from({ length: 18 }, (_, i) => makeImage(`${i}`, { fields: { annotations: { a: 'x'.repeat(3_900_000) } } })),
  ],
])('an image with %s is refused', async (_, entries) => {
  await expect(plan(indexOf(entries))).rejects.toMatchObject({ code: 'MANIFEST_INVALID' });
});

test('a document that does not tell its type is refused', async () => {
  const raw = Buffer.from('{"schemaVersion":2}');
  const manifest = parseManifest(raw, 'application/octet-stream');
  const work = planCopy([{ manifest, tags: [] }], async () => manifest);
  await expect(work).rejects.toMatchObject({ code: 'MANIFEST_INVALID' });
});
