// Scopes: the grammar of the token specification, and its limits.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatScope, parseScopes } from '../../src/access/right.ts';
import { RegistryError } from '../../src/oci/errors.ts';

test.each([
  ['one', ['repository:local/app:pull'], ['repository:local/app:pull']],
  ['verbs in their order', ['repository:local/app:delete,push,pull'], ['repository:local/app:pull,push,delete']],
  ['all verbs', ['repository:local/app:*'], ['repository:local/app:pull,push,delete']],
  ['an unknown action', ['repository:local/app:pull,fly'], ['repository:local/app:pull']],
  ['no action', ['repository:local/app:'], ['repository:local/app:']],
  ['a class', ['repository(plugin):local/app:pull'], ['repository:local/app:pull']],
  ['a host with a port', ['repository:localhost:5000/app:pull'], ['repository:localhost:5000/app:pull']],
  ['an IPv6 host', ['repository:[::1]:5000/app:pull'], ['repository:[::1]:5000/app:pull']],
  ['several in one', ['repository:a:pull repository:b:push'], ['repository:a:pull', 'repository:b:push']],
  ['several parameters', ['repository:a:pull', 'repository:b:push'], ['repository:a:pull', 'repository:b:push']],
  [
    'one repository twice',
    ['repository:a:pull', 'repository:b:pull', 'repository:a:push'],
    ['repository:a:pull,push', 'repository:b:pull'],
  ],
  ['other kinds of resources', ['registry:catalog:*', 'repository:a:pull'], ['repository:a:pull']],
  ['nothing', ['', '  '], []],
  [
    'twenty',
    Array.from({ length: 20 }, (_, i) => `repository:a${i}:pull`),
    Array.from({ length: 20 }, (_, i) => `repository:a${i}:pull`),
  ],
])('takes %s', (_name, lists, expected) => {
  expect(parseScopes(lists).map(formatScope)).toEqual(expected);
});

test.each([
  ['no type', 'local/app:pull', 'UNSUPPORTED'],
  ['no actions', 'repository:local/app', 'UNSUPPORTED'],
  ['a port for actions', 'repository:localhost:5000/app', 'UNSUPPORTED'],
  ['upper-case actions', 'repository:local/app:PULL', 'UNSUPPORTED'],
  ['a tab', 'repository:local/app:pull\trepository:b:pull', 'UNSUPPORTED'],
  ['no name', 'repository::pull', 'UNSUPPORTED'],
  ['an upper-case name', 'repository:local/App:pull', 'NAME_INVALID'],
  ['a name with a way up', 'repository:local/../app:pull', 'NAME_INVALID'],
  ['a name with a pattern', 'repository:local/**:pull', 'NAME_INVALID'],
  ['a name with a tag', 'repository:app:1:pull', 'NAME_INVALID'],
  ['more than twenty', 'repository:a:pull '.repeat(21), 'UNSUPPORTED'],
  [
    'more than 4096 characters',
    Array.from({ length: 20 }, (_, i) => `repository:${`${i}`.padStart(210, 'a')}:pull`).join(' '),
    'UNSUPPORTED',
  ],
])('refuses %s', (_name, list, code) => {
  expect(() => parseScopes([list])).toThrow(expect.objectContaining({ code, status: 400 }));
});

describe('any text', () => {
  test('gives scopes within the limits, or a RegistryError', () => {
    const part = fc.constantFrom(
      'repository',
      'registry',
      ':',
      ':',
      '/',
      ' ',
      ',',
      'pull',
      'push',
      '*',
      'a',
      'localhost:5000',
      '..',
      '(b)',
      '\n',
      'Ä',
    );
    const list = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.array(part, { maxLength: 30 }).map(parts => parts.join('')),
    );
    fc.assert(
      fc.property(fc.array(list, { maxLength: 3 }), lists => {
        try {
          const scopes = parseScopes(lists);
          expect(scopes.length).toBeLessThanOrEqual(20);
          expect(parseScopes(scopes.map(formatScope))).toEqual(scopes);
        } catch (error) {
          if (!(error instanceof RegistryError)) throw error;
          expect(error.status).toBe(400);
        }
      }),
      { numRuns: 3000 },
    );
  });
});
