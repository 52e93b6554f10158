// Where a rule has a layer from, without what may be a secret.
import { expect, test } from 'vitest';
import { describeLayerOrigin, listRules } from '../../src/rules/explanation.ts';
import type { RuleLayer } from '../../src/rules/rules.ts';

const cases: readonly (readonly [RuleLayer, string])[] = [
  [{ kind: 'directory', path: './layers/ca' }, 'directory ./layers/ca'],
  [{ kind: 'file', path: '/a?b#c@d.tar' }, 'file /a?b#c@d.tar'],
  [{ kind: 'image', image: 'quay.io/org/tools:1' }, 'image quay.io/org/tools:1'],
  [
    { kind: 'url', url: 'https://user:canary@files.example:8443/a/b.tar?key=canary#canary' },
    'https://files.example:8443/a/b.tar',
  ],
  [{ kind: 'blob', location: 'oci://user:canary@quay.io/org/app@sha256:ab?canary' }, 'oci://quay.io/org/app@sha256:ab'],
  [{ kind: 'url', url: 'canary' }, 'an invalid address'],
];

test.each(cases)('%o is reported as %s', (layer, told) => {
  expect(describeLayerOrigin(layer)).toBe(told);
});

test('rules that are not active are told by their faults', () => {
  const status = { loadedAt: new Date(0), faults: ['rules[0]: no such directory'] };
  expect(listRules({ rules: [], status })).toEqual({
    rules: [],
    loadedAt: '1970-01-01T00:00:00.000Z',
    faults: ['rules[0]: no such directory'],
  });
});
