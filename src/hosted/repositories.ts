// Hosted repositories: what is pushed to us, in the words of distribution-spec. The interface that http, pull and copy work with.
import type { UploadFiles } from '../content/upload-files.ts';
import type { Digest } from '../oci/digest.ts';
import { keysOf } from '../state/store.ts';
import { holdersKey } from './records.ts';
import { createBlobs, type HostedBlobs } from './repository/blobs.ts';
import { createManifests, type HostedManifests } from './repository/manifests.ts';
import { createListReferrers, type ListReferrers } from './repository/referrers.ts';
import { createTags, type HostedTags } from './repository/tags.ts';
import { createUploads, type Uploads } from './repository/uploads.ts';
import type { HostedStore } from './store.ts';

/**
 * When a promise resolves, the change is on disk. Every function throws RegistryError for client-visible failures: a full disk is
 * UNAVAILABLE with status 507; any other Error is a bug. Names and tags to be written are checked here.
 */
export interface HostedRepositories {
  readonly uploads: Uploads;
  readonly blobs: HostedBlobs;
  readonly manifests: HostedManifests;
  readonly tags: HostedTags;
  readonly listReferrers: ListReferrers;
  /**
   * The names of repositories that have a manifest, behind `last`, at most `n` of those that are wanted. They are sorted, but a name that
   * begins with another and a slash comes before that.
   */
  listNames(page: NamesPage): Promise<{ readonly names: readonly string[]; readonly hasMore: boolean }>;
  /**
   * To be called when damaged content was set aside. A manifest that is in memory is rewritten; anything else is unknown until it is pushed
   * again. Returns the repositories that link it.
   */
  restore(digest: Digest): Promise<{ readonly repositories: readonly string[]; readonly isRestored: boolean }>;
  /** Removes uploads that received no bytes for longer than their time-out. */
  expireUploads(): Promise<void>;
}

interface NamesPage {
  readonly n: number;
  readonly last?: string | undefined;
  readonly isWanted: (name: string) => boolean;
}

/** Allows garbage collection on the same store. */
export function createHostedRepositories(store: HostedStore, uploadFiles: UploadFiles): HostedRepositories {
  const { expire, ...uploads } = createUploads(store, uploadFiles);
  const { restore, ...manifests } = createManifests(store);
  return {
    uploads,
    blobs: createBlobs(store),
    manifests,
    tags: createTags(store),
    listReferrers: createListReferrers(store),
    listNames: page => listNames(store, page),
    async restore(digest) {
      const prefix = holdersKey(digest);
      const holders = await Array.fromAsync(keysOf(store.records.holders, prefix));
      const repositories = [...new Set(holders.map(key => key.slice(key.lastIndexOf(' ') + 1)))];
      return { repositories, isRestored: await restore(digest) };
    },
    expireUploads: expire,
  };
}

/** Looks at one manifest of each repository. */
async function listNames({ records }: HostedStore, { n, last, isWanted }: NamesPage) {
  const names: string[] = [];
  for (let after = last === undefined ? '' : behind(last); n > 0; ) {
    const [key] = await records.manifests.list({ after, limit: 1 });
    if (key === undefined) break;
    const name = key.slice(0, key.indexOf('@'));
    after = behind(name);
    if (isWanted(name)) names.push(name);
    if (names.length > n) return { names: names.slice(0, n), hasMore: true };
  }
  return { names, hasMore: false };
}

/** A key behind all manifests of a repository: no digest has this character. */
function behind(repository: string): string {
  return `${repository}@~`;
}
