// Collection of manifests: what a tag, an index or a subject keeps, and what nothing keeps.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createHostedRecords, holderKey, linkKey, memberKey } from '../../../src/hosted/records.ts';
import { type Digest, digestOf } from '../../../src/oci/digest.ts';
import { mediaTypes } from '../../../src/oci/media-type.ts';
import { audit } from '../audit.ts';
import {
  bytes,
  descriptorOf,
  json,
  type Parts,
  pushBlob,
  pushSmall,
  putManifest,
  readBlob,
  smallManifest,
} from '../fixture.ts';
import { type CollectedRegistry, createRegistry, DAY } from './fixture.ts';

let registry: CollectedRegistry;

beforeEach(async () => {
  registry = await createRegistry();
  await registry.open({ untaggedMs: 7 * DAY });
});

afterEach(() => registry.remove());

function indexOf(...children: readonly Uint8Array[]): Uint8Array {
  const manifests = children.map(child => descriptorOf(child, mediaTypes.ociManifest));
  return json({ schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests });
}

const putIndex = (raw: Uint8Array, tags: readonly string[] = []) =>
  putManifest(registry.hosted, 'local/app', raw, { contentType: mediaTypes.ociIndex, tags });

/** A manifest about another one: a signature, say. */
async function putReferrer(subject: Uint8Array, name = 'signature', tags: readonly string[] = []) {
  await pushBlob(registry.hosted, 'local/app', bytes('{}'));
  await pushBlob(registry.hosted, 'local/app', bytes(name));
  const raw = smallManifest(bytes('{}'), bytes(name), { subject: descriptorOf(subject, mediaTypes.ociManifest) });
  return { raw, ...(await putManifest(registry.hosted, 'local/app', raw, { tags })) };
}

test('many manifests that nothing refers to go by two transactions, and one that ends the record of what was unlinked', async () => {
  const { records } = registry.place;
  const { manifests, holders, references } = createHostedRecords(records);
  const pushedAt = new Date(registry.time).toISOString();
  const mediaType = mediaTypes.ociManifest;
  const children = [digestOf(bytes('a config')), digestOf(bytes('a layer'))];
  const puts = Array.from({ length: 150 }, (_, at) => digestOf(bytes(`manifest ${at}`))).flatMap(digest => [
    manifests.putting(linkKey('local/app', digest), { mediaType, size: 1, references: children, pushedAt }),
    holders.putting(holderKey(digest, 'manifest', 'local/app'), {}),
    ...children.map(child => references.putting(memberKey('local/app', child, digest), {})),
  ]);
  await records.write(puts);
  registry.time += 7 * DAY;
  let writes = 0;
  const write: Parts['records']['write'] = async (changes, options) => {
    writes += 1;
    await records.write(changes, options);
  };
  await registry.open({ untaggedMs: 7 * DAY }, {}, { records: { ...records, write } });
  expect((await registry.collector.collect()).removed.manifests).toBe(150);
  expect(writes).toBe(3);
  await audit(registry.place);
});

describe('a manifest', () => {
  test('without a tag stays for ever, if no time is set', async () => {
    await registry.open();
    const { digest } = await pushSmall(registry.hosted, 'local/app', 'a');
    registry.time += 3650 * DAY;
    expect(await registry.collect()).toMatchObject({ repositories: [], kept: { tags: 0, manifests: 1, blobs: 2 } });
    expect(await registry.hasManifest(digest)).toBe(true);
  });

  test('without a tag goes after its time, and its blobs with it', async () => {
    await pushSmall(registry.hosted, 'local/app', 'a');
    registry.time += 7 * DAY - 1;
    expect((await registry.collect()).repositories).toEqual([]);
    registry.time += 1;
    expect((await registry.collect()).removed).toMatchObject({ manifests: 1, blobs: 2 });
    expect(await registry.place.inventory()).toEqual([]);
  });

  test.each<[string, (digest: Digest, raw: Uint8Array) => Promise<unknown>]>([
    ['pushed again', (_, raw) => putManifest(registry.hosted, 'local/app', raw)],
    ['left by its tag, which moved', () => pushSmall(registry.hosted, 'local/app', 'b', { tags: ['a'] })],
    ['left by its tag, which was deleted', () => registry.hosted.tags.delete('local/app', 'a')],
  ])('has its time from when it was %s', async (_, use) => {
    const { digest, raw } = await pushSmall(registry.hosted, 'local/app', 'a', { tags: ['a'] });
    registry.time += 30 * DAY;
    await use(digest, raw);
    if (await registry.place.records.get('hosted.tagged', `local/app@${digest} a`))
      await registry.hosted.tags.delete('local/app', 'a');
    registry.time += 7 * DAY - 1;
    await registry.collect();
    expect(await registry.hasManifest(digest)).toBe(true);
    registry.time += 1;
    await registry.collect();
    expect(await registry.hasManifest(digest)).toBe(false);
  });

  test('that was pulled of late stays, so that the pull can go on', async () => {
    const { digest, layer } = await pushSmall(registry.hosted, 'local/app', 'a');
    registry.time += 30 * DAY;
    await registry.hosted.manifests.get('local/app', digest);
    registry.time += DAY - 1;
    await registry.collect();
    expect(await readBlob(registry.hosted, 'local/app', layer)).toBeDefined();
    registry.time += DAY;
    expect((await registry.collect()).removed).toMatchObject({ manifests: 1, blobs: 2 });
  });

  test('without a tag has the grace time at least: the push of its index may be under way', async () => {
    await registry.open({ untaggedMs: 0 });
    const { digest } = await pushSmall(registry.hosted, 'local/app', 'a');
    registry.time += DAY - 1;
    await registry.collect();
    expect(await registry.hasManifest(digest)).toBe(true);
  });

  test('stays with the index that has it, and goes with it, however deep', async () => {
    const [a, b] = [
      await pushSmall(registry.hosted, 'local/app', 'a'),
      await pushSmall(registry.hosted, 'local/app', 'b'),
    ];
    const inner = indexOf(a.raw);
    await putIndex(inner);
    const outer = indexOf(inner, b.raw);
    await putIndex(outer, ['a']);
    registry.time += 30 * DAY;
    expect((await registry.collect()).kept).toMatchObject({ tags: 1, manifests: 4, blobs: 4 });
    await registry.hosted.tags.delete('local/app', 'a');
    registry.time += 7 * DAY;
    expect((await registry.collect()).removed).toMatchObject({ manifests: 4, blobs: 4 });
    expect(await registry.place.inventory()).toEqual([]);
  });

  test('that two indexes have stays while one of them does', async () => {
    const { raw, digest } = await pushSmall(registry.hosted, 'local/app', 'a');
    await putIndex(indexOf(raw));
    await putIndex(indexOf(raw, raw), ['a']);
    registry.time += 30 * DAY;
    expect((await registry.collect()).removed.manifests).toBe(1);
    expect(await registry.hasManifest(digest)).toBe(true);
  });

  test('of an index that goes stays with a tag of its own', async () => {
    const { raw, digest } = await pushSmall(registry.hosted, 'local/app', 'a', { tags: ['amd64'] });
    await putIndex(indexOf(raw));
    registry.time += 30 * DAY;
    expect((await registry.collect()).removed.manifests).toBe(1);
    expect(await registry.hasManifest(digest)).toBe(true);
  });
});

describe('a referrer', () => {
  test('stays with its subject, and what refers to a referrer too', async () => {
    const image = await pushSmall(registry.hosted, 'local/app', 'a', { tags: ['a'] });
    const signature = await putReferrer(image.raw);
    const ofSignature = await putReferrer(signature.raw, 'about the signature');
    registry.time += 100 * DAY;
    expect((await registry.collect()).repositories).toEqual([]);
    expect(await registry.hasManifest(ofSignature.digest)).toBe(true);
  });

  test('goes together with its subject, though it is younger, and its own referrers too', async () => {
    const image = await pushSmall(registry.hosted, 'local/app', 'a');
    registry.time += 6 * DAY;
    const signature = await putReferrer(image.raw);
    await putReferrer(signature.raw, 'about the signature');
    registry.time += DAY;
    expect((await registry.collect()).removed.manifests).toBe(3);
    expect(await registry.place.inventory()).toEqual([]);
  });

  test('that was just pushed outlives its subject by the grace time at least', async () => {
    const image = await pushSmall(registry.hosted, 'local/app', 'a');
    registry.time += 7 * DAY;
    const signature = await putReferrer(image.raw);
    expect((await registry.collect()).removed.manifests).toBe(1);
    expect(await registry.hasManifest(signature.digest)).toBe(true);
    registry.time += 7 * DAY;
    expect((await registry.collect()).removed.manifests).toBe(1);
  });

  test('that came before its subject waits for it as long as any manifest without a tag', async () => {
    const raw = smallManifest(bytes('{"seed":"a"}'), bytes('layer of a'));
    const early = await putReferrer(raw);
    registry.time += 7 * DAY - 1;
    await registry.collect();
    expect(await registry.hasManifest(early.digest)).toBe(true);
    await pushSmall(registry.hosted, 'local/app', 'a', { tags: ['a'] });
    registry.time += 100 * DAY;
    await registry.collect();
    expect(await registry.hasManifest(early.digest)).toBe(true);
  });

  test('with a tag of its own stays without its subject', async () => {
    const image = await pushSmall(registry.hosted, 'local/app', 'a');
    const signature = await putReferrer(image.raw, 'signature', ['sig']);
    registry.time += 30 * DAY;
    expect((await registry.collect()).removed.manifests).toBe(1);
    expect(await registry.hasManifest(signature.digest)).toBe(true);
  });

  test('does not keep its subject', async () => {
    const image = await pushSmall(registry.hosted, 'local/app', 'a');
    await putReferrer(image.raw, 'signature', ['sig']);
    registry.time += 30 * DAY;
    await registry.collect();
    expect(await registry.hasManifest(image.digest)).toBe(false);
  });
});
