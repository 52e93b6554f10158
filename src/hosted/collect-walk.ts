// Walking all that is recorded, page by page: memory does not grow with the registry.
import type { Entry, ListOptions } from '../state/store.ts';
import type { Room } from './room.ts';

/** All repositories that have anything, in the order of their keys. */
export async function* repositoriesOf({ records }: Room): AsyncGenerator<string> {
  let after = '';
  for (;;) {
    const firsts = await Promise.all([
      records.manifests.list({ after, limit: 1 }),
      records.blobs.list({ after, limit: 1 }),
    ]);
    const [next] = firsts.flat().map(prefixOf).sort();
    if (next === undefined) return;
    yield next.slice(0, -1);
    // A digest begins with a letter, so this is beyond all digests of the repository.
    after = `${next}~`;
  }
}

/** `<repository>@` of a link: the keys of links sort by it. */
function prefixOf(key: string): string {
  return key.slice(0, key.indexOf('@') + 1);
}

const PAGE = 500;

/** All records with a prefix. What is written meanwhile may be among them or not. */
export async function* entriesOf<V>(
  collection: { entries(options: ListOptions): Promise<readonly Entry<V>[]> },
  prefix: string,
): AsyncGenerator<Entry<V>> {
  let after: string | undefined = '';
  while (after !== undefined) {
    const page: readonly Entry<V>[] = await collection.entries({ prefix, after, limit: PAGE });
    yield* page;
    after = page.at(-1)?.key;
  }
}
