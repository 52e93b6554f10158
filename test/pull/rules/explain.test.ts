// Explanations: each of what it says is what a pull through the same rules does.
import { expect, test } from 'vitest';
import type { Layer } from '../../../src/augment/augmentation.ts';
import { createMemory } from '../../../src/memory.ts';
import { type Digest, digestOf, parseDigest } from '../../../src/oci/digest.ts';
import { RegistryError } from '../../../src/oci/errors.ts';
import { parseManifest } from '../../../src/oci/manifest.ts';
import { parsePlatform } from '../../../src/oci/platform.ts';
import { parseReference } from '../../../src/oci/reference.ts';
import { createAugmentations } from '../../../src/pull/derived-images.ts';
import type { Registry } from '../../../src/pull/registry.ts';
import { createExplain, type ExplainOptions } from '../../../src/pull/rules/explain.ts';
import type { DerivationRecord } from '../../../src/rules/derived-digests.ts';
import { type Explanation, explanationSchema } from '../../../src/rules/explanation.ts';
import { createRuleSet } from '../../../src/rules/rule-set.ts';
import type { DescribedLayer, RuleLayer, RuleOptions } from '../../../src/rules/rules.ts';
import { type GeneratedImage, generateImage, type ImageOptions } from '../../support/images.ts';
import { placingAsGiven } from '../../support/placing.ts';

const memory = createMemory();

const NAME = 'quay.io/org/app';
const PLATFORMS = ['linux/amd64', 'linux/arm64', 'windows/amd64'];

test('tells each rule with its reason, in their order', async () => {
  const fixture = createFixture({
    rules: [
      ruleOf('ca', { match: { image: ['quay.io/**'], not: [], platform: ['linux/*'] } }),
      ruleOf('other', { match: { image: ['docker.io/**'], not: [] } }),
      ruleOf('spared', { match: { image: ['**'], not: ['quay.io/org/*'] } }),
      ruleOf('theirs', { match: { image: ['**'], not: [], caller: ['ops-*'] } }),
    ],
  });
  const { rules, caller, image } = await fixture.explain(`${NAME}:1`, { caller: 'ada' });
  expect([image, caller]).toEqual([`${NAME}:1`, 'ada']);
  expect(rules).toEqual([
    { name: 'ca', applies: true, reason: 'image quay.io/** matches', platforms: ['linux/*'] },
    { name: 'other', applies: false, reason: `no pattern of images matches ${NAME}:1` },
    { name: 'spared', applies: false, reason: 'not: quay.io/org/* matches' },
    { name: 'theirs', applies: false, reason: 'no pattern of callers matches ada' },
  ]);
});

test('tells what becomes of each platform: rules, digests, layers and what is different', async () => {
  const fixture = createFixture({
    rules: [
      ruleOf('ca', {
        match: { image: ['**'], not: [], platform: ['linux/*'] },
        layers: [
          { kind: 'directory', path: './layers/ca' },
          { kind: 'url', url: 'https://files.example/tool.tar?key=secret#part', platforms: ['linux/arm64'] },
        ],
        changes: { env: { CERT: '/ca.pem', LANG: 'de' } },
      }),
      ruleOf('audit', { changes: { labels: { audit: '2026' }, annotations: { note: 'yes' }, cmd: ['run'] } }),
    ],
  });
  const { platforms, sourceDigest, digest, outcome, reason } = await fixture.explain(`${NAME}:1`);
  expect([outcome, reason, sourceDigest]).toEqual(['changed', 'changed by ca, audit', fixture.image.root.digest]);
  expect(digest).toBe(await fixture.pull('1'));
  expect(platforms.map(each => [each.platform, each.rules, each.layers.map(({ rule, from }) => [rule, from])])).toEqual(
    [
      ['linux/amd64', ['ca', 'audit'], [['ca', 'directory ./layers/ca']]],
      [
        'linux/arm64',
        ['ca', 'audit'],
        [
          ['ca', 'directory ./layers/ca'],
          ['ca', 'https://files.example/tool.tar'],
        ],
      ],
      ['windows/amd64', ['audit'], []],
    ],
  );
  for (const each of platforms) expect(each.digest).not.toBe(each.sourceDigest);
  const [amd64, , windows] = platforms;
  const base = [
    { field: 'annotations', key: 'org.opencontainers.image.base.digest', after: amd64?.sourceDigest },
    { field: 'annotations', key: 'note', after: 'yes' },
  ];
  expect(amd64?.layers[0]).toMatchObject({ digest: digestOf(Buffer.from('directory ./layers/ca')), size: 512 });
  expect(amd64?.differences).toEqual([
    { field: 'env', key: 'LANG', before: 'C', after: 'de' },
    { field: 'env', key: 'CERT', after: '/ca.pem' },
    { field: 'cmd', before: ['sh'], after: ['run'] },
    { field: 'labels', key: 'audit', after: '2026' },
    ...base,
  ]);
  expect(windows?.differences.map(({ field }) => field)).not.toContain('env');
});

test('tells of one layer of two rules which of them is of which', async () => {
  const layers: readonly RuleLayer[] = [{ kind: 'file', path: 'a.tar' }];
  const fixture = createFixture({ rules: [ruleOf('one', { layers }), ruleOf('two', { layers })] });
  const { platforms } = await fixture.explain(`${NAME}:1`);
  expect(platforms[0]?.layers.map(({ rule }) => rule)).toEqual(['one', 'two']);
});

test('says that nothing matches, and that the image stays as it is', async () => {
  const fixture = createFixture({ rules: [ruleOf('other', { match: { image: ['docker.io/**'], not: [] } })] });
  const { outcome, reason, sourceDigest, digest, platforms } = await fixture.explain(`${NAME}:1`);
  expect([outcome, reason, digest]).toEqual(['unchanged', 'no rule matches it', sourceDigest]);
  expect(platforms.map(each => each.platform)).toEqual(PLATFORMS);
  for (const each of platforms)
    expect(each).toMatchObject({ digest: each.sourceDigest, rules: [], differences: [], layers: [] });
});

test('says that rules for other platforms change nothing', async () => {
  const fixture = createFixture({
    rules: [ruleOf('mac', { match: { image: ['**'], not: [], platform: ['darwin/*'] } })],
  });
  const { outcome, reason, digest, sourceDigest } = await fixture.explain(`${NAME}:1`);
  expect([outcome, reason, digest]).toEqual(['unchanged', 'none of its platforms is changed by mac', sourceDigest]);
});

test.each([
  ['of what rules change', '**'],
  ['of what they leave alone', 'docker.io/**'],
])('tells one platform alone, %s', async (_, glob) => {
  const fixture = createFixture({ rules: [ruleOf('ca', { match: { image: [glob], not: [] } })] });
  const { platforms } = await fixture.explain(`${NAME}:1`, { platform: parsePlatform('aarch64') });
  expect(platforms.map(({ platform }) => platform)).toEqual(['linux/arm64']);
  const missing = fixture.explain(`${NAME}:1`, { platform: parsePlatform('linux/s390x') });
  await expect(missing).rejects.toThrow('no image for linux/s390x; there is linux/amd64, linux/arm64, windows/amd64');
});

test('tells an image without an index', async () => {
  const fixture = createFixture({ rules: [ruleOf('ca')], image: { index: false } });
  const { platforms, digest } = await fixture.explain(`${NAME}:1`);
  expect(platforms.map(({ platform, digest: own }) => [platform, own])).toEqual([['linux/amd64', digest]]);
});

test('says of an artifact that rules leave it as it is', async () => {
  const fixture = createFixture({ rules: [ruleOf('ca', { pinned: 'refused' })] });
  const artifact = fixture.putArtifact('sha256-x.sig');
  for (const reference of [`${NAME}:sha256-x.sig`, `${NAME}@${artifact}`]) {
    expect(await fixture.explain(reference)).toMatchObject({
      ...{ outcome: 'unchanged', digest: artifact, platforms: [] },
      reason: 'it is not an image: rules do not change artifacts',
    });
  }
});

test("says of the upstream's digest that it is served as it is", async () => {
  const fixture = createFixture({ rules: [ruleOf('ca')] });
  const { digest } = fixture.image.root;
  const told = await fixture.explain(`${NAME}:1@${digest}`);
  expect(told).toMatchObject({ image: `${NAME}@${digest}`, outcome: 'unchanged', pinned: 'upstream', digest });
  expect(told.reason).toBe("it is requested by the upstream's digest, and served unchanged");
});

test("says of the upstream's digest that a rule refuses it", async () => {
  const fixture = createFixture({ rules: [ruleOf('ca', { pinned: 'refused' })] });
  const { digest } = fixture.image.root;
  const told = await fixture.explain(`${NAME}@${digest}`);
  expect(told).toMatchObject({ outcome: 'refused', pinned: 'upstream', sourceDigest: digest, platforms: [] });
  expect([told.reason, told.digest]).toEqual([expect.stringContaining('the rule ca changes'), undefined]);
});

test('tells a digest that rules made by what made it, whatever the rules say now', async () => {
  const before = createFixture({ rules: [ruleOf('ca')] });
  const root = await before.pull('1');
  const derivation = await before.derivationOf('1');
  const fixture = createFixture({ rules: [], derivation });
  const told = await fixture.explain(`${NAME}@${root}`);
  expect(told).toMatchObject({
    outcome: 'changed',
    pinned: 'made',
    sourceDigest: fixture.image.root.digest,
    digest: root,
  });
  expect(told.reason).toBe(`derived from ${NAME}:1 by ca, and does not change any more`);
  const [, arm64] = told.platforms;
  const alone = await fixture.explain(`${NAME}@${arm64?.digest}`);
  expect(alone).toMatchObject({ digest: arm64?.digest, sourceDigest: arm64?.sourceDigest, platforms: [arm64] });
});

test('tells a digest that rules left as it was, whatever they say now', async () => {
  const match = { image: ['**'], not: [], platform: ['linux/*'] };
  const before = createFixture({ rules: [ruleOf('ca', { match })] });
  const windows = (await before.explain(`${NAME}:1`)).platforms[2];
  const digest = parseDigest(windows?.digest ?? '');
  const fixture = createFixture({
    rules: [ruleOf('ca', { pinned: 'refused' })],
    derivation: { ...(await before.derivationOf('1')), kept: [digest] },
  });
  expect(await fixture.explain(`${NAME}@${digest}`)).toMatchObject({
    ...{ outcome: 'unchanged', pinned: 'upstream', digest, platforms: [{ platform: 'windows/amd64', digest }] },
    reason: `${NAME}:1 resolved to it, and no rule changed it`,
  });
});

test('tells why rules cannot be applied, where a pull fails', async () => {
  const fixture = createFixture({ rules: [ruleOf('ca', { layers: [{ kind: 'image', image: 'gone' }] })] });
  expect(await fixture.explain(`${NAME}:1`)).toMatchObject({
    ...{ outcome: 'failed', sourceDigest: fixture.image.root.digest, platforms: [] },
    reason: 'the rule "ca" cannot be applied now: layers[0]: gone is away',
  });
});

test('throws for an image that is not there', async () => {
  const fixture = createFixture({ rules: [ruleOf('ca')] });
  await expect(fixture.explain(`${NAME}:9`)).rejects.toThrow('no tag 9');
});

interface FixtureOptions {
  readonly rules: readonly RuleOptions[];
  readonly image?: Partial<ImageOptions>;
  /** The one record of what rules made. */
  readonly derivation?: DerivationRecord;
}

/** A registry with one image as the tag 1, and rules before it. */
function createFixture({ rules, image: options, derivation }: FixtureOptions) {
  const image = generateImage({ seed: 1, platforms: PLATFORMS, layers: 1, family: 'oci', ...options });
  const content = new Map(image.content);
  const tags = new Map<string, Digest>([['1', image.root.digest]]);
  const origin = { registry: createRegistry(content, tags), repository: 'org/app' };
  const augmentations = createAugmentations({ memory, placing: placingAsGiven });
  const state = createRuleSet({ rules, getLayers, attestations: 'drop' });
  const explain = createExplain({
    origins: { locate: () => origin },
    rules: { current: state },
    derivedDigests: { find: async () => derivation },
    augmentations,
  });

  async function apply(tag: string) {
    const ruled = await state.find({ repository: NAME, tag, caller: undefined });
    const sourceDigest = tags.get(tag);
    if (!ruled || !sourceDigest) throw new Error('no rule matches it');
    const sourceName = `${NAME}:${tag}`;
    const { steps, layerSources } = ruled;
    const { root } = await augmentations.get({ origin, sourceName, sourceDigest, steps, layerSources });
    return { ...ruled, sourceName, sourceDigest, root: root.digest };
  }

  return {
    image,
    /** Checked against what the API promises. */
    async explain(reference: string, options?: ExplainOptions): Promise<Explanation> {
      const told = await explain(parseReference(reference), options);
      expect(explanationSchema.strict().parse(told)).toEqual(told);
      return told;
    },
    /** What a pull through the rules gets. */
    pull: async (tag: string) => (await apply(tag)).root,
    async derivationOf(tag: string): Promise<DerivationRecord> {
      const { ruleLayers: _, ...derivation } = await apply(tag);
      return { registry: 'quay.io', repository: 'org/app', ...derivation };
    },
    putArtifact(tag: string): Digest {
      const mediaType = 'application/vnd.oci.image.manifest.v1+json';
      const config = { mediaType: 'application/vnd.oci.empty.v1+json', digest: digestOf(Buffer.from('{}')), size: 2 };
      const raw = Buffer.from(
        JSON.stringify({ schemaVersion: 2, mediaType, artifactType: 'text/x', config, layers: [config] }),
      );
      const digest = digestOf(raw);
      content.set(digest, { mediaType, raw });
      tags.set(tag, digest);
      return digest;
    },
  };
}

function createRegistry(content: GeneratedImage['content'], tags: ReadonlyMap<string, Digest>): Registry {
  const read = (digest: Digest) => {
    const found = content.get(digest);
    if (!found) throw new RegistryError('MANIFEST_UNKNOWN', `no ${digest}`);
    return found;
  };
  const unused = () => {
    throw new Error('an explanation needs no more than documents');
  };
  return {
    ...{ name: 'quay.io', scope: undefined, isHosted: false },
    async resolveTag(_, tag) {
      const digest = tags.get(tag);
      if (!digest) throw new RegistryError('MANIFEST_UNKNOWN', `no tag ${tag}`);
      return digest;
    },
    async getManifest(_, digest) {
      const { raw, mediaType } = read(digest);
      return parseManifest(raw, mediaType, digest);
    },
    readConfig: async (_, { digest }) => read(digest).raw,
    ...{ headBlob: unused, getBlob: unused, listTags: unused, findReferrers: unused },
  };
}

function ruleOf(name: string, options: Partial<RuleOptions> = {}): RuleOptions {
  const match = { image: ['**'], not: [] };
  return {
    name,
    match,
    layers: [],
    changes: { env: { [name.toUpperCase()]: 'yes' } },
    pinned: 'untouched',
    ...options,
  };
}

async function getLayers(layer: RuleLayer): Promise<readonly DescribedLayer[]> {
  if (layer.kind === 'image') throw new RegistryError('UNAVAILABLE', `${layer.image} is away`);
  const { kind, platforms } = layer;
  const place = kind === 'url' ? layer.url : kind === 'blob' ? layer.location : `${kind} ${layer.path}`;
  const digest = digestOf(Buffer.from(place));
  const described: Layer = { digest, size: 512, diffId: digest, compression: 'none', ...(platforms && { platforms }) };
  return [{ layer: described, source: { kind: 'stored', digest, size: 512 } }];
}
