// Quotas: how much repositories may hold together. What is asked at the link is exact, so that pushes at the same time cannot overrun one;
// what is asked while uploads grow counts all that are under way, so that neither can what lies on the disk.
import { RegistryError } from '../oci/errors.ts';
import { createNameTest } from '../oci/name-pattern.ts';
import type { RecordStore } from '../state/store.ts';
import type { Quota } from './options.ts';
import { formatSize } from './quota-size.ts';
import { openUsage } from './quota-usage.ts';

/**
 * The sum of all that the repositories link, blobs and manifests. What one repository links as often as it likes counts once, and what
 * two of them link counts twice: deleting it from one alone gives that one its room back.
 */
export interface QuotaLimit {
  /** Globs of repositories. */
  readonly repositories: readonly string[];
  readonly maxBytes: number;
}

interface QuotaDeps {
  readonly records: RecordStore;
  readonly limits: readonly QuotaLimit[];
}

/** For a room over the same records, at each of its starts, with limits or without: what it is not told of, it does not know. */
export async function createQuota({ records, limits }: QuotaDeps): Promise<Quota> {
  const quotas = limits.map(({ repositories, maxBytes }) => ({
    name: repositories.join(', '),
    maxBytes,
    matches: createNameTest(repositories),
  }));
  const quotasOf = (repository: string) => quotas.filter(({ matches }) => matches(repository));
  const usage = await openUsage(records, repository => [...new Set(quotasOf(repository).map(({ name }) => name))]);

  /** How far uploads have come, or will. */
  const growing = new Map<string, { readonly repository: string; readonly bytes: number }>();

  function growingBytes(matches: (repository: string) => boolean): number {
    return [...growing.values()].reduce((sum, { repository, bytes }) => sum + (matches(repository) ? bytes : 0), 0);
  }

  async function admit(repository: string, bytes: number): Promise<void> {
    if (bytes <= 0) return;
    for (const { name, maxBytes } of quotasOf(repository)) {
      const usedBytes = await usage.ofQuota(name);
      if (usedBytes + bytes > maxBytes) throw refusal(name, { usedBytes, askedBytes: bytes, maxBytes });
    }
  }

  return {
    async admitUpload(repository, bytes, id) {
      const limits = quotasOf(repository);
      const before = growing.get(id)?.bytes ?? 0;
      if (bytes <= before || limits.length === 0) return;
      const linked = await Promise.all(limits.map(({ name }) => usage.ofQuota(name)));
      // From here on nobody comes between: of many uploads those that fit are admitted, and not none.
      for (const [at, { name, maxBytes, matches }] of limits.entries()) {
        const usedBytes = (linked[at] ?? 0) + growingBytes(matches) - before;
        if (usedBytes + bytes > maxBytes) throw refusal(name, { usedBytes, askedBytes: bytes, maxBytes });
      }
      growing.set(id, { repository, bytes });
    },
    endUpload: id => void growing.delete(id),
    async account(repository, _digest, bytes) {
      await admit(repository, bytes);
      return usage.adding(repository, bytes);
    },
  };
}

interface Refused {
  readonly usedBytes: number;
  readonly askedBytes: number;
  readonly maxBytes: number;
}

function refusal(quota: string, refused: Refused): RegistryError {
  const [used, asked, max] = [refused.usedBytes, refused.askedBytes, refused.maxBytes].map(formatSize);
  const reason = `${used} of ${max} are used, and this needs ${asked} more`;
  return new RegistryError(
    'DENIED',
    `the quota of ${quota} is too small: ${reason}. Delete what is not needed any more, or have the quota raised`,
    { detail: { quota, ...refused } },
  );
}
