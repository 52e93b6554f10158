// Where content lies, and what is done about content that the disk has damaged: log and webhooks are told of it once.
import { join } from 'node:path';
import type { Logger } from 'pino';
import { REMEDIES } from '../cache/admin/cache-admin.ts';
import type { ContentKind } from '../content/inventory.ts';
import type { Damage } from '../content/verification.ts';
import type { RegistryEvents } from '../http/distribution/registry-events.ts';

/** In the data directory. */
export function contentFolder(dataDir: string, of: ContentKind): string {
  return join(dataDir, FOLDERS[of]);
}

const FOLDERS: Record<ContentKind, string> = {
  hosted: 'hosted',
  cache: 'content',
  rules: 'rules',
  tokens: 'tokens',
  contexts: join('builds', 'contexts'),
};

/** What stays of damaged content that only a push can mend: whoever can read more of it than we may want it. */
export const MAX_DAMAGED_BYTES = 1024 ** 3;

interface DamageReportDeps {
  readonly log: Logger;
  readonly events: Pick<RegistryEvents, 'damaged'>;
}

interface Damaged extends Damage {
  readonly of: ContentKind;
  /** That link it, by their full names. */
  readonly repositories: readonly string[];
  /** Whether it is there again, from what was in memory. */
  readonly isHealed: boolean;
}

export type ReportDamage = (damaged: Damaged) => void;

export function createReportDamage({ log, events }: DamageReportDeps): ReportDamage {
  return ({ of, digest, size, reason, setAside, repositories, isHealed }) => {
    const remedy = isHealed ? 'it was written anew from memory' : REMEDIES[of];
    log.error({ of, digest, size, repositories, setAside, reason }, `the disk has damaged kept content: ${remedy}`);
    events.damaged({ digest, size, repositories });
  };
}
