// A connection that fails is told with what helps, by the code of the error.
import { expect, test } from 'vitest';
import { connectionFailure } from '../../src/upstream/failure.ts';

const request = {
  upstream: 'lab',
  action: 'app/manifests/1',
  missing: 'MANIFEST_UNKNOWN',
  keys: { url: 'upstreams.lab.url' },
} as const;

test.each([
  ['ENOTFOUND', 'its name does not resolve: check the name of the registry, or upstreams.lab.url'],
  ['EAI_AGAIN', 'its name does not resolve: check the name of the registry, or upstreams.lab.url'],
  [
    'ERR_SSL_WRONG_VERSION_NUMBER',
    'it does not speak TLS there: write upstreams.lab.url with http:// if it is plain HTTP, or correct the port',
  ],
  [
    'EPROTO',
    'it does not speak TLS there: write upstreams.lab.url with http:// if it is plain HTTP, or correct the port',
  ],
  ['DEPTH_ZERO_SELF_SIGNED_CERT', 'its certificate is of a CA that Veneer does not know: set upstreams.lab.tls.ca'],
  ['CERT_HAS_EXPIRED', 'its certificate has expired, and its operator has to renew it'],
  ['ECONNREFUSED', 'check upstreams.lab.url, and whether Veneer can reach it'],
])('%s', (code, remedy) => {
  const failure = connectionFailure(Object.assign(new Error('of the system'), { code }), request);
  expect(failure.message).toBe(`lab: app/manifests/1: connection failed (${code}): ${remedy}`);
});
