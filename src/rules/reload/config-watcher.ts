// Watches the file with the rules: it is read once it has changed and settled, and a faulty one is not retried for a while.
import { createDebounce, type Fingerprint, isUnchanged } from '../layers/fingerprint.ts';
import type { RuleOptions } from '../rules.ts';

/** The file with the rules. */
export interface RulesSource {
  /** Of the files that `load` reads. */
  fingerprint(): Promise<Fingerprint>;
  /** Throws RuleFaults where the file is invalid as a whole. */
  load(): readonly RuleOptions[];
}

type CheckResult =
  /** As of the last check. */
  | { readonly kind: 'same' }
  /** To be read later: it is being written, or was faulty a moment ago. */
  | { readonly kind: 'left' }
  | { readonly kind: 'read'; readonly rules: readonly RuleOptions[] };

interface ConfigWatcher {
  /** For an explicit reload: always reads it. Throws what `load` throws. */
  check(options: { readonly isForced: boolean }): Promise<CheckResult>;
  /** The next check reads it, changed or not. */
  forget(): void;
}

/** Parsing takes time from requests: a faulty file is not retried, unless the cause may be elsewhere. */
const RETRY_MS = 30_000;

export function createConfigWatcher(source: RulesSource, now: () => Date): ConfigWatcher {
  const debounce = createDebounce(now);
  let read: Fingerprint | undefined;
  let refused: { readonly seen: Fingerprint; readonly until: Date } | undefined;

  function isRefused(seen: Fingerprint): boolean {
    return refused !== undefined && isUnchanged(refused.seen, seen) && refused.until > now();
  }

  function load(seen: Fingerprint): readonly RuleOptions[] {
    refused = { seen, until: new Date(now().getTime() + RETRY_MS) };
    const rules = source.load();
    refused = undefined;
    return rules;
  }

  return {
    async check({ isForced }) {
      const seen = await source.fingerprint();
      if (!isForced) {
        if (isRefused(seen)) return { kind: 'left' };
        if (isUnchanged(read, seen)) return { kind: 'same' };
        if (debounce.mustWait([seen])) return { kind: 'left' };
      }
      const rules = load(seen);
      read = seen;
      return { kind: 'read', rules };
    },
    forget() {
      read = undefined;
    },
  };
}

/** Each fault names its location. None quotes a secret. */
export class RuleFaults extends Error {
  override readonly name = 'RuleFaults';
  readonly faults: readonly string[];

  constructor(faults: readonly string[], options?: ErrorOptions) {
    super(faults.join('; '), options);
    this.faults = faults;
  }
}
