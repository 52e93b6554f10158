// Which locations of a layer are taken, and that refusals give nothing away.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { InvalidLayer } from '../../src/augment/budget.ts';
import { parseLocation } from '../../src/augment/location.ts';
import { digestOf } from '../../src/oci/digest.ts';

const bytes = new Uint8Array([0xfb, 0xff, 0xfe, 0x01]);
const base64 = '+//+AQ==';
const digest = digestOf(bytes);

test.each([
  `data:${base64}`,
  `data:;base64,${base64}`,
  `data:application/vnd.oci.image.layer.v1.tar+gzip;base64,${base64}`,
  `DATA:application/gzip;name=a.tar;base64,${base64}`,
  'data:+//+AQ',
  'data:+//+\nAQ==\n',
  'data:;base64,+//\r\n+AQ=\r\n=\r\n',
])('takes the bytes of %s', text => {
  const location = parseLocation(text);
  expect(location.kind === 'data' && [...location.read()]).toEqual([...bytes]);
});

test.each(['http://example.com/a.tar.gz', 'https://example.com:8443/a?sig=x%2Fy', 'HTTPS://EXAMPLE.com/@scope/a'])(
  'takes the URL %s',
  text => expect(parseLocation(text)).toEqual({ kind: 'url', url: new URL(text) }),
);

test.each([
  { text: `docker://quay.io/v2/org/app/blobs/${digest}`, registry: 'quay.io', repository: 'org/app' },
  { text: `docker://LOCALHOST:5000/v2/blobs/blobs/${digest}`, registry: 'localhost:5000', repository: 'blobs' },
  { text: `oci://ghcr.io/org/app@${digest}`, registry: 'ghcr.io', repository: 'org/app' },
  { text: `oci://lab/app@${digest}`, registry: 'lab', repository: 'app' },
  { text: `docker://My-Lab/v2/org/app/blobs/${digest}`, registry: 'my-lab', repository: 'org/app' },
])('takes the blob $text', ({ text, registry, repository }) => {
  expect(parseLocation(text)).toEqual({ kind: 'blob', registry, repository, digest });
});

test.each([
  '',
  'AAAA',
  '/etc/passwd',
  'file:///etc/passwd',
  'ftp://example.com/a',
  'data:',
  'data:;base64,',
  'data:text/plain,AAAA',
  'data:A',
  'data:AA=A',
  'data:AB==',
  'data:-_-_',
  'data:AA AA',
  'data:base64,AAAA',
  'http:example.com',
  'http:///',
  'https://user@example.com/',
  'https://user:secret@example.com/',
  'https://@example.com/',
  'https://exa\nmple.com/',
  ' https://example.com/',
  'https://example.com:99999/',
  `https://example.com/${'a'.repeat(9000)}`,
  `docker://quay.io/org/app/blobs/${digest}`,
  `docker://user:secret@quay.io/v2/app/blobs/${digest}`,
  'docker://quay.io/v2/app/blobs/sha256:00',
  `docker://quay.io/v2/../app/blobs/${digest}`,
  `docker://quay.io/v2/app/blobs/${digest}?secret`,
  `oci://quay.io/app:1@${digest}`,
  `oci://quay.io/app`,
  `oci://app@${digest}`,
  `oci://user@quay.io/app@${digest}`,
  `oci://../app@${digest}`,
  `oci://-lab/app@${digest}`,
])('refuses %j', text => {
  expect(() => parseLocation(text)).toThrow(InvalidLayer);
});

test('names the allowed schemes, and neither secret nor query', () => {
  expect(() => parseLocation('file:///etc/passwd')).toThrow(/"file:".*data:.*http:.*https:.*docker:.*oci:/);
  for (const scheme of ['s3', 'http', 'docker', 'oci', 'data']) {
    expect(messageOf(`${scheme}://user:secret@host/a@b?sig=secret`)).not.toContain('secret');
  }
});

test('throws InvalidLayer alone, with a short message, whatever the text', () => {
  const scheme = fc.constantFrom('', 'data:', 'data:;base64,', 'http://', 'https://', 'docker://', 'oci://', 'file://');
  const part = fc.oneof(fc.string(), fc.constantFrom('quay.io', '/v2/', '/blobs/', '@', digest, '?'));
  const text = fc.tuple(scheme, fc.array(part, { maxLength: 6 })).map(([start, parts]) => start + parts.join(''));
  fc.assert(fc.property(text, given => messageOf(given).length < 200));
});

test('takes any bytes as data', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1 }), given => {
      const location = parseLocation(`data:${Buffer.from(given).toString('base64')}`);
      return location.kind === 'data' && Buffer.compare(location.read(), given) === 0;
    }),
  );
});

/** Empty when the text is taken. */
function messageOf(text: string): string {
  try {
    parseLocation(text);
    return '';
  } catch (error) {
    if (error instanceof InvalidLayer) return error.message;
    throw error;
  }
}
