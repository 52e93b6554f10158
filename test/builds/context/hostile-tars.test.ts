// Nothing that could reach out of a context, or is too much, gets in.
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { canonical, paxHeader, rawHeader, refusal, type TarPart, tarOf, tarSource } from './fixture.ts';

const plain = await tarOf(
  { name: 'app', type: 'directory', mode: 0o755 },
  { name: 'app/main.js', text: 'main', mode: 0o644 },
  { name: 'run.sh', text: '#!/bin/sh', mode: 0o755 },
);

test.each<{ what: string; parts: readonly TarPart[]; says: RegExp }>([
  { what: 'an absolute name', parts: [{ name: '/etc/passwd', text: '' }], says: /"\/etc\/passwd".*absolute/ },
  { what: 'a name that climbs', parts: [{ name: '../x', text: '' }], says: /"\.\.\/x".*"\.\."/ },
  { what: 'a name that climbs later', parts: [{ name: 'a/../../x', text: '' }], says: /"\.\."/ },
  { what: 'a name that only seems to climb', parts: [{ name: 'a/../b', text: '' }], says: /"\.\."/ },
  { what: 'a NUL in a PAX name', parts: [paxHeader({ path: 'a\0b' }), rawHeader({ name: 'x' })], says: /NUL/ },
  { what: 'a climbing PAX name', parts: [paxHeader({ path: '../b' }), rawHeader({ name: 'x' })], says: /"\.\."/ },
  {
    what: 'a climbing GNU name',
    parts: [rawHeader({ name: 'L', type: 'L', body: '../b\0' }), rawHeader({ name: 'x' })],
    says: /"\.\."/,
  },
  { what: 'a name that is not UTF-8', parts: [rawHeader({ name: Buffer.from([0x61, 0xff, 0xfe]) })], says: /UTF-8/ },
  { what: 'a long part of a name', parts: [{ name: 'n'.repeat(256), text: '' }], says: /255 bytes/ },
  { what: 'a long name', parts: [{ name: 'name/'.repeat(205), text: '' }], says: /1024 bytes/ },
  { what: 'a file without a name', parts: [{ name: './.', text: '' }], says: /without a name/ },
  { what: 'an absolute symlink', parts: [{ name: 'l', type: 'symlink', linkname: '/etc' }], says: /"l".*absolute/ },
  {
    what: 'a symlink that leads out',
    parts: [{ name: 'a/l', type: 'symlink', linkname: '../../x' }],
    says: /leads out/,
  },
  {
    what: 'a symlink to the parent of the context',
    parts: [{ name: 'l', type: 'symlink', linkname: '..' }],
    says: /leads out/,
  },
  {
    what: 'a symlink through another that leads out',
    parts: [
      { name: 'a/s', type: 'symlink', linkname: '..' },
      { name: 'l', type: 'symlink', linkname: 'a/s/../x' },
    ],
    says: /"l".*after the start/,
  },
  { what: 'a symlink to nothing', parts: [rawHeader({ name: 'l', type: '2' })], says: /no target/ },
  {
    what: 'a symlink with bytes',
    parts: [rawHeader({ name: 'l', type: '2', linkname: 'x', body: 'hidden' })],
    says: /is not a file/,
  },
  {
    what: 'a directory with bytes',
    parts: [rawHeader({ name: 'd', type: '5', body: 'hidden' })],
    says: /is not a file/,
  },
  { what: 'a hard link to nothing', parts: [{ name: 'l', type: 'link', linkname: 'x' }], says: /"l".*"x"/ },
  { what: 'a hard link out', parts: [{ name: 'l', type: 'link', linkname: '../x' }], says: /"\.\."/ },
  {
    what: 'a hard link to an absolute name',
    parts: [{ name: 'l', type: 'link', linkname: '/etc/shadow' }],
    says: /absolute/,
  },
  {
    what: 'a hard link to a later file',
    parts: [
      { name: 'l', type: 'link', linkname: 'x' },
      { name: 'x', text: '' },
    ],
    says: /not a file that comes before it/,
  },
  {
    what: 'a hard link to a symlink',
    parts: [
      { name: 's', type: 'symlink', linkname: 'x' },
      { name: 'l', type: 'link', linkname: 's' },
    ],
    says: /not a file that comes before it/,
  },
  {
    what: 'a hard link to a directory',
    parts: [
      { name: 'd', type: 'directory' },
      { name: 'l', type: 'link', linkname: 'd' },
    ],
    says: /not a file that comes before it/,
  },
  {
    what: 'a character device',
    parts: [{ name: 'c', type: 'character-device' }],
    says: /"c": it is a character device/,
  },
  { what: 'a block device', parts: [{ name: 'b', type: 'block-device' }], says: /block device/ },
  { what: 'a fifo', parts: [{ name: 'f', type: 'fifo' }], says: /fifo/ },
  { what: 'a GNU sparse file', parts: [rawHeader({ name: 's', type: 'S' })], says: /unknown type/ },
  {
    what: 'a PAX sparse file',
    parts: [paxHeader({ 'GNU.sparse.major': '1' }), rawHeader({ name: 's' })],
    says: /sparse/,
  },
  { what: 'an unknown type', parts: [rawHeader({ name: 'u', type: 'V' })], says: /"u".*unknown type/ },
  {
    what: 'an entry below a symlink',
    parts: [
      { name: 's', type: 'symlink', linkname: 'd' },
      { name: 's/x', text: '' },
    ],
    says: /"s\/x".*below "s".*symlink/,
  },
  {
    what: 'an entry below a file',
    parts: [
      { name: 'f', text: '' },
      { name: 'f/x', text: '' },
    ],
    says: /"f\/x".*below "f".*file/,
  },
  {
    what: 'a symlink in place of a directory',
    parts: [
      { name: 'd/x', text: '' },
      { name: 'd', type: 'symlink', linkname: 'e' },
    ],
    says: /"d": it is both a directory and something else/,
  },
  {
    what: 'a directory in place of a symlink',
    parts: [
      { name: 'd', type: 'symlink', linkname: 'e' },
      { name: 'd', type: 'directory' },
    ],
    says: /something else/,
  },
])('refuses $what', async ({ parts, says }) => {
  expect(await refusal(tarSource(await tarOf(...parts)))).toMatch(says);
});

test.each([
  { what: 'no bytes', bytes: Buffer.alloc(0), says: /empty/ },
  { what: 'a text', bytes: Buffer.from('no tar at all '.repeat(100)), says: /corrupt or truncated/ },
  { what: 'a packed text', bytes: gzipSync('no tar at all '.repeat(100)), says: /corrupt or truncated/ },
  { what: 'a tar that is cut in a header', bytes: plain.subarray(0, 700), says: /corrupt or truncated/ },
  { what: 'a tar that is cut in a file', bytes: plain.subarray(0, 1024 + 100), says: /corrupt or truncated/ },
  { what: 'a tar that is cut between entries', bytes: plain.subarray(0, 512), says: /does not end with zeros/ },
  { what: 'a tar with a broken header', bytes: flipped(plain, 3), says: /corrupt or truncated/ },
  {
    what: 'a tar with garbage behind',
    bytes: Buffer.concat([plain, Buffer.from('garbage'.repeat(100))]),
    says: /corrupt/,
  },
  { what: 'a truncated gzip', bytes: gzipSync(plain).subarray(0, -4), says: /corrupt or truncated/ },
  { what: 'a corrupt gzip', bytes: flipped(gzipSync(plain), 40), says: /corrupt|truncated/ },
  {
    what: 'garbage behind a gzip',
    bytes: Buffer.concat([gzipSync(plain), Buffer.from('zzzz')]),
    says: /corrupt|follow/,
  },
  { what: 'a truncated zstd', bytes: zstdCompressSync(plain).subarray(0, -4), says: /corrupt or truncated/ },
])('refuses $what', async ({ bytes, says }) => {
  for (const chunkBytes of [1, 100, 1 << 20]) expect(await refusal(tarSource(bytes, chunkBytes))).toMatch(says);
});

test.each([
  {
    limit: 'packed bytes',
    limits: { maxPackedBytes: plain.byteLength - 1 },
    bytes: plain,
    says: /more than \d+ bytes/,
  },
  {
    limit: 'unpacked bytes',
    limits: { maxBytes: 3000 },
    bytes: gzipSync(plain),
    says: /unpacks to more than 3000 bytes/,
  },
  { limit: 'entries', limits: { maxEntries: 2 }, bytes: plain, says: /more than 2 entries/ },
  {
    limit: 'implied directories',
    limits: { maxEntries: 3 },
    bytes: await tarOf({ name: 'a/b/c/d', text: '' }),
    says: /more than 3 entries/,
  },
  { limit: 'depth', limits: { maxDepth: 3 }, bytes: await tarOf({ name: 'a/b/c/d', text: '' }), says: /deeper than 3/ },
  {
    limit: 'the ratio of unpacked to packed bytes',
    limits: { maxRatio: 100, ratioFreeBytes: 64 * 1024 },
    bytes: gzipSync(await tarOf({ name: 'zeros', text: '\0'.repeat(1024 * 1024) })),
    says: /more than 100 times/,
  },
  {
    limit: 'bytes of hard links',
    limits: { maxBytes: 20_000 },
    bytes: await tarOf(
      { name: 'a', text: 'x'.repeat(6_000) },
      ...['b', 'c', 'd'].map(name => ({ name, type: 'link' as const, linkname: 'a' })),
    ),
    says: /its files have more than 20000 bytes/,
  },
])('refuses more than the limit of $limit', async ({ limits, bytes, says }) => {
  expect(await refusal(tarSource(bytes), limits)).toMatch(says);
});

test.each([
  { what: 'an absolute name', files: { '/etc/x': '' }, says: /absolute/ },
  { what: 'a name that climbs', files: { 'a/../../x': '' }, says: /"\.\."/ },
  { what: 'a NUL', files: { 'a\0': '' }, says: /NUL/ },
  { what: 'half a character', files: { '\ud800': '' }, says: /UTF-8/ },
  { what: 'a file below a file', files: { a: '', 'a/b': '' }, says: /below "a"/ },
  { what: 'no name', files: { '': 'x' }, says: /without a name/ },
  { what: 'a slash at the end', files: { 'a/': 'x' }, says: /"a\/"/ },
])('refuses $what in a map of files', async ({ files, says }) => {
  expect(await refusal({ kind: 'files', files })).toMatch(says);
});

test('reads no more of a bomb than its limit, and cancels its sender', async () => {
  let sent = 0;
  let isCancelled = false;
  const zeros = Buffer.alloc(64 * 1024);
  const source = {
    kind: 'tar' as const,
    open: async () =>
      new ReadableStream<Uint8Array>({
        pull(controller) {
          sent += 1;
          controller.enqueue(sent === 1 ? rawHeader({ name: 'endless', size: 8 ** 11 - 1 }) : zeros);
        },
        cancel() {
          isCancelled = true;
        },
      }),
  };
  expect(await refusal(source, { maxBytes: 1024 * 1024 })).toMatch(/1048576 bytes/);
  expect(sent).toBeLessThan(24);
  expect(isCancelled).toBe(true);
});

test('passes on the error of a source that breaks', async () => {
  const broken = new Error('connection reset');
  const open = async () =>
    new ReadableStream<Uint8Array>({
      pull(controller) {
        if (controller.desiredSize === 1) controller.enqueue(plain.subarray(0, 700));
        controller.error(broken);
      },
    });
  await expect(canonical({ kind: 'tar', open })).rejects.toBe(broken);
});

function flipped(bytes: Uint8Array, at: number): Buffer {
  return Buffer.from(bytes.map((byte, index) => (index === at ? byte ^ 0xff : byte)));
}
