// Wires the active rules: opened at the start, reloaded while the service runs, and applied to pulls and tokens.
import { statSync } from 'node:fs';
import type { Logger } from 'pino';
import { ConfigError } from '../config/faults.ts';
import type { Config } from '../config/schema.ts';
import type { Memory } from '../memory.ts';
import { createWithRules, type WithRules } from '../pull/rules/ruled-registry.ts';
import { createDerivedDigests, type DerivedDigests } from '../rules/derived-digests.ts';
import { takeFingerprint } from '../rules/layers/fingerprint.ts';
import type { LeaseRuleLayers, RuleLayerStore } from '../rules/layers/layer-store.ts';
import { createLocalLayers, createReadCache, type LocalLayers } from '../rules/layers/local-layers.ts';
import { RuleFaults, type RulesSource } from '../rules/reload/config-watcher.ts';
import { createOpenRules } from '../rules/reload/open-rules.ts';
import { createRuleReloader, type RuleReloader } from '../rules/reload/reloader.ts';
import type { DescribeRemote, RuleOptions, Rules } from '../rules/rules.ts';
import type { RecordStore } from '../state/store.ts';
import { createFindRuled, type FindRuled } from '../submit/rules.ts';
import type { Pulling } from './pulling.ts';

/** Rereads the configuration. */
export interface Reread {
  /** The path of its file, whether or not it exists. */
  readonly path: string;
  /** Throws ConfigError. */
  read(): Config;
}

interface RulingDeps {
  readonly config: Config;
  readonly log: Logger;
  readonly now: () => Date;
  readonly records: RecordStore;
  readonly layerStore: RuleLayerStore;
  readonly describeRemote: DescribeRemote;
  /** Absent: only layers of rules can change. */
  readonly reread?: Reread | undefined;
  /** The interval between checks for changes. */
  readonly checkEveryMs?: number | undefined;
}

interface Ruling {
  readonly rules: RuleReloader;
  /** Rereads everything, whether or not it appears changed. */
  reload(): Promise<void>;
  /** To be called every few minutes. */
  sweep(): Promise<void>;
  close(): Promise<void>;
}

const CHECK_EVERY_MS = 5000;

/** Throws ConfigError with all errors of the rules. */
export async function createRuling(deps: RulingDeps): Promise<Ruling> {
  const { log, layerStore, checkEveryMs = CHECK_EVERY_MS } = deps;
  const localLayers = openLocalLayers(deps);
  const rules = await openRules(deps, localLayers);
  if (rules.rules.length > 0) log.info({ rules: namesOf(rules.rules) }, 'rules are active');
  const { faults } = rules.status;
  if (faults.length > 0)
    log.warn({ faults }, 'layers of rules are not available yet: images that need them are refused until they are');
  void rules.warm().then(reasons => {
    if (reasons.length > 0) log.warn({ reasons }, 'layers of rules are unavailable: pulls that need them will retry');
  });
  const timer = setInterval(() => void rules.check(), checkEveryMs);
  timer.unref();
  return {
    rules,
    async reload() {
      await rules.reload();
      log.info({ rules: namesOf(rules.rules), faults: rules.status.faults }, 'rules were reloaded');
    },
    sweep: () => layerStore.sweep(rules.layers),
    async close() {
      clearInterval(timer);
      await rules.close();
      localLayers.close();
    },
  };
}

function openLocalLayers({ config, log, now, layerStore }: RulingDeps): LocalLayers {
  const { unpackedLayerBytes: maxUnpackedBytes, unpackRatio: maxRatio } = config.limits;
  return createLocalLayers({
    ...{ layerStore, now, limits: { maxUnpackedBytes, maxRatio } },
    onUnwatched: (path, reason) =>
      log.warn({ path, reason }, 'changes of the layer cannot be watched: polling instead'),
  });
}

async function openRules(deps: RulingDeps, localLayers: LocalLayers): Promise<RuleReloader> {
  const { config, log, now, records, layerStore, describeRemote, reread } = deps;
  const { attestations } = config;
  const readCache = createReadCache({ records, layerStore, now });
  try {
    return await createRuleReloader({
      rules: config.rules,
      source: reread && createSource(deps, reread),
      openRules: createOpenRules({ localLayers, readCache, layerStore, describeRemote, attestations }),
      ...{ localLayers, layerStore, now },
      onChanged: rules => log.info({ rules: namesOf(rules) }, 'the rules have changed'),
      onFaulty: faults => log.error({ faults }, 'the changed rules have errors: the previous ones stay active'),
    });
  } catch (error) {
    throw error instanceof RuleFaults ? new ConfigError(error.faults.map(message => ({ message }))) : error;
  }
}

function namesOf(rules: readonly RuleOptions[]): readonly string[] {
  return rules.map(({ name }) => name);
}

function createSource({ config, log, now }: RulingDeps, { path, read }: Reread): RulesSource {
  let reported = '';
  return {
    fingerprint: () => takeFingerprint(path, now()),
    load() {
      requireContent(path);
      const next = reread(read);
      const keys = changedKeys(config, next);
      if (keys.join() !== reported && keys.length > 0) {
        log.warn({ keys }, 'configuration keys other than rules have changed: restart to apply them');
      }
      reported = keys.join();
      return next.rules;
    },
  };
}

/** A file that is empty because of a full disk or an editor does not mean a configuration without rules. Throws RuleFaults. */
function requireContent(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.size !== 0) return;
  throw new RuleFaults([`${path} is empty: to remove all rules, set \`rules: []\``]);
}

function reread(read: Reread['read']): Config {
  try {
    return read();
  } catch (error) {
    throw error instanceof ConfigError ? new RuleFaults(error.faults, { cause: error }) : error;
  }
}

/** Only names: values may be secrets. */
function changedKeys(before: Config, after: Config): readonly string[] {
  const own: ReadonlyMap<string, unknown> = new Map(Object.entries(before));
  const keys = new Set([...own.keys(), ...Object.keys(after)]).difference(new Set(['rules']));
  const next: ReadonlyMap<string, unknown> = new Map(Object.entries(after));
  return [...keys].filter(key => JSON.stringify(own.get(key)) !== JSON.stringify(next.get(key))).map(nameOfKey);
}

/** As written. */
function nameOfKey(key: string): string {
  return key.replace(/Ms$/, '');
}

export interface RuledPulls {
  readonly derivedDigests: DerivedDigests;
  readonly withRules: WithRules;
  readonly findRuled: FindRuled;
}

export function createRuledPulls({
  config,
  records,
  memory,
  now,
  pulling,
  rules,
  leaseRuleLayers,
}: {
  readonly config: Config;
  readonly records: RecordStore;
  readonly memory: Memory;
  readonly now: () => Date;
  readonly pulling: Pick<Pulling, 'augmentations' | 'layers'>;
  readonly rules: Rules;
  readonly leaseRuleLayers: LeaseRuleLayers;
}): RuledPulls {
  const { augmentations, layers } = pulling;
  const derivedDigests = createDerivedDigests({
    records,
    memory,
    now,
    keepMs: config.ruleDigests.keepMs,
    leaseRuleLayers,
  });
  return {
    derivedDigests,
    withRules: createWithRules({ rules, derivedDigests, augmentations, layers }),
    findRuled: createFindRuled({
      rules,
      leaseRuleLayers,
      now,
      ttlMs: Math.max(config.tokens.ttlMs, config.tokens.workflow.maxMs),
    }),
  };
}
