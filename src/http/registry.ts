// The distribution API: distribution-spec "Pull", "Content Discovery" and "Listing Referrers". Read only.
import { type Context, Hono } from 'hono';
import { parseDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { mediaTypes } from '../oci/media-type.ts';
import { parseRange } from '../oci/range.ts';
import { acceptsIndex, type Pull, type PullProxy } from '../proxy/proxy.ts';

export interface RegistryDeps {
  /** Makes a pull of a request's name. Throws RegistryError. */
  readonly admit: (name: string) => Promise<Pull>;
  readonly proxy: PullProxy;
}

const MAX_PAGE = 10_000;

export function createRegistry({ admit, proxy }: RegistryDeps): Hono {
  const app = new Hono();

  app.get('/v2/', c => c.json({}, 200, { 'Docker-Distribution-Api-Version': 'registry/2.0' }));
  app.get('/v2', c => c.json({}, 200, { 'Docker-Distribution-Api-Version': 'registry/2.0' }));

  app.get('/v2/_catalog', () => {
    throw new RegistryError('UNSUPPORTED', 'the catalog is off: a proxy has no list of all repositories', {
      status: 404,
    });
  });

  app.get('/v2/:name{.+}/manifests/:reference', async c => {
    const pull = await admit(c.req.param('name'));
    const options = { acceptsIndex: acceptsIndex(c.req.header('Accept')) };
    const { raw, digest, mediaType } = await proxy.getManifest(pull, c.req.param('reference'), options);
    const headers = { 'Content-Type': mediaType, ...contentHeaders(digest) };
    if (isNotModified(c, digest)) return c.body(null, 304, headers);
    return new Response(c.req.method === 'HEAD' ? null : raw.slice(), {
      headers: { ...headers, 'Content-Length': String(raw.byteLength) },
    });
  });

  app.get('/v2/:name{.+}/blobs/:digest', async c => {
    const pull = await admit(c.req.param('name'));
    const digest = parseDigest(c.req.param('digest'));
    const headers = { 'Content-Type': 'application/octet-stream', 'Accept-Ranges': 'bytes', ...contentHeaders(digest) };
    if (c.req.method === 'HEAD') {
      const { size } = await proxy.headBlob(pull, digest);
      return new Response(null, {
        headers: { ...headers, ...(size !== undefined && { 'Content-Length': String(size) }) },
      });
    }
    const blob = await proxy.getBlob(pull, digest);
    if (isNotModified(c, digest)) return c.body(null, 304, headers);
    const range = blob.size === undefined ? undefined : parseRange(c.req.header('Range'), blob.size);
    const length = range ? range.end - range.start + 1 : blob.size;
    return new Response(await blob.open(range), {
      status: range ? 206 : 200,
      headers: {
        ...headers,
        ...(length !== undefined && { 'Content-Length': String(length) }),
        ...(range && { 'Content-Range': `bytes ${range.start}-${range.end}/${blob.size}` }),
      },
    });
  });

  app.get('/v2/:name{.+}/tags/list', async c => {
    const name = c.req.param('name');
    const n = parsePageSize(c.req.query('n'));
    const { tags, hasMore } = await proxy.listTags(await admit(name), { n, last: c.req.query('last') });
    const last = tags.at(-1);
    if (hasMore && last) {
      const query = new URLSearchParams({ ...(n !== undefined && { n: String(n) }), last });
      c.header('Link', `</v2/${name}/tags/list?${query}>; rel="next"`);
    }
    return c.json({ name, tags });
  });

  app.get('/v2/:name{.+}/referrers/:digest', async c => {
    const pull = await admit(c.req.param('name'));
    const artifactType = c.req.query('artifactType');
    const index = await proxy.findReferrers(pull, parseDigest(c.req.param('digest')), artifactType);
    const empty = JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests: [] });
    return c.body(index ? index.slice() : empty, 200, { 'Content-Type': mediaTypes.ociIndex });
  });

  app.on(['POST', 'PUT', 'PATCH', 'DELETE'], '/v2/*', () => {
    throw new RegistryError('UNSUPPORTED', 'this registry is a proxy: it can be pulled from, not pushed to');
  });

  return app;
}

function contentHeaders(digest: string): Record<string, string> {
  return { 'Docker-Content-Digest': digest, ETag: `"${digest}"` };
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
