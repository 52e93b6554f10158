// Quotas: how much repositories may hold together. What is asked at the link is exact, so that pushes at the same time cannot overrun one;
// what is asked while an upload grows only spares the upload of what would be refused.
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

export interface QuotaDeps {
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

  async function admit(repository: string, bytes: number): Promise<void> {
    if (bytes <= 0) return;
    for (const { name, maxBytes } of quotasOf(repository)) {
      const usedBytes = await usage.ofQuota(name);
      if (usedBytes + bytes > maxBytes) throw refusal(name, { usedBytes, askedBytes: bytes, maxBytes });
    }
  }

  return {
    admitUpload: admit,
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
