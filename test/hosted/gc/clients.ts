// Clients of a registry that is collected: each does what real ones do, and leaves out of a push what it is told is there.
import fc from 'fast-check';
import type { GarbageCollector } from '../../../src/hosted/gc/collector.ts';
import type { HostedRepositories } from '../../../src/hosted/repositories.ts';
import { digestOf } from '../../../src/oci/digest.ts';
import { RegistryError } from '../../../src/oci/errors.ts';
import { bytes, pushBlob, putManifest, readBlob } from '../fixture.ts';
import { BLOBS, DOCUMENTS, type Document, findDocument, REPOSITORIES, TAGS } from './documents.ts';

const kind = <K extends string>(name: K) => fc.constant(name);
const repository = fc.constantFrom(...REPOSITORIES);
const tag = fc.constantFrom(...TAGS);
const document = fc.nat(DOCUMENTS.length - 1);
const blob = fc.nat(BLOBS.length - 1);

export const pushes = fc.record({
  kind: kind('push'),
  repository,
  document,
  tags: fc.subarray([...TAGS], { maxLength: 1 }),
});
const pulls = fc.record({ kind: kind('pull'), repository, tag });
const pushesOfBlobs = fc.record({ kind: kind('pushBlob'), repository, blob });
const mounts = fc.record({ kind: kind('mount'), repository, from: repository, blob });
const collections = fc.record({ kind: kind('collect'), dryRun: fc.boolean() });
export const collecting = { kind: 'collect', dryRun: false } as const;
const untaggings = fc.record({ kind: kind('deleteTag'), repository, tag });
const deletions = fc.oneof(
  fc.record({ kind: kind('deleteManifest'), repository, document }),
  fc.record({ kind: kind('deleteBlob'), repository, blob }),
);

/** What may lie in a registry for long before anything else happens, with a tag or without. */
export const leftovers = fc.oneof(pushes, pushesOfBlobs);

/** What deletes no manifest and no blob by its name: then nobody but the collection can take anything away. */
export const peaceful = fc.oneof(
  { weight: 4, arbitrary: pushes },
  { weight: 2, arbitrary: pulls },
  pushesOfBlobs,
  mounts,
  untaggings,
  collections,
);
export const content = { kind: 'pushBlob', repository: 'local/a', blob: 1 } as const;
const several = fc.constantFrom(...REPOSITORIES, 'local/b');
const one = fc.constant(1);
/** Content that goes from repository to repository, and is deleted in others at the same time. */
export const moving = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: kind('mount'), repository: several, from: several, blob: one }) },
  { weight: 4, arbitrary: fc.record({ kind: kind('deleteBlob'), repository: several, blob: one }) },
  { weight: 2, arbitrary: fc.record({ kind: kind('pushBlob'), repository: several, blob: one }) },
  { weight: 1, arbitrary: fc.constant(collecting) },
);
export const any = fc.oneof({ weight: 4, arbitrary: peaceful }, deletions);

type Of<A> = A extends fc.Arbitrary<infer T> ? T : never;
export type Action = Of<typeof any>;

export interface Registry {
  readonly hosted: HostedRepositories;
  readonly collector: GarbageCollector;
}

export async function act({ hosted, collector }: Registry, action: Action): Promise<void> {
  switch (action.kind) {
    case 'push':
      return push(hosted, action.repository, documentOf(action.document), action.tags);
    case 'pull':
      return pull(hosted, action.repository, action.tag);
    case 'pushBlob':
      await pushBlob(hosted, action.repository, blobOf(action.blob));
      return;
    case 'mount': {
      const source = { from: action.from, isReadable: () => true };
      await hosted.blobs.mount(action.repository, digestOf(blobOf(action.blob)), source);
      return;
    }
    case 'deleteTag':
      return hosted.tags.delete(action.repository, action.tag);
    case 'deleteManifest':
      return hosted.manifests.delete(action.repository, digestOf(documentOf(action.document).raw));
    case 'deleteBlob':
      return hosted.blobs.delete(action.repository, digestOf(blobOf(action.blob)));
    case 'collect':
      await collector.collect({ dryRun: action.dryRun });
  }
}

export function documentOf(i: number): Document {
  const found = DOCUMENTS[i];
  if (!found) throw new Error(`no document ${i}`);
  return found;
}

export function blobOf(i: number): Uint8Array {
  return BLOBS[i] ?? bytes('none');
}

async function push(
  hosted: HostedRepositories,
  repository: string,
  document: Document,
  tags: readonly string[],
): Promise<void> {
  const { blobs, manifests, raw, mediaType } = document;
  for (const content of blobs) {
    if (!(await isThere(hosted.blobs.head(repository, digestOf(content))))) await pushBlob(hosted, repository, content);
  }
  for (const child of manifests) {
    if (!(await isThere(hosted.manifests.get(repository, digestOf(child.raw))))) {
      await push(hosted, repository, child, []);
    }
  }
  await putManifest(hosted, repository, raw, { contentType: mediaType, tags });
}

async function isThere(asked: Promise<unknown>): Promise<boolean> {
  try {
    await asked;
    return true;
  } catch (error) {
    if (error instanceof RegistryError && error.status === 404) return false;
    throw error;
  }
}

/** A client that was told a digest must get all that belongs to it. */
async function pull(hosted: HostedRepositories, repository: string, tag: string): Promise<void> {
  const found = await hosted.tags.resolve(repository, tag).catch(() => undefined);
  if (found) await pullAll(hosted, repository, findDocument(found));
}

async function pullAll(hosted: HostedRepositories, repository: string, document: Document): Promise<void> {
  const { raw } = await hosted.manifests.get(repository, digestOf(document.raw));
  if (Buffer.compare(raw, document.raw) !== 0) throw new Error('the manifest has other bytes');
  for (const content of document.blobs) {
    const read = await readBlob(hosted, repository, digestOf(content));
    if (Buffer.compare(read, content) !== 0) throw new Error('the blob has other bytes');
  }
  for (const child of document.manifests) await pullAll(hosted, repository, child);
}
