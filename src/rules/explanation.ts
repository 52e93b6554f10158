// What rules make of an image, told: the answer of the API, which the command prints.
import { z } from 'zod';
import type { RuleReloader } from './reload/reloader.ts';
import type { RuleLayer, RuleOptions } from './rules.ts';

const valueSchema = z.union([z.string(), z.array(z.string())]);

/** One thing that a container runs with, or that is said of the image, and that rules change. */
const differenceSchema = z.object({
  /** As rules name it. */
  field: z.enum(['env', 'entrypoint', 'cmd', 'workingDir', 'user', 'labels', 'exposedPorts', 'annotations']),
  /** In a field of many: the variable, the label, the annotation or the port. */
  key: z.string().optional(),
  /** Absent where the source has none. */
  before: valueSchema.optional(),
  /** Absent where the image has none any more. */
  after: valueSchema.optional(),
});

const movedSchema = z.object({
  /** The digest of the layer that was given. */
  given: z.string(),
  /** The first entries that lie elsewhere: their paths in the layer, and in the image. */
  entries: z.array(z.object({ from: z.string(), to: z.string() })),
  /** How many there are. */
  count: z.number(),
});

const addedLayerSchema = z.object({
  digest: z.string(),
  /** Bytes, as packed. */
  size: z.number(),
  /** Absent for what no rule adds. */
  rule: z.string().optional(),
  /** As the rule says it, without user info and query of an address. */
  from: z.string().optional(),
  /** Of a layer that became another one, so that it lies where the image's links lead. Absent where it is as it was given. */
  moved: movedSchema.optional(),
});

const explainedImageSchema = z.object({
  platform: z.string(),
  /** The rules that are for the platform, in their order. */
  rules: z.array(z.string()),
  sourceDigest: z.string(),
  /** Equal to the source's: the image stays as it is. */
  digest: z.string(),
  differences: z.array(differenceSchema),
  layers: z.array(addedLayerSchema),
  /** What an engine may make of it that its rules may not have meant, each in a sentence. */
  warnings: z.array(z.string()).optional(),
});

const toldVerdictSchema = z.object({
  name: z.string(),
  applies: z.boolean(),
  /** One line. */
  reason: z.string(),
  /** Globs of the platforms that it is for; absent: all. */
  platforms: z.array(z.string()).optional(),
});

export const explanationSchema = z.object({
  /** In full: registry/repository, and the tag or digest. */
  image: z.string(),
  /** For whom; absent for who has no name. */
  caller: z.string().optional(),
  /** Of every rule, in their order. */
  rules: z.array(toldVerdictSchema),
  /**
   * What a pull gets: an image that rules changed, the source as it is, or an error. A refusal is a rule's will (`pinned: refused`); all else
   * that stands in the way is a failure.
   */
  outcome: z.enum(['changed', 'unchanged', 'refused', 'failed']),
  /** Why, in one line. */
  reason: z.string(),
  /** Whose digest it is, where the image is named by one: what rules made stays what it was, whatever the rules say now. */
  pinned: z.enum(['upstream', 'made']).optional(),
  sourceDigest: z.string(),
  /** What the image becomes; absent where a pull gets an error. */
  digest: z.string().optional(),
  /** In the order of the index. Empty where a pull gets an error, and for what is no image. */
  platforms: z.array(explainedImageSchema),
});

export type Difference = z.infer<typeof differenceSchema>;
export type AddedLayer = z.infer<typeof addedLayerSchema>;
export type ExplainedImage = z.infer<typeof explainedImageSchema>;
export type Explanation = z.infer<typeof explanationSchema>;

// The rules in force, told: what each is for and what it does, without what may be a secret.

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

export function tellRules({ rules, status }: Pick<RuleReloader, 'rules' | 'status'>): RuleList {
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

// Where a rule has a layer from, for people: as it says it, but for what may be a secret.

/** Such as `directory ./layers/ca`, or `https://example.com/tool.tar.gz`. Without user info, query and fragment of an address. */
export function tellLayerPlace(layer: RuleLayer): string {
  switch (layer.kind) {
    case 'directory':
    case 'file':
      return `${layer.kind} ${layer.path}`;
    case 'url':
      return tellAddress(layer.url);
    case 'blob':
      return tellAddress(layer.location);
    case 'image':
      return `image ${layer.image}`;
  }
}

/** Of any scheme; what is no address is not told at all. */
function tellAddress(text: string): string {
  const url = URL.parse(text);
  if (!url) return 'an address that is none';
  const { protocol, host, pathname } = url;
  return `${protocol}//${host}${pathname}`;
}
