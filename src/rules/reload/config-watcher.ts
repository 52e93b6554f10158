// Where the rules are written, followed: it is read when it has changed and rests, and what cannot be taken is left alone for a while.
import { createDebounce, type Fingerprint, isUnchanged } from '../layers/fingerprint.ts';
import type { RuleOptions } from '../rules.ts';

/** Where the rules are written. */
export interface RulesSource {
  /** Of what `load` reads. */
  fingerprint(): Promise<Fingerprint>;
  /** Throws RuleFaults where what is written there cannot be taken as a whole. */
  load(): readonly RuleOptions[];
}

type Look =
  /** As it was at the last look. */
  | { readonly kind: 'same' }
  /** To be looked at later: it is being written, or was faulty a moment ago. */
  | { readonly kind: 'left' }
  | { readonly kind: 'read'; readonly rules: readonly RuleOptions[] };

interface ConfigWatcher {
  /** Who asks for it has it read in any case. Throws what `load` throws. */
  look(options: { readonly isAsked: boolean }): Promise<Look>;
  /** The next look reads it, whether it has changed or not. */
  forget(): void;
}

/** What is parsed for nothing holds up who is served: a faulty file is left alone, but for what may be at fault beside it. */
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
    async look({ isAsked }) {
      const seen = await source.fingerprint();
      if (!isAsked) {
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

/** Each fault names its place. None quotes a secret. */
export class RuleFaults extends Error {
  override readonly name = 'RuleFaults';
  readonly faults: readonly string[];

  constructor(faults: readonly string[], options?: ErrorOptions) {
    super(faults.join('; '), options);
    this.faults = faults;
  }
}
