// One state of the rules: its local layers are read, and the others are asked for when the first image needs them.
import { type Augmentation, augmentationSchema } from '../augment/augmentation.ts';
import { InvalidLayer } from '../augment/invalid-layer.ts';
import type { Step } from '../augment/steps.ts';
import { RegistryError } from '../oci/errors.ts';
import { createMatcher, type Matcher } from './match.ts';
import type { RuleLayer, RuleOptions } from './rule.ts';
import type { DescribedLayer, RuledSteps, RuleSet } from './rules.ts';

/** The layers that a layer of a rule stands for. Throws InvalidLayer or RegistryError for one that cannot be had now. */
export type GetLayers = (layer: RuleLayer) => Promise<readonly DescribedLayer[]>;

interface RuleSetDeps {
  readonly rules: readonly RuleOptions[];
  readonly getLayers: GetLayers;
  /** What becomes of attestation entries: rules have no say in it. */
  readonly attestations: Augmentation['attestations'];
}

/** Throws InvalidPattern. */
export function createRuleSet({ rules, getLayers, attestations }: RuleSetDeps): RuleSet {
  const matchers = rules.map((rule): readonly [RuleOptions, Matcher] => [rule, createMatcher(rule.match)]);

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
      const ruled = await Promise.all(applying.map(([rule]) => makeStep(rule)));
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

/** An error that says what is wrong with a layer, and holds no secret. */
export function isExplained(error: unknown): error is InvalidLayer | RegistryError {
  return error instanceof InvalidLayer || error instanceof RegistryError;
}

/** Of an image's layers, each is for a platform of its own: those stay that the rule wants. */
function narrow(described: readonly DescribedLayer[], platforms: RuleLayer['platforms']): readonly DescribedLayer[] {
  if (!platforms) return described;
  return described.flatMap(({ layer, source }) => {
    const own = layer.platforms?.filter(platform => platforms.includes(platform)) ?? platforms;
    return own.length === 0 ? [] : [{ layer: { ...layer, platforms: own }, source }];
  });
}
