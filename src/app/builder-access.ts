// What builders need to reach registries, Veneer included: names, addresses and credentials, the configured secrets, and contexts.
import { createReadStream } from 'node:fs';
import { z } from 'zod';
import type { AccessTokens } from '../access/access-token.ts';
import type { BuildCredentials, OwnRegistry, PinnedBase, PushTarget } from '../builds/backend.ts';
import type { OfferedFiles } from '../builds/backends/kubernetes/archive.ts';
import { bytesOf } from '../builds/context/tar.ts';
import type { BuildInputDeps } from '../builds/executor/build-input.ts';
import type { Recipes } from '../builds/recipes/recipe.ts';
import type { ContainerFileSpec } from '../builds/spec.ts';
import type { Config } from '../config/schema.ts';
import type { ContentStore } from '../content/store.ts';
import { type Digest, isDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { locateBase } from '../pull/images.ts';
import { type Origin, type Origins, originName } from '../pull/origin.ts';
import { createCollection } from '../state/collection.ts';
import type { RecordStore } from '../state/store.ts';
import type { Upstreams } from '../upstream/upstream.ts';

interface BuilderAccessDeps {
  readonly config: Config;
  readonly pulling: { readonly origins: Origins; readonly upstreams: Upstreams };
  /** Undefined where callers need no credentials. */
  readonly accessTokens: AccessTokens | undefined;
  readonly recipes: Pick<Recipes, 'covers'>;
  readonly findListenHost: () => string | undefined;
}

type BuilderAccess = Pick<
  BuildInputDeps,
  'targetOf' | 'pinBase' | 'findSecret' | 'findSsh' | 'findCredentials' | 'endCredentials'
>;

/** A token outlives its build, and expires even if a crash leaves it unrevoked. */
const TOKEN_SLACK_MS = 60_000;

export function createBuilderAccess(deps: BuilderAccessDeps): BuilderAccess {
  const { config, pulling, accessTokens } = deps;
  const { origins, upstreams } = pulling;
  const { secrets, ssh, timeoutMs } = config.builds;

  function locateImage(image: string): { readonly origin: Origin; readonly tag: string } {
    const colon = image.lastIndexOf(':');
    return { origin: origins.locateName(image.slice(0, colon)), tag: image.slice(colon + 1) };
  }

  async function targetOf(image: string, own: OwnRegistry | undefined): Promise<PushTarget> {
    const { origin, tag } = locateImage(image);
    if (origin.registry.isHosted) {
      const { host, isInsecure } = own ?? findOwnRegistry(deps);
      return { name: `${host}/${image}`, image, isInsecure };
    }
    const { host, isInsecure } = upstreams.describe(origin.registry.name);
    return { name: `${host}/${origin.repository}:${tag}`, image, isInsecure };
  }

  async function pinBase(name: string, digest: Digest, own: OwnRegistry | undefined): Promise<PinnedBase> {
    const origin = locateBase(origins, name);
    if (isOurs(origin)) {
      const { host, isInsecure } = own ?? findOwnRegistry(deps);
      return { name: `${host}/${originName(origin)}@${digest}`, isInsecure };
    }
    const { host, isInsecure } = upstreams.describe(origin.registry.name);
    return { name: `${host}/${origin.repository}@${digest}`, isInsecure };
  }

  /** Hosted here, or covered by a recipe. */
  function isOurs(origin: Origin): boolean {
    return origin.registry.isHosted || deps.recipes.covers(originName(origin));
  }

  /** For the registries that the build pulls from and pushes to. A base of ours, or behind an alias, is pulled through Veneer. */
  async function findCredentials(
    spec: ContainerFileSpec,
    image: string,
  ): Promise<ReadonlyMap<string, BuildCredentials>> {
    const written = [image, ...(spec.cacheRepository === undefined ? [] : [`${spec.cacheRepository}:cache`])];
    const targets = written.map(name => locateImage(name).origin);
    const bases = Object.keys(spec.bases).map(name => locateBase(origins, name));
    const [pushed, read] = [targets, bases].map(
      origins => new Set(origins.filter(origin => !isOurs(origin)).map(({ registry }) => registry.name)),
    );
    const found = await Promise.all([
      ...[...(pushed ?? [])].map(name => findOther(name, false)),
      ...[...(read ?? [])].filter(name => !pushed?.has(name)).map(name => findOther(name, true)),
    ]);
    const own = await issueOwn(targets, bases.filter(isOurs), spec.timeoutMs ?? timeoutMs);
    return new Map([...found.flat(), ...own]);
  }

  async function findOther(
    registry: string,
    isRead: boolean,
  ): Promise<readonly (readonly [string, BuildCredentials])[]> {
    const credentials = await upstreams.findCredentials(registry, { isRead });
    return credentials ? [[upstreams.describe(registry).host, credentials]] : [];
  }

  /** A token for exactly what this build pulls and pushes, and for its lifetime. */
  async function issueOwn(
    targets: readonly Origin[],
    bases: readonly Origin[],
    lifeMs: number,
  ): Promise<readonly (readonly [string, BuildCredentials])[]> {
    const pushed = targets.filter(({ registry }) => registry.isHosted).map(originName);
    if (!accessTokens || pushed.length + bases.length === 0) return [];
    const { secret } = await accessTokens.issue({
      name: 'a build',
      isBuild: true,
      permissions: [
        ...(pushed.length > 0 ? [{ repositories: pushed, allow: ['pull', 'push'] as const }] : []),
        ...(bases.length > 0 ? [{ repositories: bases.map(originName), allow: ['pull'] as const }] : []),
      ],
      ttlMs: lifeMs + TOKEN_SLACK_MS,
    });
    const hosts = [findOwnHost(deps), ...listCallbackUrls(config).map(({ host }) => host)];
    return hosts.map(host => [host, { username: 'token', password: secret }] as const);
  }

  /** A token that cannot be revoked expires a little later. */
  async function revokeOwn(secret: string): Promise<void> {
    const token = await accessTokens?.find(secret).catch(() => undefined);
    if (token) await accessTokens?.revoke(token.id).catch(() => false);
  }

  return {
    targetOf,
    pinBase,
    findCredentials,
    async endCredentials(credentials) {
      for (const { password } of credentials.values()) await revokeOwn(password);
    },
    findSecret: async id => (Object.hasOwn(secrets, id) ? Buffer.from(secrets[id] ?? '') : undefined),
    findSsh: async id => (Object.hasOwn(ssh, id) ? ssh[id] : undefined),
  };
}

/** Our host as builders write it. Throws UNAVAILABLE until we listen: a build that is resumed at a start is retried. */
export function findOwnHost({ config, findListenHost }: Pick<BuilderAccessDeps, 'config' | 'findListenHost'>): string {
  const publicHost = isForAll(config) ? config.publicUrl?.host : undefined;
  const host = config.builds.registryHost ?? publicHost ?? findListenHost();
  if (host) return host;
  throw new RegistryError('UNAVAILABLE', 'builders cannot reach this registry yet: it is not listening');
}

function findOwnRegistry(deps: Pick<BuilderAccessDeps, 'config' | 'findListenHost'>): OwnRegistry {
  return { host: findOwnHost(deps), isInsecure: isOwnInsecure(deps) };
}

/** The addresses by which builders outside this machine reach us. */
export function listCallbackUrls({ builds: { backends }, publicUrl }: Config): readonly URL[] {
  const urls = backends.map(one => (one.type === 'kubernetes' ? (one.callbackUrl ?? publicUrl) : undefined));
  return urls.filter(url => url !== undefined);
}

/** Without TLS of our own, a proxy terminates it for a public https address. */
function isOwnInsecure({ config }: Pick<BuilderAccessDeps, 'config'>): boolean {
  const isPublic = config.builds.registryHost === undefined && isForAll(config);
  if (config.tls) return false;
  return !isPublic || config.publicUrl?.protocol !== 'https:';
}

/** A wildcard address is not one to connect to. */
function isForAll({ listen }: Config): boolean {
  return ['0.0.0.0', '::'].includes(listen.host);
}

// Contexts that pods fetch.

/** Stored with the contexts, for processes that share them: a pod may ask any of these. */
export function createSharedOffers(
  records: RecordStore,
  contexts: Pick<ContentStore, 'ingest' | 'open'>,
): OfferedFiles & { isOffered(digest: Digest): Promise<boolean> } {
  const offers = createCollection({ store: records, name: 'build-offer', schema: z.string().refine(isDigest) });
  return {
    async put(name, file, ttlMs) {
      const { digest } = await contexts.ingest(ReadableStream.from(bytesOf(createReadStream(file)))).done;
      const expiry = { ttlMs };
      await records.write([offers.putting(name, digest, expiry), offers.putting(digest, digest, expiry)]);
    },
    async open(name) {
      const digest = await offers.find(name);
      return digest && contexts.open(digest);
    },
    // What cannot be removed expires.
    remove: name =>
      offers.delete(name).then(
        () => {},
        () => {},
      ),
    isOffered: offers.has,
  };
}
