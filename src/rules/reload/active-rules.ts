// The state of the rules that is in force, and what is known of it: since when, with which layers, and what stands in the way of the next.
import { isDeepStrictEqual } from 'node:util';
import type { Digest } from '../../oci/digest.ts';
import type { RuleOptions } from '../rules.ts';
import { digestsOf, type OpenedRules, remoteLayersOf } from './open-rules.ts';

export interface RulesStatus {
  /** Since when the rules in force are so. */
  readonly loadedAt: Date;
  /** What stands in the way of what is there now; none where that is in force. */
  readonly faults: readonly string[];
}

interface ActiveRules {
  readonly opened: OpenedRules;
  readonly status: RulesStatus;
  /** On the layerStore, of the rules in force, and of those that pulls under way may have. */
  readonly layers: ReadonlySet<Digest>;
  /** From now on these are in force. */
  replace(opened: OpenedRules): void;
  /** What is in force stays. Faults are told once, or each time to who has asked. */
  refuse(faults: readonly string[], options: { readonly isAsked: boolean }): void;
}

export interface ActiveRulesDeps {
  readonly now: () => Date;
  /** Hears of a state that came into force. */
  readonly onChanged: (rules: readonly RuleOptions[]) => void;
  /** Hears once of each set of faults: what was in force stays. */
  readonly onFaulty: (faults: readonly string[]) => void;
}

/** The layers of a state that is over. */
interface Retired {
  readonly digests: readonly Digest[];
  readonly until: Date;
}

/** A pull that has found its rules makes sure of their layers in this time. */
const RETIRE_MS = 3_600_000;

export function createActiveRules(first: OpenedRules, { now, onChanged, onFaulty }: ActiveRulesDeps): ActiveRules {
  let opened = first;
  let loadedAt = now();
  let faults = first.waiting;
  let retired: readonly Retired[] = [];

  const findRetired = () => retired.filter(({ until }) => until > now());

  return {
    get opened() {
      return opened;
    },
    get status() {
      return { loadedAt, faults };
    },
    get layers() {
      return new Set([...digestsOf(opened), ...findRetired().flatMap(({ digests }) => digests)]);
    },
    replace(next) {
      const isChanged = faults.length > 0 || !isSame(opened, next);
      retired = [...findRetired(), { digests: digestsOf(opened), until: new Date(now().getTime() + RETIRE_MS) }];
      opened = next;
      const isWaitingStill = next.waiting.length > 0 && isDeepStrictEqual(next.waiting, faults);
      faults = next.waiting;
      if (!isChanged || isWaitingStill) return;
      loadedAt = now();
      onChanged(next.rules);
    },
    refuse(found, { isAsked }) {
      if (isAsked || !isDeepStrictEqual(found, faults)) onFaulty(found);
      faults = found;
    },
  };
}

/** Whether they make the same of every image. */
function isSame(before: OpenedRules, after: OpenedRules): boolean {
  const layers = remoteLayersOf(after.rules);
  return (
    isDeepStrictEqual(before.rules, after.rules) &&
    isDeepStrictEqual(digestsOf(before), digestsOf(after)) &&
    isDeepStrictEqual(before.remote.knownOf(layers), after.remote.knownOf(layers))
  );
}
