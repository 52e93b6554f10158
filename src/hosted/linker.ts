// Links what requests push. What waits for the lock of a repository is linked together: any transaction waits for the disk once.
import { AsyncLocalStorage } from 'node:async_hooks';
import { type Change, type Lock, RecordConflict, repeatOnConflict } from '../state/store.ts';
import {
  type BlobLink,
  isLink,
  linkBlob,
  type ManifestLink,
  type PreparedLink,
  prepareBlob,
  prepareManifest,
  writeLinks,
} from './links.ts';
import type { HostedStore } from './store.ts';

/** Links stored content under the lock of its repository; `lease` is that of the content. */
export interface Linker {
  /** `also` is written with the link. */
  blob(link: BlobLink, options: { readonly also: readonly Change[]; readonly lease: Lock | undefined }): Promise<void>;
  /** `check` is called once more under the lock: throws where the manifest must not be linked. */
  manifest(
    link: ManifestLink,
    options: { readonly check: () => Promise<void>; readonly lease: Lock | undefined },
  ): Promise<void>;
}

type Prepare = (locked: HostedStore) => Promise<PreparedLink>;

interface WaitingLink {
  readonly prepare: Prepare;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** Of one transaction: above that, what waits is for the next. */
const MAX_CHANGES = 1_000;

export function createLinker(store: HostedStore): Linker {
  const waiting = new Map<string, WaitingLink[]>();

  const linkOne = async (locked: HostedStore, repository: string, prepare: Prepare) =>
    writeLinks(locked, repository, [await prepare(locked)]);

  /**
   * Links the first ones that are independent of each other, as they change other records, and returns the rest: what was not written is
   * prepared again, and must not be each time.
   */
  async function linkSome(
    locked: HostedStore,
    repository: string,
    works: readonly WaitingLink[],
  ): Promise<readonly WaitingLink[]> {
    const taken: { readonly work: WaitingLink; readonly link: PreparedLink }[] = [];
    const changed = new Set<string>();
    let seen = 0;
    for (const work of works) {
      const link = await work.prepare(locked).catch(work.reject);
      const keys = link?.changes.map(({ collection, key }) => `${collection} ${key}`) ?? [];
      const hasRoom = taken.length === 0 || changed.size + keys.length <= MAX_CHANGES;
      if (!hasRoom || keys.some(key => changed.has(key))) break;
      for (const key of keys) changed.add(key);
      if (link) taken.push({ work, link });
      seen += 1;
    }
    const rest = works.slice(seen);
    if (taken.length === 0) return rest;
    const links = taken.map(({ link }) => link);
    try {
      await writeLinks(locked, repository, links);
      for (const { work } of taken) work.resolve();
    } catch (error) {
      await linkEach(locked, repository, { works: taken.map(({ work }) => work), error });
    }
    return rest;
  }

  /** After the error of all of them: each is for itself. */
  async function linkEach(
    locked: HostedStore,
    repository: string,
    { works, error }: { readonly works: readonly WaitingLink[]; readonly error: unknown },
  ): Promise<void> {
    const isFinal = works.length === 1 && !(error instanceof RecordConflict);
    for (const { prepare, resolve, reject } of works) {
      if (isFinal) reject(error);
      else await repeatOnConflict(isLink, () => linkOne(locked, repository, prepare)).then(resolve, reject);
    }
  }

  async function linkWaiting(repository: string): Promise<void> {
    const take = () => {
      const works = waiting.get(repository) ?? [];
      waiting.delete(repository);
      return works;
    };
    await store
      .withLock(repository, async locked => {
        let works: readonly WaitingLink[] = take();
        while (works.length > 0) works = await linkSome(locked, repository, works);
      })
      .catch(error => {
        for (const { reject } of take()) reject(error);
      });
  }

  function linkInTurn(repository: string, prepare: Prepare): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    // Another request may write it, and must not be taken for the one that pushed it.
    const inContext = AsyncLocalStorage.snapshot();
    const prepareHere: Prepare = async locked => {
      const link = await inContext(prepare, locked);
      return { ...link, report: () => inContext(link.report) };
    };
    const work = { prepare: prepareHere, resolve, reject };
    const works = waiting.get(repository);
    if (works) works.push(work);
    else {
      waiting.set(repository, [work]);
      void linkWaiting(repository);
    }
    return promise;
  }

  return {
    blob(link, { also, lease }) {
      // The fence of a lease is of one content alone, and needs no lock.
      if (lease) return linkBlob(store, link, { also, expected: lease.fence });
      return linkInTurn(link.repository, locked => prepareBlob(locked, link, { also }));
    },
    manifest(link, { check, lease }) {
      const { repository } = link;
      const prepare: Prepare = async locked => {
        await check();
        return prepareManifest(locked, link);
      };
      if (!lease) return linkInTurn(repository, prepare);
      return store.withLock(repository, locked => linkOne(locked, repository, prepare), lease);
    },
  };
}
