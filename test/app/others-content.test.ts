// Others' content stays others': whatever upstreams claim, cut and lie about, in whatever order it is asked for, all that a caller gets was
// sent to Veneer for that caller: by that upstream, for that repository and those credentials.
import type { IncomingMessage, ServerResponse } from 'node:http';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Digest, digestOf, parseDigest } from '../../src/oci/digest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { startApp, type TestApp } from '../support/app.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';

const REPOSITORIES = ['team/a', 'team/b'] as const;
/** What a client shows; only `corp` gets to see it. */
const CALLERS = { alice: basic('alice'), bob: basic('bob'), nobody: undefined };
/** `own` and `evil` are open to anyone who may pull. */
const UPSTREAMS = ['corp', 'own', 'evil'] as const;

/** Bytes without a zero, which lies are made of. */
const blobs = [50, 3000, 300_000].map((size, seed) =>
  Buffer.from(Array.from({ length: size }, (_, i) => 1 + ((i * 31 + seed) % 251))),
);
const [config = Buffer.of(), ...layers] = blobs;
const manifest = Buffer.from(
  JSON.stringify({
    schemaVersion: 2,
    mediaType: mediaTypes.ociManifest,
    config: { mediaType: mediaTypes.ociConfig, digest: digestOf(config), size: config.length },
    layers: layers.map(layer => ({
      mediaType: 'application/vnd.oci.image.layer.v1.tar',
      digest: digestOf(layer),
      size: layer.length,
    })),
  }),
);
const contents = new Map([...blobs, manifest].map(raw => [digestOf(raw), raw]));
const MANIFEST = digestOf(manifest);

/** How an upstream answers for one repository, caller and digest. All but `refuses` say in a HEAD that it is there. */
const MOODS = ['sends', 'refuses', 'sendsFive', 'sendsWrong', 'cuts', 'cutsOnce', 'cutsAndLies'] as const;
type Mood = (typeof MOODS)[number];

const request = fc.record({
  upstream: fc.constantFrom(...UPSTREAMS),
  repository: fc.constantFrom(...REPOSITORIES),
  caller: fc.constantFrom('alice', 'bob', 'nobody' as const),
  what: fc.constantFrom('blob', 'head', 'part', 'end', 'manifest', 'tag', 'referrers' as const),
  digest: fc.constantFrom(...contents.keys()),
  mood: fc.oneof({ weight: 2, arbitrary: fc.constant('sends' as const) }, fc.constantFrom(...MOODS)),
});
type Asked = typeof request extends fc.Arbitrary<infer T> ? T : never;
const step = fc.oneof(
  { weight: 12, arbitrary: fc.array(request, { minLength: 1, maxLength: 4 }) },
  { weight: 1, arbitrary: fc.constantFrom('later', 'restart' as const) },
);

let app: TestApp;
let registries: ReadonlyMap<string, TestRegistry>;
let nowMs = Date.UTC(2030, 0, 1);
/** By upstream, repository, caller and digest. */
let moods: Map<string, Mood>;
/** The true bytes that were sent, one flag for each. */
let sent: Map<string, Uint8Array>;
let claimed: Set<string>;

beforeEach(async () => {
  const opened = await Promise.all(UPSTREAMS.map(async name => [name, await startRegistry()] as const));
  for (const [name, registry] of opened) registry.intercept((request, response) => answer(name, request, response));
  registries = new Map(opened);
});

afterEach(async () => {
  for (const registry of registries.values()) await registry.close();
});

test('what a caller gets was sent, whole, to Veneer under that caller’s own right', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 10, size: 'max' }), async steps => {
      [moods, sent, claimed] = [new Map(), new Map(), new Set()];
      app = await startApp({ now: () => new Date(nowMs), config: configuration() });
      try {
        for (const each of steps) {
          if (each === 'later') nowMs += 6 * 60_000;
          else if (each === 'restart') await app.restart();
          else await askAll(each);
        }
      } finally {
        await app.close();
      }
    }),
    { numRuns: 25 },
  );
});

function configuration() {
  const entry = (name: string) => ({ url: registries.get(name)?.url, breaker: { failures: 1000 } });
  return {
    upstreams: { corp: { ...entry('corp'), passCredentials: true }, own: entry('own'), evil: entry('evil') },
    cache: { negative: '0s' },
  };
}

async function askAll(requests: readonly Asked[]): Promise<void> {
  for (const each of requests) moods.set(keyOf(each, subjectOf(each)), each.mood);
  await Promise.all(requests.map(ask));
}

function subjectOf({ what, digest }: Asked): Digest {
  return what === 'tag' || what === 'manifest' ? MANIFEST : digest;
}

/** Whose content it is: of an upstream that sees no credentials, everybody's who may pull. */
function keyOf(
  { upstream, repository, caller }: Pick<Asked, 'upstream' | 'repository' | 'caller'>,
  digest: string,
): string {
  return `${upstream}/${repository} ${upstream === 'corp' ? caller : 'anyone'} ${digest}`;
}

async function ask(asked: Asked): Promise<void> {
  const { upstream, repository, caller, what } = asked;
  const digest = subjectOf(asked);
  const authorization = CALLERS[caller];
  const size = contents.get(digest)?.length ?? 0;
  const ranges: Readonly<Record<string, string>> = { part: 'bytes=10-29', end: `bytes=${size - 20}-` };
  const range = ranges[what];
  const kinds: Readonly<Record<string, string>> = { manifest: 'manifests', tag: 'manifests', referrers: 'referrers' };
  const response = await app.request(
    `/v2/${upstream}/${repository}/${kinds[what] ?? 'blobs'}/${what === 'tag' ? '1' : digest}`,
    {
      method: what === 'head' ? 'HEAD' : 'GET',
      headers: { ...(authorization && { authorization }), ...(range && { Range: range }) },
    },
  );
  const key = keyOf(asked, digest);
  const body = await readAsFarAsItGoes(response);
  if (!response.ok) return;
  if (what === 'referrers') expect(`${body.raw}`).toContain(keyOf(asked, ''));
  else if (what === 'head') expect([key, claimed.has(key) || isSent(key)]).toEqual([key, true]);
  else checkBody(key, { digest, start: what === 'part' ? 10 : what === 'end' ? size - 20 : 0, ...body });
}

function checkBody(
  key: string,
  { digest, start, raw, isWhole }: { digest: Digest; start: number; raw: Buffer; isWhole: boolean },
): void {
  const flags = sent.get(key);
  const truth = contents.get(digest) ?? Buffer.of();
  const stolen = raw.findIndex((byte, i) => byte === truth[start + i] && !flags?.[start + i]);
  expect([key, 'the first byte that was not sent for it', stolen]).toEqual([
    key,
    'the first byte that was not sent for it',
    -1,
  ]);
  if (!isWhole) return;
  expect(raw.equals(truth.subarray(start, start + raw.length))).toBe(true);
  expect([key, 'was sent whole', isSent(key)]).toEqual([key, 'was sent whole', true]);
}

async function readAsFarAsItGoes(response: Response): Promise<{ raw: Buffer; isWhole: boolean }> {
  const chunks: Uint8Array[] = [];
  try {
    for await (const chunk of response.body ?? []) chunks.push(chunk);
    return { raw: Buffer.concat(chunks), isWhole: true };
  } catch {
    return { raw: Buffer.concat(chunks), isWhole: false };
  }
}

function isSent(key: string): boolean {
  return sent.get(key)?.every(Boolean) ?? false;
}

/** What the upstreams do. */
function answer(
  upstream: (typeof UPSTREAMS)[number],
  { method, url = '', headers }: IncomingMessage,
  response: ServerResponse,
): boolean {
  const [, repository = '', kind, reference = ''] = /^\/v2\/(team\/[ab])\/(\w+)\/([^?]+)/.exec(url) ?? [];
  if (upstream === 'corp' && headers.authorization === undefined) {
    response.writeHead(401, { 'www-authenticate': 'Basic realm="corp"' }).end();
    return true;
  }
  const caller = headers.authorization === CALLERS.alice ? 'alice' : 'bob';
  const whose = { upstream, repository: repository === 'team/a' ? 'team/a' : 'team/b', caller } as const;
  if (kind === 'referrers') {
    const index = {
      schemaVersion: 2,
      mediaType: mediaTypes.ociIndex,
      manifests: [],
      annotations: { for: keyOf(whose, '') },
    };
    response.writeHead(200, { 'content-type': mediaTypes.ociIndex }).end(JSON.stringify(index));
    return true;
  }
  const digest = kind === 'manifests' && reference === '1' ? MANIFEST : parseDigest(reference);
  const key = keyOf(whose, digest);
  const raw = contents.get(digest) ?? Buffer.of();
  const mood = moods.get(key) ?? 'refuses';
  if (mood === 'refuses') {
    response.writeHead(404).end();
    return true;
  }
  const type = {
    'content-type': kind === 'manifests' ? mediaTypes.ociManifest : 'application/octet-stream',
    'docker-content-digest': digest,
  };
  if (method === 'HEAD') {
    claimed.add(key);
    response.writeHead(200, { ...type, 'content-length': raw.length }).end();
    return true;
  }
  const [, from] = /^bytes=(\d+)-/.exec(headers.range ?? '') ?? [];
  const start = Number(from ?? 0);
  const rest = raw.subarray(start);
  const part = from === undefined ? {} : { 'content-range': `bytes ${start}-${raw.length - 1}/${raw.length}` };
  const length = mood === 'sendsFive' ? 5 : rest.length;
  response.writeHead(from === undefined ? 200 : 206, { ...type, ...part, 'content-length': length });
  if (mood === 'sends' || (mood === 'cutsOnce' && from !== undefined)) response.end(note(key, start, rest));
  else if (mood === 'sendsFive') response.end('\0\0\0\0\0');
  else if (mood === 'sendsWrong' || (mood === 'cutsAndLies' && from !== undefined))
    response.end(Buffer.alloc(rest.length));
  else
    response.write(note(key, start, rest.subarray(0, rest.length / 2)), () => setImmediate(() => response.destroy()));
  return true;
}

/** The same bytes, told to the oracle. */
function note(key: string, start: number, bytes: Buffer): Buffer {
  const digest = parseDigest(key.slice(key.lastIndexOf(' ') + 1));
  const flags = sent.get(key) ?? new Uint8Array(contents.get(digest)?.length ?? 0);
  sent.set(key, flags.fill(1, start, start + bytes.length));
  return bytes;
}

function basic(user: string): string {
  return `Basic ${Buffer.from(`${user}:pw`).toString('base64')}`;
}
