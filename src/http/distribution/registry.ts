// The read half of the distribution API: distribution-spec "Pull", "Content Discovery" and "Listing Referrers".
import { type Context, Hono } from 'hono';
import type { CallerRateLimiter } from '../../access/rate-limiter.ts';
import type { HostedRepositories } from '../../hosted/repositories.ts';
import { parseRange } from '../../oci/bytes.ts';
import { isDigest, parseDigest } from '../../oci/digest.ts';
import { orUndefined, RegistryError } from '../../oci/errors.ts';
import { inertManifestType, mediaTypes, otherManifestTypes } from '../../oci/media-type.ts';
import { acceptsIndex, pullManifest } from '../../pull/augmented-registry.ts';
import { createListTest, isBuilder, requesterOf, requireCaller } from '../middleware/authentication.ts';
import type { Admission } from './admission.ts';
import { readNamespace } from './mirror.ts';
import { MANIFEST_ROUTE, type ReadyManifests } from './ready-manifests.ts';
import type { RegistryEvents } from './registry-events.ts';

const MAX_PAGE = 10_000;
/** Each name is looked up by itself. */
const MAX_CATALOG = 1000;

export function createRegistry({
  admission,
  events,
  pullLimiter,
  ready,
  redirects,
  listNames,
}: {
  readonly admission: Pick<Admission, 'admitPull'>;
  readonly ready?: Pick<ReadyManifests, 'watch'> | undefined;
  /** Absent: no pull events. */
  readonly events?: Pick<RegistryEvents, 'pulled'> | undefined;
  /** Counts tags that are resolved: requests by digest are free. */
  readonly pullLimiter: CallerRateLimiter;
  /** Which clients get blobs of at least `minBytes` from where those are stored. Absent: none. */
  readonly redirects?: { isFor(c: Context): boolean; readonly minBytes: number } | undefined;
  /** Of hosted repositories: no proxy has a list of all that its upstreams have. */
  readonly listNames: HostedRepositories['listNames'];
}): Hono {
  const app = new Hono();

  app.on('GET', ['/v2/', '/v2'], c => {
    requireCaller(c);
    return c.json({}, 200, { 'Docker-Distribution-Api-Version': 'registry/2.0' });
  });

  app.get('/v2/_catalog', async c => {
    requireCaller(c);
    const n = parsePageSize(c.req.query('n'));
    await pullLimiter.consume(requesterOf(c), 1);
    const isWanted = await createListTest(c);
    const page = { n: Math.min(n ?? MAX_CATALOG, MAX_CATALOG), last: c.req.query('last'), isWanted };
    const { names, hasMore } = await listNames(page);
    const last = names.at(-1);
    if (hasMore && last !== undefined) {
      const query = new URLSearchParams({ ...(n !== undefined && { n: String(n) }), last });
      c.header('Link', `</v2/_catalog?${query}>; rel="next"`);
    }
    return c.json({ repositories: names });
  });

  app.get(MANIFEST_ROUTE, async c => {
    const store = ready?.watch(c);
    const pull = await admission.admitPull(c, c.req.param('name'));
    const accept = c.req.header('Accept');
    const options = {
      acceptsIndex: acceptsIndex(accept),
      accept: otherManifestTypes(accept),
      signal: c.req.raw.signal,
    };
    const reference = c.req.param('reference');
    if (!isDigest(reference) && !isBuilder(c)) await pullLimiter.consume(requesterOf(c), 1);
    const manifest = await pullManifest(pull, reference, options);
    const { raw, digest, mediaType } = manifest;
    const headers = { 'Content-Type': inertManifestType(mediaType), ...contentHeaders(digest) };
    if (isNotModified(c, digest)) return c.body(null, 304, headers);
    if (c.req.method !== 'HEAD') events?.pulled(c, { origin: pull, manifest, reference });
    store?.({ origin: pull, headers, raw });
    return new Response(c.req.method === 'HEAD' ? null : raw, {
      headers: { ...headers, 'Content-Length': String(raw.byteLength) },
    });
  });

  app.get('/v2/:name{.+}/blobs/:digest', async c => {
    const { registry, repository } = await admission.admitPull(c, c.req.param('name'));
    const digest = parseDigest(c.req.param('digest'));
    const headers = { 'Content-Type': 'application/octet-stream', 'Accept-Ranges': 'bytes', ...contentHeaders(digest) };
    if (c.req.method === 'HEAD' || isNotModified(c, digest)) {
      // Nothing is transferred, but only a repository that has the blob may confirm it.
      const { size } = await registry.headBlob(repository, digest);
      if (isNotModified(c, digest)) return c.body(null, 304, headers);
      return new Response(null, { headers: { ...headers, ...contentLength(size) } });
    }
    const blob = await registry.getBlob(repository, digest, { signal: c.req.raw.signal });
    if (redirects?.isFor(c) && (blob.size ?? 0) >= redirects.minBytes && c.req.header('Range') === undefined) {
      // Where that is away, the bytes may still be cached.
      const Location = blob.locate && (await orUndefined(blob.locate(), [503]));
      const length = { 'Content-Length': '0', 'Cache-Control': 'no-store' };
      if (Location !== undefined) return c.body(null, 307, { ...contentHeaders(digest), ...length, Location });
    }
    const range = blob.size === undefined ? undefined : parseRange(c.req.header('Range'), blob.size);
    return new Response(await blob.open(range), {
      status: range ? 206 : 200,
      headers: {
        ...headers,
        ...contentLength(range ? range.end - range.start + 1 : blob.size),
        ...(range && { 'Content-Range': `bytes ${range.start}-${range.end}/${blob.size}` }),
      },
    });
  });

  app.get('/v2/:name{.+}/tags/list', async c => {
    const name = c.req.param('name');
    const n = parsePageSize(c.req.query('n'));
    const page = { n, last: c.req.query('last'), next: c.req.query('next') };
    const { registry, repository } = await admission.admitPull(c, name);
    const { tags, hasMore, next } = await registry.listTags(repository, page, { signal: c.req.raw.signal });
    const last = tags.at(-1);
    const after = next === undefined ? hasMore && last && { last } : { next };
    if (after) {
      const query = new URLSearchParams({ ...(n !== undefined && { n: String(n) }), ...after, ...namespaceOf(c) });
      c.header('Link', `</v2/${name}/tags/list?${query}>; rel="next"`);
    }
    return c.json({ name, tags });
  });

  app.get('/v2/:name{.+}/referrers/:digest', async c => {
    const name = c.req.param('name');
    const { registry, repository } = await admission.admitPull(c, name);
    const digest = parseDigest(c.req.param('digest'));
    const { artifactType, last } = c.req.query();
    const page = { artifactType, last: last === undefined ? undefined : parseDigest(last) };
    const index = await registry.findReferrers(repository, digest, { ...page, signal: c.req.raw.signal });
    if (index?.last) {
      const filter = artifactType !== undefined && { artifactType };
      const query = new URLSearchParams({ ...filter, last: index.last, ...namespaceOf(c) });
      c.header('Link', `</v2/${name}/referrers/${digest}?${query}>; rel="next"`);
    }
    const empty = JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests: [] });
    return c.body(index ? index.raw.slice() : empty, 200, {
      'Content-Type': mediaTypes.ociIndex,
      ...(artifactType !== undefined && { 'OCI-Filters-Applied': 'artifactType' }),
    });
  });

  return app;
}

/** The next page is in the same namespace. */
function namespaceOf(c: Context): { readonly ns?: string } {
  const ns = readNamespace(c);
  return ns === undefined ? {} : { ns };
}

function contentHeaders(digest: string): Record<string, string> {
  return { 'Docker-Content-Digest': digest, ETag: `"${digest}"` };
}

function contentLength(size: number | undefined): Record<string, string> {
  return size === undefined ? {} : { 'Content-Length': String(size) };
}

function isNotModified(c: Context, digest: string): boolean {
  const tags =
    c.req
      .header('If-None-Match')
      ?.split(',')
      .map(tag => tag.trim().replace(/^W\//, '')) ?? [];
  return tags.includes(`"${digest}"`) || tags.includes('*');
}

function parsePageSize(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,9}$/.test(text))
    throw new RegistryError('UNSUPPORTED', `n is "${text.slice(0, 20)}": expected a whole number`, { status: 400 });
  return Math.min(Number(text), MAX_PAGE);
}
