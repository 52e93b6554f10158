// Reloads rules while the service runs, when their file or layers change. A new state is opened completely beside the active one, and
// replaces it only if it has no faults.
import { isDeepStrictEqual } from 'node:util';
import type { Digest } from '../../oci/digest.ts';
import { createProcessLocks } from '../../state/locks.ts';
import { createDebounce, type Fingerprint, isUnchanged } from '../layers/fingerprint.ts';
import type { RuleLayerStore } from '../layers/layer-store.ts';
import type { LocalLayers } from '../layers/local-layers.ts';
import type { RemoteLayer, RuleOptions, Rules } from '../rules.ts';
import { createConfigWatcher, RuleFaults, type RulesSource } from './config-watcher.ts';
import {
  digestsOf,
  isLocal,
  keyOf,
  type OpenedRules,
  type OpenRules,
  remoteLayersOf,
  type Watched,
} from './open-rules.ts';

export interface RuleReloader extends Rules {
  /** The active rules. */
  readonly rules: readonly RuleOptions[];
  readonly status: RulesStatus;
  /** In the layer store, for the active rules and for pulls in progress. */
  readonly layers: ReadonlySet<Digest>;
  /** Fetches the layers of registries and addresses before an image needs them. Returns why some are unavailable; pulls will retry. */
  warm(): Promise<readonly string[]>;
  /**
   * Checks for changes; to be called every few seconds. Calls are serialised, and callers that arrive while one waits share it. Never
   * rejects.
   */
  check(): Promise<void>;
  /** Rereads everything that may have changed unnoticed, layers of registries and addresses included. Never rejects. */
  reload(): Promise<void>;
  /** Waits for work in progress. The active rules stay. */
  close(): Promise<void>;
}

/** The last attempt. */
interface Attempt {
  readonly rules: readonly RuleOptions[];
  readonly watched: Watched;
  /** When to retry without a change. */
  readonly retryAt?: Date;
}

const CHECK = 'check';
/** For a registry that may recover, and for a disk with a transient error. */
const RETRY_MS = 30_000;
const RARE_RETRY_MS = 300_000;

/** Opens the rules without asking any registry; layers of this machine that do not fit on the disk are waited for. Throws RuleFaults. */
export async function createRuleReloader(
  deps: ActiveRulesDeps & {
    /** The rules at the start. */
    readonly rules: readonly RuleOptions[];
    /** Undefined where only the layers of the rules can change. */
    readonly source?: RulesSource | undefined;
    readonly openRules: OpenRules;
    readonly localLayers: Pick<LocalLayers, 'currentFingerprint'>;
    readonly layerStore: Pick<RuleLayerStore, 'find'>;
  },
): Promise<RuleReloader> {
  const { source, openRules, localLayers, layerStore, now } = deps;
  const { watched, outcome } = await openRules(deps.rules, { mayWait: true });
  if (outcome.kind === 'faulty') throw new RuleFaults(outcome.faults);
  const active = createActiveRules(outcome.opened, deps);
  const watcher = source && createConfigWatcher(source, now);
  let attempt: Attempt = { rules: deps.rules, watched, ...retryOf(outcome.opened) };
  let written = deps.rules;
  let queued: Promise<void> | undefined;
  let isClosed = false;
  const mutex = createProcessLocks();
  const debounce = createDebounce(now);

  /** Errors of the whole, such as a full disk, are retried at the next check. */
  async function checkSafely(isForced: boolean): Promise<void> {
    if (isClosed) return;
    try {
      await checkOnce(isForced);
    } catch (error) {
      watcher?.forget();
      attempt = { ...attempt, retryAt: now() };
      active.refuse(error instanceof RuleFaults ? error.faults : [reasonOf(error)], { isForced });
    }
  }

  async function checkOnce(isForced: boolean): Promise<void> {
    const found = await watcher?.check({ isForced });
    if (found?.kind === 'left') return;
    if (found?.kind === 'read') written = found.rules;
    const changed = await findChanged(written);
    if (!isForced && debounce.mustWait(changed)) return;
    const isSameRules = isDeepStrictEqual(written, attempt.rules) && !isRetryDue();
    const isSame = isSameRules && changed.length === 0 && (await areStored());
    if (isForced || !isSame) await open(written, isForced);
  }

  function isRetryDue(): boolean {
    return attempt.retryAt !== undefined && attempt.retryAt <= now();
  }

  /** The layers of this machine that may have changed since they were tried. */
  async function findChanged(rules: readonly RuleOptions[]): Promise<readonly Fingerprint[]> {
    const layers = rules.flatMap(rule => rule.layers).filter(isLocal);
    const changed: Fingerprint[] = [];
    for (const [key, layer] of new Map(layers.map(each => [keyOf(each), each]))) {
      const seen = await localLayers.currentFingerprint(layer);
      if (!isUnchanged(attempt.watched.get(key), seen)) changed.push(seen);
    }
    return changed;
  }

  async function areStored(): Promise<boolean> {
    for (const digest of digestsOf(active.opened)) if (!(await layerStore.find(digest))) return false;
    return true;
  }

  async function open(rules: readonly RuleOptions[], isForced: boolean): Promise<void> {
    const { opened } = active;
    const mayWait = opened.waiting.length > 0;
    const options = isForced
      ? { isNeeded: () => true, isForced, mayWait }
      : { earlier: opened, isNeeded: isNew, mayWait };
    const { watched, outcome } = await openRules(rules, options);
    attempt = { rules, watched, ...(outcome.kind === 'opened' && retryOf(outcome.opened)) };
    if (outcome.kind === 'opened') return active.replace(outcome.opened);
    const retryMs = outcome.isTransient ? RETRY_MS : RARE_RETRY_MS;
    attempt = { ...attempt, retryAt: new Date(now().getTime() + retryMs) };
    active.refuse(outcome.faults, { isForced });
  }

  function retryOf({ waiting }: OpenedRules): Pick<Attempt, 'retryAt'> {
    return waiting.length > 0 ? { retryAt: new Date(now().getTime() + RETRY_MS) } : {};
  }

  function isNew(layer: RemoteLayer): boolean {
    return !remoteLayersOf(active.opened.rules).some(known => keyOf(known) === keyOf(layer));
  }

  return {
    get current() {
      return active.opened.set;
    },
    get rules() {
      return active.opened.rules;
    },
    get status() {
      return active.status;
    },
    get layers() {
      return active.layers;
    },
    async warm() {
      const { rules, remote } = active.opened;
      const asked = await Promise.allSettled(remoteLayersOf(rules).map(remote.get));
      return asked.flatMap(each => (each.status === 'rejected' ? [reasonOf(each.reason)] : []));
    },
    check() {
      queued ??= mutex.withLock(CHECK, () => {
        queued = undefined;
        return checkSafely(false);
      });
      return queued;
    },
    reload: () => mutex.withLock(CHECK, () => checkSafely(true)),
    async close() {
      isClosed = true;
      await mutex.withLock(CHECK, async () => {});
    },
  };
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

// The active state of the rules, with its metadata: since when, with which layers, and what prevents the next one.

interface RulesStatus {
  /** When the active rules became active. */
  readonly loadedAt: Date;
  /** The faults of the rules now on disk; none where those are active. */
  readonly faults: readonly string[];
}

interface ActiveRules {
  readonly opened: OpenedRules;
  readonly status: RulesStatus;
  /** In the layer store, for the active rules and for pulls in progress. */
  readonly layers: ReadonlySet<Digest>;
  /** Activates these rules. */
  replace(opened: OpenedRules): void;
  /** Leaves the active rules unchanged. Faults are reported once, or each time for an explicit reload. */
  refuse(faults: readonly string[], options: { readonly isForced: boolean }): void;
}

interface ActiveRulesDeps {
  readonly now: () => Date;
  /** Called with a state that became active. */
  readonly onChanged: (rules: readonly RuleOptions[]) => void;
  /** Called once for each set of faults: the active rules stay. */
  readonly onFaulty: (faults: readonly string[]) => void;
}

/** The layers of a replaced state. */
interface Retired {
  readonly digests: readonly Digest[];
  readonly until: Date;
}

/** A pull that has found its rules leases their layers within this time. */
const RETIRE_MS = 3_600_000;

function createActiveRules(first: OpenedRules, { now, onChanged, onFaulty }: ActiveRulesDeps): ActiveRules {
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
    refuse(found, { isForced }) {
      if (isForced || !isDeepStrictEqual(found, faults)) onFaulty(found);
      faults = found;
    },
  };
}

/** Whether they have the same effect on every image. */
function isSame(before: OpenedRules, after: OpenedRules): boolean {
  const layers = remoteLayersOf(after.rules);
  return (
    isDeepStrictEqual(before.rules, after.rules) &&
    isDeepStrictEqual(digestsOf(before), digestsOf(after)) &&
    isDeepStrictEqual(before.remote.knownOf(layers), after.remote.knownOf(layers))
  );
}
