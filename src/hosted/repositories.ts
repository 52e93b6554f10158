// Hosted repositories: what is pushed to us, in the words of distribution-spec. The interface that http, pull and copy work with.
import type { UploadFiles } from '../content/upload-files.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { keysOf } from '../state/store.ts';
import { createLinker } from './linker.ts';
import { findTagged, unlinkTag } from './links.ts';
import { absent, hasRepository, holdersKey, memberKey, type Referrer, tagKey } from './records.ts';
import { createBlobs, type HostedBlobs } from './repository/blobs.ts';
import { refuseTagRemoval } from './repository/integrity.ts';
import { createManifests, type HostedManifests } from './repository/manifests.ts';
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
  /** Uploads in progress survive the process from now on. */
  close(): Promise<void>;
}

interface NamesPage {
  readonly n: number;
  readonly last?: string | undefined;
  readonly isWanted: (name: string) => boolean;
}

/** Allows garbage collection on the same store. */
export function createHostedRepositories(store: HostedStore, uploadFiles: UploadFiles): HostedRepositories {
  const linker = createLinker(store);
  const { expire, close, ...uploads } = createUploads(store, linker, uploadFiles);
  const { restore, ...manifests } = createManifests(store, linker);
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
    close,
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

// The referrers of a manifest, page by page. distribution-spec "Listing Referrers".

/** Manifests whose subject is `digest`, in the order of their digests; empty where there are none, whether or not the subject exists. */
type ListReferrers = (
  repository: string,
  digest: Digest,
  page: ReferrersPage,
) => Promise<{ readonly descriptors: readonly Descriptor[]; readonly hasMore: boolean }>;

interface ReferrersPage {
  readonly artifactType?: string | undefined;
  /** Only those after this digest. */
  readonly after?: Digest | undefined;
}

/** The page is served as an index, and clients need not read larger ones. */
const MAX_PAGE_BYTES = 3 * 1024 * 1024;

function createListReferrers({ records }: HostedStore): ListReferrers {
  async function* find(repository: string, subject: Digest, { artifactType, after }: ReferrersPage) {
    const start = memberKey(repository, subject, after);
    for await (const key of keysOf(records.referrers, memberKey(repository, subject), start)) {
      const referrer = await records.referrers.find(key);
      if (referrer && (artifactType === undefined || referrer.artifactType === artifactType)) yield referrer;
    }
  }

  return async (repository, digest, page) => {
    const descriptors: Referrer[] = [];
    let size = 0;
    for await (const referrer of find(repository, digest, page)) {
      size += Buffer.byteLength(JSON.stringify(referrer));
      if (descriptors.length > 0 && size > MAX_PAGE_BYTES) return { descriptors, hasMore: true };
      descriptors.push(referrer);
    }
    return { descriptors, hasMore: false };
  };
}

// Tags of a repository. distribution-spec "Listing Tags", "Deleting tags".

interface HostedTags {
  /** Throws MANIFEST_UNKNOWN, or NAME_UNKNOWN where the repository is empty. */
  resolve(repository: string, tag: string): Promise<Digest>;
  /** In ASCII order, after `last`, at most 10 000 of them. Throws NAME_UNKNOWN where the repository is empty. */
  list(
    repository: string,
    page: { readonly n?: number | undefined; readonly last?: string | undefined },
  ): Promise<{ readonly tags: readonly string[]; readonly hasMore: boolean }>;
  /** Throws as `resolve` does, DENIED for an immutable tag, UNSUPPORTED where deleting tags is disabled. */
  delete(repository: string, tag: string): Promise<void>;
}

/** More are listed page by page. */
const MAX_PAGE = 10_000;

function createTags(store: HostedStore): HostedTags {
  const { records, options } = store;

  async function get(repository: string, tag: string) {
    const record = await records.tags.get(tagKey(repository, tag));
    if (!record) throw await unknown(repository, tag);
    return record;
  }

  const unknown = (repository: string, tag: string) => absent(records, repository, 'MANIFEST_UNKNOWN', `tag ${tag}`);

  async function deleteNow(locked: HostedStore, repository: string, tag: string): Promise<void> {
    const digest = await findTagged(store, repository, tag);
    if (digest === undefined && !(await records.tags.has(tagKey(repository, tag))))
      throw await unknown(repository, tag);
    refuseTagRemoval(store, repository, tag);
    if (digest) await unlinkTag(locked, { repository, tag, digest });
    else await locked.records.write([records.tags.deleting(tagKey(repository, tag))], { makesRoom: true });
  }

  return {
    resolve: async (repository, tag) => (await get(repository, tag)).digest,
    async list(repository, { n = MAX_PAGE, last = '' }) {
      const limit = Math.max(0, Math.min(n, MAX_PAGE));
      const prefix = tagKey(repository, '');
      const keys = await records.tags.list({ prefix, after: tagKey(repository, last), limit: limit + 1 });
      if (keys.length === 0 && !(await hasRepository(records, repository))) {
        throw new RegistryError('NAME_UNKNOWN', `there is no repository ${repository}`);
      }
      const tags = keys.slice(0, limit).map(key => key.slice(prefix.length));
      return { tags, hasMore: limit > 0 && keys.length > limit };
    },
    async delete(repository, tag) {
      if (!options.deletes.tags) throw new RegistryError('UNSUPPORTED', 'tags cannot be deleted from this registry');
      await store.withLock(repository, locked => deleteNow(locked, repository, tag));
    },
  };
}
