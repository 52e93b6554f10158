// Which token realms an upstream may send us to.
import { expect, test } from 'vitest';
import { parseRealm } from '../../src/upstream/auth/token-server.ts';

const attempt = { upstream: 'x', action: 'token request', missing: 'UNAUTHORIZED' } as const;

test.each([
  ['https://auth.docker.io/token', 'https://registry-1.docker.io', true],
  ['https://registry.example/token', 'https://registry.example', true],
  ['https://registry.example:5001/token', 'https://registry.example:5000', true],
  ['https://registry.example./token', 'https://registry.example', true],
  ['https://auth.trusted.example/token', 'https://registry-1.docker.io', true],
  ['https://auth.trusted.example:8443/token', 'https://registry-1.docker.io', false],
  ['http://auth.trusted.example/token', 'https://registry-1.docker.io', false],
  ['http://auth.docker.io/token', 'https://registry-1.docker.io', false],
  ['https://docker.io.evil.example/token', 'https://registry-1.docker.io', false],
  ['https://b.azurecr.io/token', 'https://a.azurecr.io', false],
  ['https://a.azurecr.io/token', 'https://a.azurecr.io', true],
  ['https://2.dkr.ecr.us-east-1.amazonaws.com/x', 'https://1.dkr.ecr.us-east-1.amazonaws.com', false],
  ['https://b.jfrog.io/token', 'https://a.jfrog.io', false],
  ['https://auth.good.github.io/token', 'https://registry.good.github.io', true],
  ['https://evil.github.io/token', 'https://good.github.io', false],
  ['https://b.co.uk/token', 'https://a.co.uk', false],
  ['https://b.internal/token', 'https://a.internal', false],
  ['https://10.0.0.2/token', 'https://10.0.0.1', false],
  ['file:///token', 'https://a.example', false],
  ['', 'https://a.example', false],
])('whether the realm %s fits %s is %s', async (realm, url, fits) => {
  const rules = { url: new URL(url), tokenRealms: ['auth.trusted.example'] };
  const parsed = parseRealm(realm, rules, attempt);
  if (fits) expect((await parsed).href).toBe(realm);
  else await expect(parsed).rejects.toThrow(expect.objectContaining({ status: 502 }));
});

test('a realm loses its user name and password', async () => {
  const rules = { url: new URL('https://a.example'), tokenRealms: [] };
  const { href } = await parseRealm('https://me:canary@a.example/token', rules, attempt);
  expect(href).toBe('https://a.example/token');
});
