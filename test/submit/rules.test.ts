// What rules make of an image that somebody asks a token for: found for who asks, and kept for as long as the token lives.
import { expect, test } from 'vitest';
import type { Caller } from '../../src/access/access.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import type { Registry } from '../../src/pull/registry.ts';
import { createRuleSet } from '../../src/rules/rule-set.ts';
import type { RuleOptions } from '../../src/rules/rules.ts';
import { createFindRuled, type RequestedImage } from '../../src/submit/rules.ts';

const NOW = Date.UTC(2030, 0, 1);
const HOUR_MS = 3_600_000;

const digest = digestOf(Buffer.from('a layer'));
const layer = { digest, size: 7, diffId: digest, compression: 'none' } as const;
const source = { kind: 'shelf', digest, size: 7 } as const;

interface Asked {
  readonly rule: Partial<RuleOptions>;
  readonly tag?: string | undefined;
  readonly caller?: Caller;
}

async function ask({ rule, tag, caller = { kind: 'anonymous' } }: Asked) {
  const held: { readonly layers: readonly Digest[]; readonly until: Date }[] = [];
  const options: RuleOptions = {
    ...{ name: 'ca', match: { image: ['docker.io/**'], not: [] }, changes: {}, pinned: 'untouched' },
    layers: [{ kind: 'directory', path: 'ca' }],
    ...rule,
  };
  const current = createRuleSet({ rules: [options], attestations: 'drop', getLayers: async () => [{ layer, source }] });
  const findRuled = createFindRuled({
    rules: { current },
    leaseRuleLayers: async (layers, until) => void held.push({ layers, until }),
    now: () => new Date(NOW),
    ttlMs: HOUR_MS,
  });
  const answer = findRuled(caller, { origin: originOf('docker.io'), tag });
  return {
    held,
    ...(await answer.then(
      found => ({ found, message: '' }),
      error => ({ found: undefined, message: error.message }),
    )),
  };
}

function originOf(name: string): RequestedImage['origin'] {
  const unused = () => Promise.reject(new Error('nothing is read'));
  const registry: Registry = {
    ...{ name, scope: undefined, isHosted: false, resolveTag: unused, getManifest: unused, readConfig: unused },
    ...{ headBlob: unused, getBlob: unused, listTags: unused, findReferrers: unused },
  };
  return { registry, repository: 'library/app' };
}

test('has the steps with their layers, which are kept a little longer than the token', async () => {
  const { found, held } = await ask({ rule: {}, tag: '1' });
  expect(found?.ruleSteps.map(({ rule }) => rule)).toEqual(['ca']);
  expect(found?.ruleLayerSources).toEqual([source]);
  expect(held).toEqual([{ layers: [digest], until: new Date(NOW + HOUR_MS + 60_000) }]);
});

test.each<[string, Asked]>([
  ['another image', { rule: { match: { image: ['quay.io/**'], not: [] } }, tag: '1' }],
  ['another tag', { rule: { match: { image: ['docker.io/library/app:2'], not: [] } }, tag: '1' }],
  [
    'another caller',
    { rule: { match: { image: ['**'], not: [], caller: ['ci'] } }, caller: { kind: 'user', name: 'dev' } },
  ],
])('is nothing where the rule is for %s', async (_, asked) => {
  expect(await ask(asked)).toMatchObject({ found: { ruleSteps: [], ruleLayerSources: [] }, held: [] });
});

test('is for the caller by its name', async () => {
  const rule = { match: { image: ['**'], not: [], caller: ['token:*'] } };
  const caller: Caller = { kind: 'access-token', id: '0123456789ab', permissions: [] };
  expect((await ask({ rule, tag: '1', caller })).found?.ruleSteps).toHaveLength(1);
});

test('of an image by its digest is that of rules for all tags, and an error where one for some tags refuses', async () => {
  expect((await ask({ rule: { pinned: 'refused' } })).found?.ruleSteps).toHaveLength(1);
  const match = { image: ['docker.io/library/app:1*'], not: [] };
  expect((await ask({ rule: { match } })).found?.ruleSteps).toEqual([]);
  const { found, message } = await ask({ rule: { match, pinned: 'refused' } });
  expect([found, message]).toEqual([
    undefined,
    expect.stringContaining('the rule ca matches some tags of docker.io/library/app'),
  ]);
});
