// The key `hosted`.
import { expect, test } from 'vitest';
import { hostedSchema } from '../../src/config/hosted-schema.ts';

test('all is read', () => {
  const immutableTags = [{ repositories: ['local/**'], tags: ['v*', 'release'] }];
  const value = {
    prefixes: ['local/', 'team/images/', 'a-b_c/'],
    sparse: 'allow',
    deletes: { blobs: false },
    immutableTags,
    uploadTimeout: '1m',
    maxUploads: 20,
    collect: { every: 'off', grace: '2h', untagged: '7d' },
    retention: [{ repositories: ['local/ci/**'], tags: ['*'], keepNewest: 10, maxAge: '30d' }],
    quotas: [{ repositories: ['local/team/**'], size: '10GiB' }],
  };
  expect(hostedSchema().parse(value)).toEqual({
    prefixes: value.prefixes,
    sparse: 'allow',
    deletes: { tags: true, manifests: true, blobs: false },
    immutableTags,
    uploadTimeoutMs: 60_000,
    maxUploads: 20,
    collect: { everyMs: undefined, graceMs: 7_200_000, untaggedMs: 604_800_000 },
    retention: [{ repositories: ['local/ci/**'], tags: ['*'], keepNewest: 10, maxAgeMs: 2_592_000_000 }],
    quotas: [{ repositories: ['local/team/**'], maxBytes: 10 * 1024 ** 3 }],
  });
});

test('nothing is hosted where no prefix is named', () => {
  expect(hostedSchema().parse({ prefixes: [] }).prefixes).toEqual([]);
});

test.each([
  ['a prefix without its slash', { prefixes: ['local'] }, /ending in a slash/],
  ['a prefix of nothing', { prefixes: [''] }, /ending in a slash/],
  ['a prefix that begins with a slash', { prefixes: ['/local/'] }, /ending in a slash/],
  ['a prefix in upper case', { prefixes: ['Local/'] }, /ending in a slash/],
  ['a prefix that climbs', { prefixes: ['local/../'] }, /ending in a slash/],
  ['the names of tokens', { prefixes: ['wt/'] }, /reserved for tokens/],
  ['names below those of tokens', { prefixes: ['wt/own/'] }, /reserved for tokens/],
  ['the host of a registry', { prefixes: ['quay.io/'] }, /host of a registry/],
  ['a prefix that is too long', { prefixes: [`${'a'.repeat(128)}/`] }, /128/],
  ['a word that means nothing', { sparse: 'maybe' }, /refuse/],
  ['immutable tags of no repository', { immutableTags: [{ repositories: [], tags: ['v*'] }] }, />=1|at least 1/i],
  ['immutable tags of no tag', { immutableTags: [{ repositories: ['**'] }] }, /tags/],
  ['an upload that is over at once', { uploadTimeout: '59s' }, /too small/],
  ['no upload at all', { maxUploads: 0 }, />=1|too small|>0/],
  ['a key that is none', { deletes: { all: true } }, /all/],
])('%s is a fault', (_, value, message) => {
  expect(() => hostedSchema().parse(value)).toThrow(message);
});
