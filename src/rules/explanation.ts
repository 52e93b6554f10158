// Explains what rules do to an image: the API response, printed by the command.
import { z } from 'zod';
import type { RuleReloader } from './reload/reloader.ts';
import type { RuleLayer, RuleOptions } from './rules.ts';

const valueSchema = z.union([z.string(), z.array(z.string())]);

/** One property of a container or image that rules change. */
const differenceSchema = z.object({
  /** The name of the key in rules. */
  field: z.enum(['env', 'entrypoint', 'cmd', 'workingDir', 'user', 'labels', 'exposedPorts', 'annotations']),
  /** In a field with many entries: the variable, the label, the annotation or the port. */
  key: z.string().optional(),
  /** Absent where the source has none. */
  before: valueSchema.optional(),
  /** Absent where it is removed. */
  after: valueSchema.optional(),
});

const movedSchema = z.object({
  /** The digest of the original layer. */
  given: z.string(),
  /** The first moved entries: their paths in the layer, and in the image. */
  entries: z.array(z.object({ from: z.string(), to: z.string() })),
  /** How many were moved. */
  count: z.number(),
});

const addedLayerSchema = z.object({
  digest: z.string(),
  /** Size in bytes, compressed. */
  size: z.number(),
  /** Absent for a layer of the source. */
  rule: z.string().optional(),
  /** As in the rule, without user info and query of an address. */
  from: z.string().optional(),
  /** For a layer that was moved to follow the image's links. Absent where it is unchanged. */
  moved: movedSchema.optional(),
});

const explainedImageSchema = z.object({
  platform: z.string(),
  /** The rules that apply to the platform, in their order. */
  rules: z.array(z.string()),
  sourceDigest: z.string(),
  /** Equal to the source's where the image is unchanged. */
  digest: z.string(),
  differences: z.array(differenceSchema),
  layers: z.array(addedLayerSchema),
  /** Warnings about what an engine may do with it that the rules may not expect, one sentence each. */
  warnings: z.array(z.string()).optional(),
});

const verdictSchema = z.object({
  name: z.string(),
  applies: z.boolean(),
  /** One line. */
  reason: z.string(),
  /** Globs of the platforms that it applies to; absent: all. */
  platforms: z.array(z.string()).optional(),
});

export const explanationSchema = z.object({
  /** In full: registry/repository, and the tag or digest. */
  image: z.string(),
  /** The caller; absent for anonymous. */
  caller: z.string().optional(),
  /** For every rule, in order. */
  rules: z.array(verdictSchema),
  /**
   * What a pull gets: an image changed by rules, the unchanged source, or an error. A refusal is configured (`pinned: refused`); anything
   * else that prevents a pull is a failure.
   */
  outcome: z.enum(['changed', 'unchanged', 'refused', 'failed']),
  /** The reason, in one line. */
  reason: z.string(),
  /** Whose digest it is, where the image is named by one: digests derived by rules do not change when the rules do. */
  pinned: z.enum(['upstream', 'made']).optional(),
  sourceDigest: z.string(),
  /** The resulting image; absent where a pull gets an error. */
  digest: z.string().optional(),
  /** In the order of the index. Empty where a pull gets an error, and for anything but an image. */
  platforms: z.array(explainedImageSchema),
});

export type Difference = z.infer<typeof differenceSchema>;
export type AddedLayer = z.infer<typeof addedLayerSchema>;
export type ExplainedImage = z.infer<typeof explainedImageSchema>;
export type Explanation = z.infer<typeof explanationSchema>;

// The active rules as reported: what each applies to and does, without possible secrets.

const globs = z.array(z.string());

const listedRuleSchema = z.object({
  name: z.string(),
  match: z.object({
    image: globs,
    not: globs.optional(),
    platform: globs.optional(),
    caller: globs.optional(),
  }),
  /** `from` is as in the rule, without user info and query of an address. */
  layers: z.array(z.object({ from: z.string(), platforms: globs.optional() })),
  /** The names of the fields that it changes, without the values. */
  changes: z.array(z.string()),
  pinned: z.enum(['untouched', 'refused']),
});

export const ruleListSchema = z.object({
  /** In order. */
  rules: z.array(listedRuleSchema),
  /** When they became active, in UTC. */
  loadedAt: z.string(),
  /** The errors of the rules now on disk; none where those are active. */
  faults: z.array(z.string()),
});

export type RuleList = z.infer<typeof ruleListSchema>;
export type ListedRule = z.infer<typeof listedRuleSchema>;

export function listRules({ rules, status }: Pick<RuleReloader, 'rules' | 'status'>): RuleList {
  const { loadedAt, faults } = status;
  return { rules: rules.map(toListedRule), loadedAt: loadedAt.toISOString(), faults: [...faults] };
}

function toListedRule({ name, match, layers, changes, pinned }: RuleOptions): ListedRule {
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
      from: describeLayerOrigin(layer),
      ...(layer.platforms && { platforms: [...layer.platforms] }),
    })),
    changes: Object.entries(changes).flatMap(([field, value]) => (value === undefined ? [] : field)),
    pinned,
  };
}

// Where a rule's layer comes from, for display, without possible secrets.

/** Such as `directory ./layers/ca`, or `https://example.com/tool.tar.gz`. Without user info, query and fragment of an address. */
export function describeLayerOrigin(layer: RuleLayer): string {
  switch (layer.kind) {
    case 'directory':
    case 'file':
      return `${layer.kind} ${layer.path}`;
    case 'url':
      return redactAddress(layer.url);
    case 'blob':
      return redactAddress(layer.location);
    case 'image':
      return `image ${layer.image}`;
  }
}

/** Of any scheme; anything but a URL is not shown at all. */
function redactAddress(text: string): string {
  const url = URL.parse(text);
  if (!url) return 'an invalid address';
  const { protocol, host, pathname } = url;
  return `${protocol}//${host}${pathname}`;
}
