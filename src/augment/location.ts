// Parses the location of a layer as given in an API request or a rule. Messages name the problem and never quote the location: it may hold
// secrets.
import { type Digest, isDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { isRegistryHost, parseRepository } from '../oci/reference.ts';
import { InvalidLayer } from './budget.ts';

export type LayerLocation =
  /** `read` decodes it, on each call. */
  | { readonly kind: 'data'; readonly read: () => Uint8Array }
  | { readonly kind: 'url'; readonly url: URL }
  | { readonly kind: 'blob'; readonly registry: string; readonly repository: string; readonly digest: Digest };

const MAX_URL_LENGTH = 8192;
const ALLOWED = 'data:, http://, https://, docker:// or oci://';
const DOCKER = 'docker://<registry>/v2/<image>/blobs/<digest>';
const OCI = 'oci://<registry>/<repository>@<digest>';

/**
 * Accepts `data:[<media type>;base64,]<base64>`, also with line breaks and without padding, an http or https URL without credentials,
 * `docker://<registry>/v2/<image>/blobs/<digest>` and `oci://<registry>/<repository>@<digest>`, where the registry is a host or an alias.
 * Throws InvalidLayer for anything else. Does not check whether a host may be reached.
 */
export function parseLocation(text: string): LayerLocation {
  const scheme = /^([a-z][a-z0-9+.-]{0,31}):/i.exec(text)?.[1]?.toLowerCase();
  if (scheme === 'data') return { kind: 'data', read: parseData(text.slice('data:'.length)) };
  if (text.length > MAX_URL_LENGTH) throw new InvalidLayer(`layer location: longer than ${MAX_URL_LENGTH} characters`);
  switch (scheme) {
    case 'http':
    case 'https':
      return { kind: 'url', url: parseUrl(text) };
    case 'docker':
      return parseBlob(/^[^:]+:\/\/([^/]+)\/v2\/(.+)\/blobs\/([^/]+)$/.exec(text), DOCKER);
    case 'oci':
      return parseBlob(/^[^:]+:\/\/([^/]+)\/([^@]+)@([^@]+)$/.exec(text), OCI);
    default:
      throw new InvalidLayer(`layer location: ${scheme ? `"${scheme}:"` : 'no scheme'}; expected ${ALLOWED}`);
  }
}

/** Checked, but not decoded yet, to keep requests without the necessary rights cheap. */
function parseData(text: string): () => Uint8Array {
  const comma = text.slice(0, MAX_MEDIA_TYPE).indexOf(',');
  if (comma >= 0 && !/^(?:[\w.+-]+\/[\w.+-]+)?(?:;[\w.+-]+=[\w.+-]+)*;base64$/i.test(text.slice(0, comma))) {
    throw new InvalidLayer('layer location: data: must be base64: data:[<media type>;base64,]<base64>');
  }
  const encoded = text.slice(comma + 1).replaceAll(/\r?\n/g, '');
  if (encoded === '') throw new InvalidLayer('layer location: data: is empty');
  if (!isBase64(encoded)) throw new InvalidLayer('layer location: data: is not base64 of the standard alphabet');
  return () => Buffer.from(encoded, 'base64');
}

const MAX_MEDIA_TYPE = 256;

/** RFC 4648, section 4, with or without padding: unused bits must be zero. */
function isBase64(text: string): boolean {
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0;
  const { length } = text;
  if (padding > 0 && length % 4 !== 0) return false;
  const digits = length - padding;
  const isWhole = digits % 4 === 0 || (digits % 4 === 2 && 'AQgw'.includes(text.charAt(digits - 1)));
  if (!isWhole && !(digits % 4 === 3 && 'AEIMQUYcgkosw048'.includes(text.charAt(digits - 1)))) return false;
  return /^[A-Za-z0-9+/]*={0,2}$/.test(text);
}

function parseUrl(text: string): URL {
  const authority = /^https?:\/\/([^/\\?#]+)/i.exec(text)?.[1];
  // URL strips surrounding spaces and embedded line breaks: two readers could see two addresses.
  const url = authority === undefined || /[\s\p{Cc}]/u.test(text) ? null : URL.parse(text);
  if (url === null) throw new InvalidLayer('layer location: not a valid http:// or https:// URL');
  if (authority?.includes('@') || url.username || url.password) {
    throw new InvalidLayer('layer location: a URL with a user name or password; configure credentials instead');
  }
  return url;
}

function parseBlob(match: RegExpExecArray | null, expected: string): LayerLocation {
  const [, registry = '', name = '', digest = ''] = match ?? [];
  const repository = findRepository(name);
  // Aliases follow the grammar of a name's component; whether one is configured is not checked here.
  const isNamed = isRegistryHost(registry) || findRepository(registry.toLowerCase()) !== undefined;
  if (!isNamed || repository === undefined || !isDigest(digest)) {
    throw new InvalidLayer(`layer location: not of the form ${expected}`);
  }
  return { kind: 'blob', registry: registry.toLowerCase(), repository, digest };
}

function findRepository(name: string): string | undefined {
  try {
    return parseRepository(name);
  } catch (error) {
    if (error instanceof RegistryError) return undefined;
    throw error;
  }
}
