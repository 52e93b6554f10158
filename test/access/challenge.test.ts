// What a 401 tells a client, and that it cannot be made to tell more.
import { expect, test } from 'vitest';
import { formatChallenge } from '../../src/access/authorization.ts';

const realm = 'https://registry.example/token';

test.each([
  ['no scope', { realm }, 'Bearer realm="https://registry.example/token",service="veneer"'],
  [
    'a scope and an error',
    { realm, scope: 'repository:local/app:pull,push', error: 'insufficient_scope' as const },
    'Bearer realm="https://registry.example/token",service="veneer",scope="repository:local/app:pull,push",error="insufficient_scope"',
  ],
  [
    'a host with quotes',
    { realm: 'http://a",x="\\/token' },
    'Bearer realm="http://a\\",x=\\"\\\\/token",service="veneer"',
  ],
])('%s', (_name, challenge, header) => {
  expect(formatChallenge(challenge)).toBe(header);
});
