// Rules at work: what clients pull and what they ask tokens for, through the rules in force.
import type { Config } from '../config/schema.ts';
import type { Memory } from '../memory.ts';
import { createWithRules, type WithRules } from '../pull/rules/ruled-registry.ts';
import { createMadeDigests, type MadeDigests } from '../rules/made.ts';
import type { Rules } from '../rules/rules.ts';
import type { HoldLayers } from '../rules/shelf.ts';
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
  readonly holdLayers: HoldLayers;
}

export interface RuledPulls {
  readonly made: MadeDigests;
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
  holdLayers,
}: RuledPullsDeps): RuledPulls {
  const { augmentations, layers } = pulling;
  const made = createMadeDigests({ records, memory, now, keepMs: config.ruleDigests.keepMs, holdLayers });
  return {
    made,
    withRules: createWithRules({ rules, made, augmentations, layers }),
    findRuled: createFindRuled({ rules, holdLayers, now, ttlMs: config.tokens.ttlMs }),
  };
}
