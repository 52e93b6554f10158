// Rules at work: what clients pull and what they ask tokens for, through the rules in force.
import type { Config } from '../config/schema.ts';
import type { Memory } from '../memory.ts';
import { createWithRules, type WithRules } from '../pull/rules/ruled-registry.ts';
import { createDerivedDigests, type DerivedDigests } from '../rules/derived-digests.ts';
import type { LeaseRuleLayers } from '../rules/layers/layer-store.ts';
import type { Rules } from '../rules/rules.ts';
import type { RecordStore } from '../state/store.ts';
import { createFindRuled, type FindRuled } from '../submit/rules.ts';
import type { Pulling } from './pulling.ts';

interface RuledPullsDeps {
  readonly config: Config;
  readonly records: RecordStore;
  readonly memory: Memory;
  readonly now: () => Date;
  readonly pulling: Pick<Pulling, 'augmentations' | 'layers'>;
  readonly rules: Rules;
  readonly leaseRuleLayers: LeaseRuleLayers;
}

export interface RuledPulls {
  readonly made: DerivedDigests;
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
}: RuledPullsDeps): RuledPulls {
  const { augmentations, layers } = pulling;
  const made = createDerivedDigests({ records, memory, now, keepMs: config.ruleDigests.keepMs, leaseRuleLayers });
  return {
    made,
    withRules: createWithRules({ rules, made, augmentations, layers }),
    findRuled: createFindRuled({ rules, leaseRuleLayers, now, ttlMs: config.tokens.ttlMs }),
  };
}
