// One state of the rules: its local layers are read, and the others are fetched when the first image needs them.
import picomatch from 'picomatch';
import { type Augmentation, augmentationSchema, type Step } from '../augment/augmentation.ts';
import { InvalidLayer } from '../augment/budget.ts';
import { RegistryError } from '../oci/errors.ts';
import { type ImagePattern, parseImagePattern } from '../oci/image-pattern.ts';
import type {
  DescribedLayer,
  RuledSteps,
  RuleLayer,
  RuleMatch,
  RuleOptions,
  RuleSet,
  Subject,
  Verdict,
} from './rules.ts';

/** Resolves a layer of a rule; the result of a success never changes. Throws InvalidLayer or RegistryError if it is unavailable. */
export type GetLayers = (layer: RuleLayer) => Promise<readonly DescribedLayer[]>;

/** Throws InvalidPattern. */
export function createRuleSet({
  rules,
  getLayers,
  attestations,
}: {
  readonly rules: readonly RuleOptions[];
  readonly getLayers: GetLayers;
  /** Attestation entries: rules cannot configure them. */
  readonly attestations: Augmentation['attestations'];
}): RuleSet {
  const matchers = rules.map((rule): readonly [RuleOptions, Matcher] => [rule, createMatcher(rule.match)]);

  /** Of each rule, once all its layers were resolved: within one state they do not change. */
  const steps = new Map<RuleOptions, RuledSteps>();

  async function getStep(rule: RuleOptions): Promise<RuledSteps> {
    const step = steps.get(rule) ?? (await makeStep(rule));
    steps.set(rule, step);
    return step;
  }

  async function makeStep(rule: RuleOptions): Promise<RuledSteps> {
    const found = await Promise.all(rule.layers.map((_, at) => getLayersAt(rule, at)));
    const described = found.flat();
    const layers = described.map(({ layer }) => layer);
    const augmentation = augmentationSchema.parse({ ...rule.changes, layers, attestations });
    const step: Step = { rule: rule.name, platforms: rule.match.platform, augmentation };
    const ruleLayers = rule.layers.flatMap((layer, at) => found[at]?.map(() => layer) ?? []);
    return { steps: [step], layerSources: described.map(({ source }) => source), ruleLayers: [ruleLayers] };
  }

  async function getLayersAt({ name, layers }: RuleOptions, at: number): Promise<readonly DescribedLayer[]> {
    const layer = layers[at];
    if (!layer) return [];
    try {
      return narrow(await getLayers(layer), layer.platforms);
    } catch (cause) {
      if (!isExplained(cause)) throw cause;
      const reason = `the rule "${name}" cannot be applied now: layers[${at}]: ${cause.message}`;
      throw new RegistryError('UNAVAILABLE', reason, { cause });
    }
  }

  return {
    judge: subject => matchers.map(([rule, matcher]) => ({ rule, ...matcher.judge(subject) })),
    async find(subject) {
      const applying = matchers.filter(([, matcher]) => matcher.judge(subject).applies);
      if (applying.length === 0) return undefined;
      const ruled = await Promise.all(applying.map(([rule]) => getStep(rule)));
      return {
        steps: ruled.flatMap(({ steps }) => steps),
        layerSources: ruled.flatMap(({ layerSources }) => layerSources),
        ruleLayers: ruled.flatMap(({ ruleLayers = [] }) => ruleLayers),
      };
    },
    refusesPinned: subject =>
      matchers.flatMap(([rule, matcher]) => (rule.pinned === 'refused' && matcher.mayMatch(subject) ? [rule] : [])),
  };
}

/** An error that says what is wrong with a layer, and contains no secret. */
export function isExplained(error: unknown): error is InvalidLayer | RegistryError {
  return error instanceof InvalidLayer || error instanceof RegistryError;
}

/** The layers of an image are each for one platform: selects those that the rule wants. */
function narrow(described: readonly DescribedLayer[], platforms: RuleLayer['platforms']): readonly DescribedLayer[] {
  if (!platforms) return described;
  return described.flatMap(({ layer, source }) => {
    const own = layer.platforms?.filter(platform => platforms.includes(platform)) ?? platforms;
    return own.length === 0 ? [] : [{ layer: { ...layer, platforms: own }, source }];
  });
}

// Whether a rule matches a pull, and why.

interface Matcher {
  judge(subject: Subject): Omit<Verdict, 'rule'>;
  /** Whether it may match an image pulled by digest: the tag behind it is unknown. */
  mayMatch(subject: Omit<Subject, 'tag'>): boolean;
}

/** The caller's name in rules for anonymous. */
export const ANONYMOUS = 'anonymous';

/** Throws InvalidPattern. */
export function createMatcher({ image, not, caller }: RuleMatch): Matcher {
  const images = image.map(parseImagePattern);
  const excluded = not.map(parseImagePattern);
  const callers = (caller ?? []).map(text => ({ text, matches: createCallerTest(text) }));

  const findCaller = (name = ANONYMOUS) => callers.find(({ matches }) => matches(name));

  function judge({ repository, tag, caller: name }: Subject): Omit<Verdict, 'rule'> {
    const found = images.find(pattern => pattern.matches(repository, tag));
    if (!found) return no(describeMismatch(images, repository, tag));
    const excluding = excluded.find(pattern => pattern.matches(repository, tag));
    if (excluding) return no(`not: ${excluding.text} matches`);
    if (caller === undefined) return yes(`image ${found.text} matches`);
    const known = findCaller(name);
    if (known) return yes(`image ${found.text} and caller ${known.text} match`);
    return no(`no pattern of callers matches ${name ?? ANONYMOUS}`);
  }

  return {
    judge,
    mayMatch: ({ repository, caller: name }) =>
      images.some(pattern => pattern.matchesName(repository)) &&
      !excluded.some(pattern => !pattern.isOfTag && pattern.matchesName(repository)) &&
      (caller === undefined || findCaller(name) !== undefined),
  };
}

/** Names of callers have no components: `*` matches any part of one. */
function createCallerTest(glob: string): (name: string) => boolean {
  return picomatch(glob, { dot: true, nonegate: true, bash: true });
}

function describeMismatch(images: readonly ImagePattern[], repository: string, tag: string | undefined): string {
  const isNamed = images.find(pattern => pattern.matchesName(repository));
  if (isNamed && tag === undefined) return `image ${isNamed.text} matches tags, but a digest was requested`;
  return `no pattern of images matches ${repository}${tag === undefined ? '' : `:${tag}`}`;
}

function yes(reason: string) {
  return { applies: true, reason };
}

function no(reason: string) {
  return { applies: false, reason };
}
