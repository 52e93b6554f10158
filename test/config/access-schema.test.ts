// The key `access`. Patterns, users and keys are checked by the room itself.
import { expect, test } from 'vitest';
import { accessSchema } from '../../src/config/access-schema.ts';

const schema = accessSchema({ KEY: 'a key' });
const grant = { repositories: ['local/**'], allow: ['pull'] };

test('nothing is granted by an empty one', () => {
  expect(schema.parse({})).toEqual({ credentialKeys: [], grants: [], tokenTtlMs: 300_000 });
});

test('all is read', () => {
  const grants = [
    { users: ['ada'], ...grant, allow: ['pull', 'push', 'delete'] },
    { anyone: true, ...grant },
  ];
  const value = { htpasswd: './htpasswd', tokenTtl: '1m', signingKey: { env: 'KEY' }, grants };
  expect(schema.parse(value)).toEqual({
    ...{ htpasswd: './htpasswd', tokenTtlMs: 60_000, signingKey: 'a key', grants },
    credentialKeys: [],
  });
});

test('a right to administer is a grant of its own, and one to build needs no push', () => {
  const grants = [
    { users: ['ada'], allow: ['admin'] },
    { users: ['ci'], ...grant, allow: ['pull', 'build'] },
  ];
  expect(schema.parse({ grants }).grants).toEqual([{ ...grants[0], repositories: [] }, grants[1]]);
});

test.each([
  ['a token that is over at once', { tokenTtl: '59s' }, /too small/],
  ['a token that never ends', { tokenTtl: '25h' }, /too large/],
  ['a grant to nobody', { grants: [grant] }, /one of users, groups, networks and anyone/],
  [
    'a grant to users and anyone',
    { grants: [{ users: ['ada'], anyone: true, ...grant }] },
    /one of users, groups, networks and anyone/,
  ],
  ['a grant to not anyone', { grants: [{ anyone: false, ...grant }] }, /expected true/],
  ['a grant of nothing', { grants: [{ anyone: true, ...grant, allow: [] }] }, /allow/],
  ['a grant of an unknown verb', { grants: [{ anyone: true, ...grant, allow: ['administer'] }] }, /pull/],
  [
    'a grant to administer repositories',
    { grants: [{ users: ['ada'], ...grant, allow: ['admin'] }] },
    /separate grant.*\[admin\]/,
  ],
  [
    'one of all',
    { grants: [{ users: ['ada'], repositories: ['**'], allow: ['pull', 'admin'] }] },
    /separate grant.*\[admin\]/,
  ],
  [
    'one without any, with a verb of them',
    { grants: [{ users: ['ada'], allow: ['pull', 'admin'] }] },
    /separate grant/,
  ],
  ['anyone as administrator', { grants: [{ anyone: true, allow: ['admin'] }] }, /cannot be granted to anyone/],
  ['a grant without repositories', { grants: [{ users: ['ada'], allow: ['pull'] }] }, /required/],
  ['a grant for no repository', { grants: [{ anyone: true, ...grant, repositories: [] }] }, /repositories/],
  ['a misspelt grant', { grants: [{ anyone: true, ...grant, repository: 'x' }] }, /repository/],
  ['a key that is not set', { signingKey: { env: 'NONE' } }, /NONE is not set/],
])('%s is a fault', (_, value, message) => {
  expect(() => schema.parse(value)).toThrow(message);
});
