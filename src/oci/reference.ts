// References: the names of images. Grammar of distribution-spec "Pulling manifests" and of docker's reference package.
import { type Digest, parseDigest } from './digest.ts';
import { RegistryError } from './errors.ts';

/** An image as written by people. At least one of tag and digest is present; with both, the digest decides. */
export interface Reference {
  /** Host and port, or an alias; undefined where the text has none. */
  readonly registry: string | undefined;
  readonly repository: string;
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
}

const REPOSITORY = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const HOST =
  /^(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?$/;
const MAX_NAME = 255;

/** Throws NAME_INVALID. */
export function parseRepository(text: string): string {
  if (text.length > MAX_NAME || !REPOSITORY.test(text)) {
    throw new RegistryError('NAME_INVALID', `invalid repository name "${text.slice(0, MAX_NAME)}"`);
  }
  return text;
}

/** Throws TAG_INVALID. */
export function parseTag(text: string): string {
  if (!TAG.test(text)) throw new RegistryError('TAG_INVALID', `invalid tag "${text.slice(0, 160)}"`);
  return text;
}

/** The `<reference>` of a manifest path: a digest where there is a colon, else a tag. Throws DIGEST_INVALID or TAG_INVALID. */
export function parseTagOrDigest(text: string): { readonly tag: string } | { readonly digest: Digest } {
  return text.includes(':') ? { digest: parseDigest(text) } : { tag: parseTag(text) };
}

/** Whether a first path component is a registry host rather than part of the repository's name: it has a dot or a port, or is localhost. */
export function isRegistryHost(component: string): boolean {
  return (component.includes('.') || component.includes(':') || component === 'localhost') && HOST.test(component);
}

/** Parses `[registry/]repository[:tag][@digest]`; without a tag and a digest the tag is `latest`. Throws NAME_INVALID, TAG_INVALID or DIGEST_INVALID. */
export function parseReference(text: string): Reference {
  const [named = '', digestText, ...rest] = text.split('@');
  if (rest.length > 0) throw new RegistryError('NAME_INVALID', `more than one "@" in "${text.slice(0, MAX_NAME)}"`);
  const digest = digestText === undefined ? undefined : parseDigest(digestText);
  const colon = named.lastIndexOf(':');
  const hasTag = colon > named.lastIndexOf('/');
  const tag = hasTag ? parseTag(named.slice(colon + 1)) : undefined;
  const name = hasTag ? named.slice(0, colon) : named;
  return { ...splitRegistry(name), tag: tag ?? (digest ? undefined : 'latest'), digest };
}

function splitRegistry(name: string): { registry: string | undefined; repository: string } {
  const slash = name.indexOf('/');
  const first = name.slice(0, slash);
  if (slash > 0 && isRegistryHost(first))
    return { registry: first.toLowerCase(), repository: parseRepository(name.slice(slash + 1)) };
  return { registry: undefined, repository: parseRepository(name) };
}

export function formatReference(reference: Reference): string {
  const name = reference.registry ? `${reference.registry}/${reference.repository}` : reference.repository;
  return `${name}${reference.tag ? `:${reference.tag}` : ''}${reference.digest ? `@${reference.digest}` : ''}`;
}

/** The `<reference>` part of a path for this image: the digest if there is one, else the tag. */
export function tagOrDigest(reference: Reference): string {
  return reference.digest ?? reference.tag ?? 'latest';
}
