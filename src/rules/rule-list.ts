// The rules in force, told: what each is for and what it does, without what may be a secret.
import { z } from 'zod';
import { tellLayerPlace } from './layer-place.ts';
import type { LiveRules } from './live.ts';
import type { RuleOptions } from './rule.ts';

const globs = z.array(z.string());

const toldRuleSchema = z.object({
  name: z.string(),
  match: z.object({
    image: globs,
    not: globs.optional(),
    platform: globs.optional(),
    caller: globs.optional(),
  }),
  /** `from` is as the rule says it, without user info and query of an address. */
  layers: z.array(z.object({ from: z.string(), platforms: globs.optional() })),
  /** The fields that it changes, without what it makes of them. */
  changes: z.array(z.string()),
  pinned: z.enum(['untouched', 'refused']),
});

export const ruleListSchema = z.object({
  /** In their order. */
  rules: z.array(toldRuleSchema),
  /** When they came into force: an instant in UTC. */
  loadedAt: z.string(),
  /** What stands in the way of those that are written there now; none where these are in force. */
  faults: z.array(z.string()),
});

export type RuleList = z.infer<typeof ruleListSchema>;
export type ToldRule = z.infer<typeof toldRuleSchema>;

export function tellRules({ rules, status }: Pick<LiveRules, 'rules' | 'status'>): RuleList {
  const { loadedAt, faults } = status;
  return { rules: rules.map(tellRule), loadedAt: loadedAt.toISOString(), faults: [...faults] };
}

function tellRule({ name, match, layers, changes, pinned }: RuleOptions): ToldRule {
  const { image, not, platform, caller } = match;
  return {
    name,
    match: {
      image: [...image],
      ...(not.length > 0 && { not: [...not] }),
      ...(platform && { platform: [...platform] }),
      ...(caller && { caller: [...caller] }),
    },
    layers: layers.map(layer => ({
      from: tellLayerPlace(layer),
      ...(layer.platforms && { platforms: [...layer.platforms] }),
    })),
    changes: Object.entries(changes).flatMap(([field, value]) => (value === undefined ? [] : field)),
    pinned,
  };
}
