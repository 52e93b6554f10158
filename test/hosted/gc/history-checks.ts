// What has to be true of a registry whenever nobody is at work in it, also right after a crash.
import { expect } from 'vitest';
import { z } from 'zod';
import type { ContentStore } from '../../../src/content/store.ts';
import { createHostedRecords } from '../../../src/hosted/records.ts';
import { digestOf, parseDigest } from '../../../src/oci/digest.ts';
import { createCollection } from '../../../src/state/collection.ts';
import type { RecordStore } from '../../../src/state/store.ts';
import { digestsOf, findDocument, neededOf, REPOSITORIES } from './documents.ts';

const ALL = { limit: 1e6 };

export interface Contents {
  /** `<repository>@<digest>`. */
  readonly blobs: ReadonlySet<string>;
  readonly manifests: ReadonlySet<string>;
  /** `<repository>:<tag>` to the digest. */
  readonly tags: ReadonlyMap<string, string>;
}

export async function contentsOf(store: RecordStore): Promise<Contents> {
  const records = createHostedRecords(store);
  return {
    blobs: new Set(await records.blobs.list(ALL)),
    manifests: new Set(await records.manifests.list(ALL)),
    tags: new Map((await records.tags.entries(ALL)).map(({ key, value }) => [key, value.digest])),
  };
}

/** Tags have their manifests, manifests their blobs, all with the right bytes, and their children, but those that somebody deleted. */
export async function expectWhole(
  store: RecordStore,
  content: ContentStore,
  isDeleted: (link: string) => boolean,
): Promise<void> {
  const { blobs, manifests, tags } = await contentsOf(store);
  for (const [key, digest] of tags) expect(manifests).toContain(`${key.split(':')[0]}@${digest}`);
  for (const link of manifests) {
    const { repository, digest } = split(link);
    const document = findDocument(digest);
    for (const needed of digestsOf(document.blobs)) expect(blobs).toContain(`${repository}@${needed}`);
    for (const child of digestsOf(document.manifests.map(({ raw }) => raw))) {
      if (!isDeleted(`${repository}@${child}`)) expect(manifests).toContain(`${repository}@${child}`);
    }
  }
  for (const link of [...blobs, ...manifests]) {
    const { digest } = split(link);
    expect(digestOf((await content.read(parseDigest(digest), 2 ** 30)) ?? new Uint8Array())).toBe(digest);
  }
}

/** What was counted is what is linked. */
export async function expectUsageCounted(store: RecordStore): Promise<void> {
  const records = createHostedRecords(store);
  const sums = new Map<string, number>();
  for (const { key, value } of [...(await records.blobs.entries(ALL)), ...(await records.manifests.entries(ALL))]) {
    const { repository } = split(key);
    sums.set(repository, (sums.get(repository) ?? 0) + value.size);
  }
  const usage = createCollection({ store, name: 'hosted.usage', schema: z.object({ bytes: z.int() }) });
  const counted = (await usage.entries(ALL)).map(({ key, value }) => [key, value.bytes] as const);
  expect(new Map(counted)).toEqual(sums);
}

/** What is left of `before` is just what its tags need or, where manifests stay without one, what any manifest needs. */
export function expectOnlyNeeded(after: Contents, before: Contents, staysUntagged: boolean): void {
  expect(after.tags).toEqual(before.tags);
  const manifests = new Set<string>();
  for (const repository of REPOSITORIES) {
    const here = new Set([...before.manifests].filter(link => isOf(repository, link)).map(link => split(link).digest));
    const tagged = [...before.tags].filter(([key]) => key.startsWith(`${repository}:`)).map(([, digest]) => digest);
    for (const digest of neededOf(here, staysUntagged ? here : tagged)) manifests.add(`${repository}@${digest}`);
  }
  expect(after.manifests).toEqual(manifests);
  expect(after.blobs).toEqual(new Set([...manifests].flatMap(blobsOf)));
}

function isOf(repository: string, link: string): boolean {
  return split(link).repository === repository;
}

function blobsOf(manifest: string): readonly string[] {
  const { repository, digest } = split(manifest);
  return digestsOf(findDocument(digest).blobs).map(blob => `${repository}@${blob}`);
}

function split(link: string) {
  const at = link.indexOf('@');
  return { repository: link.slice(0, at), digest: link.slice(at + 1) };
}
