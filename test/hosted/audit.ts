// The auditor: recomputes from tags, manifests, blob links and bytes what every other record and file must be.
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { createHostedRecords } from '../../src/hosted/records.ts';
import { digestAlgorithm, digestOf, parseDigest } from '../../src/oci/digest.ts';
import { keysOf } from '../../src/state/store.ts';
import type { Place } from './fixture.ts';

/** Throws unless all records agree, all that they need is on disk, whole, and nothing else is. */
export async function audit(place: Pick<Place, 'directory' | 'records' | 'content' | 'inventory'>): Promise<void> {
  const records = createHostedRecords(place.records);
  const expected = { holders: [''], references: [''], tagged: [''], referrers: [''], content: new Set<string>() };
  for (const { key, value } of await records.blobs.entries({ limit: 1e6 })) {
    const { repository, digest } = split(key);
    expected.holders.push(`${digest} blob ${repository}`);
    expected.content.add(digest);
    expect(await place.content.find(digest)).toEqual({ size: value.size });
  }
  for (const { key, value } of await records.manifests.entries({ limit: 1e6 })) {
    const { repository, digest } = split(key);
    expected.holders.push(`${digest} manifest ${repository}`);
    expected.references.push(...value.references.map(child => `${repository}@${child} ${digest}`));
    if (value.subject) expected.referrers.push(`${repository}@${value.subject} ${digest}`);
    expected.content.add(digest);
    expect(await place.content.find(digest)).toEqual({ size: value.size });
  }
  for (const { key, value } of await records.tags.entries({ limit: 1e6 })) {
    const [repository, tag] = key.split(':');
    expected.tagged.push(`${repository}@${value.digest} ${tag}`);
    expect(await records.manifests.get(`${repository}@${value.digest}`)).toBeDefined();
  }
  for (const name of ['holders', 'references', 'tagged', 'referrers'] as const) {
    const keys = await Array.fromAsync(keysOf(records[name], ''));
    expect([name, ...keys]).toEqual([name, ...expected[name].slice(1).sort()]);
  }
  const uploads = await Array.fromAsync(keysOf(records.uploads, ''));
  expect((await readdir(join(place.directory, 'drafts'))).sort()).toEqual(uploads);
  const inventory = await place.inventory();
  expect(inventory).toEqual([...expected.content].sort());
  for (const digest of inventory) {
    const raw = (await place.content.read(digest, 2 ** 30)) ?? new Uint8Array();
    expect(digestOf(raw, digestAlgorithm(digest))).toBe(digest);
  }
}

function split(key: string) {
  const at = key.indexOf('@');
  return { repository: key.slice(0, at), digest: parseDigest(key.slice(at + 1)) };
}
