// Admission: resolves the name in a path, and checks the caller's rights. A token in the path is its own credential.
import type { Context } from 'hono';
import { LRUCache } from 'lru-cache';
import { networkOf } from '../../access/address.ts';
import type { PasswordCredentials } from '../../access/authorization.ts';
import type { Right } from '../../access/right.ts';
import { type Counting, shareCounts } from '../../access/shared-counts.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { createPlainRegistry, type Pull } from '../../pull/augmented-registry.ts';
import { type Origin, type Origins, originName } from '../../pull/origin.ts';
import type { WithRules } from '../../pull/rules/ruled-registry.ts';
import type { TokenLedger } from '../../pull/tokens/ledger.ts';
import { isLongTokenId, type TokenRecord } from '../../pull/tokens/record.ts';
import { tokenImage, type WithToken } from '../../pull/tokens/token-registry.ts';
import type { ScanDemand } from '../../scans/record.ts';
import {
  callerName,
  clientAddress,
  hasRight,
  isBuilder,
  requireRight,
  stillHasRight,
} from '../middleware/authentication.ts';
import { readNamespace } from './mirror.ts';

/** Throws NAME_UNKNOWN, NAME_INVALID, UNAUTHORIZED or DENIED, and what `awaitBuilt` throws. */
export interface Admission {
  /**
   * Admits a pull of `wt/<token>/<repository>` or `[registry/]repository`; with `ns`, of the repository in that registry. A name under
   * `wt/` is never sent to an upstream, which would learn a token.
   */
  admitPull(c: Context, name: string): Promise<Pull>;
  /** Additionally throws UNSUPPORTED for a repository that is not hosted here. */
  admitPush(c: Context, verb: 'push' | 'delete', name: string): HostedTarget;
}

/** A hosted repository that the caller may change. */
interface HostedTarget {
  readonly repository: string;
  /** Whether the same caller may pull from another hosted repository. */
  readonly mayPull: (repository: string) => boolean;
}

export function createAdmission(deps: {
  readonly origins: Origins;
  readonly findToken: FindToken;
  /**
   * The image built for a token: waits for it. Throws RegistryError if the build failed, or takes longer than clients wait.
   */
  readonly awaitBuilt: (c: Context, buildId: string) => Promise<Digest>;
  /**
   * Waits for the scan that a token requires. Throws RegistryError if the result forbids pulling, or takes longer than clients wait.
   */
  readonly awaitScanned: (c: Context, scan: ScanDemand) => Promise<void>;
  /**
   * Rules apply to what clients pull; a token has the rules of its submit request, and our own builds see images unchanged.
   */
  readonly withRules: WithRules;
  readonly withToken: WithToken;
  /** The client's credentials, for upstreams that receive them. */
  readonly getCredentials?: ((c: Context) => PasswordCredentials | undefined) | undefined;
}): Admission {
  const { origins, findToken, awaitBuilt, awaitScanned, withRules, withToken, getCredentials } = deps;

  async function admitToken(c: Context, token: string, repository: string): Promise<Pull> {
    const record = await findToken(c, token);
    if (!record) throw unknown(UNKNOWN_TOKEN);
    const { frozenImage } = record;
    if (frozenImage !== undefined)
      throw unknown(`this image has a name of its own, and needs no token: pull ${frozenImage}`);
    if (repository !== record.repository) {
      throw unknown(`this token serves ${record.repository}, not ${repository.slice(0, 255)}`);
    }
    noteRepository(c, `${record.registry}/${record.repository}`);
    await requireOwner(c, record);
    c.set('token', record);
    const sourceDigest = await sourceOf(c, record);
    if (record.scan?.mode === 'required') await awaitScanned(c, record.scan);
    const origin = origins.locate(record.registry, record.repository, () => getCredentials?.(c));
    const registry = withToken(tokenImage(record, sourceDigest, origin), c.req.raw.signal);
    return { ...origin, registry };
  }

  /** A token is limited to the rights of the caller that it was issued to. Older versions did not record the caller. */
  async function requireOwner(c: Context, { caller, callerNetworks, ...record }: TokenRecord): Promise<void> {
    if (caller === undefined) return;
    const holder = { subject: caller, networks: callerNetworks };
    for (const { repository, rights } of neededRights(record)) {
      const results = await Promise.all(rights.map(verb => stillHasRight(c, holder, { verb, repository })));
      if (results.includes(true)) continue;
      const reason = `the caller that this token was issued to may no longer pull ${repository}`;
      throw new RegistryError('DENIED', `${reason}: submit the request again for a new one`);
    }
  }

  async function sourceOf(c: Context, { sourceDigest, buildId = '', isDryRun }: TokenRecord): Promise<Digest> {
    if (sourceDigest === undefined && isDryRun)
      throw new RegistryError('MANIFEST_UNKNOWN', 'this token is from a dry run: nothing was built for it');
    return sourceDigest ?? awaitBuilt(c, buildId);
  }

  function locate(c: Context, name: string): Origin {
    const namespace = readNamespace(c);
    const get = () => getCredentials?.(c);
    return namespace === undefined ? origins.locateName(name, get) : origins.locateIn(namespace, name, get);
  }

  return {
    async admitPull(c, name) {
      const [first, token, ...rest] = name.split('/');
      const namespace = readNamespace(c);
      if (first === 'wt' && token !== undefined) {
        if (namespace !== undefined && !origins.isOwn(namespace)) throw foreignToken(namespace);
        return admitToken(c, token, rest.join('/'));
      }
      const origin = locate(c, name);
      const repository = originName(origin);
      noteRepository(c, repository);
      requireRight(c, 'pull', repository);
      if (isBuilder(c)) return { ...origin, registry: createPlainRegistry(origin.registry) };
      const registry = withRules(origin.registry, callerName(c), c.req.method === 'HEAD');
      return { ...origin, registry };
    },
    admitPush(c, verb, name) {
      if (name.startsWith('wt/')) throw notHosted('names under wt/ can only be pulled');
      const origin = locate(c, name);
      const repository = originName(origin);
      noteRepository(c, repository);
      requireRight(c, verb, repository);
      if (!origin.registry.isHosted)
        throw notHosted(`${repository} is in ${origin.registry.name}, and not hosted here`);
      return { repository, mayPull: other => hasRight(c, 'pull', other) };
    },
  };
}

/** For the access log. */
function noteRepository(c: Context, repository: string): void {
  const facts = c.get('request');
  if (!facts) return;
  facts.repository = repository;
  facts.reference = c.req.param('reference') ?? c.req.param('digest');
}

interface NeededRight {
  readonly repository: string;
  /** Any one of them suffices. */
  readonly rights: readonly Right[];
}

/**
 * What the caller needed when submitting: the source or what is built, and the repositories of its own layers. Those of rules are available
 * to whoever pulls.
 */
function neededRights({
  registry,
  repository,
  buildId,
  ruleSteps = [],
  layerSources,
}: Omit<TokenRecord, 'caller' | 'callerNetworks'>): readonly NeededRight[] {
  const ruled = new Set(ruleSteps.flatMap(({ augmentation }) => augmentation.layers.map(({ digest }) => digest)));
  const blobs = layerSources.flatMap(layer => (layer.kind === 'blob' && !ruled.has(layer.digest) ? [layer] : []));
  const repositories = new Set(blobs.map(blob => `${blob.registry}/${blob.repository}`));
  return [
    { repository: `${registry}/${repository}`, rights: buildId === undefined ? ['pull'] : ['pull', 'build'] },
    ...[...repositories].map(each => ({ repository: each, rights: ['pull'] as const })),
  ];
}

function foreignToken(namespace: string): RegistryError {
  return unknown(`names under wt/ are Veneer's own, and in no other registry: ns is "${namespace}"`);
}

function notHosted(reason: string): RegistryError {
  return new RegistryError('UNSUPPORTED', `${reason}: push to a repository under a hosted prefix, such as local/`);
}

function unknown(message: string): RegistryError {
  return new RegistryError('NAME_UNKNOWN', message);
}

// Token lookup. Unknown tokens count as guesses, by the client's network.

export const UNKNOWN_TOKEN =
  'this token is unknown, has expired or was revoked: submit the request again for a new one';

/** Undefined for unknown tokens. Throws TOOMANYREQUESTS where a network has guessed too often. */
export type FindToken = (c: Context, id: string) => Promise<TokenRecord | undefined>;

/** Per network. Clients may ask for an expired token a few times. */
const MAX_GUESSES = 60;
const GUESS_WINDOW_MS = 60_000;
const MAX_NETWORKS = 10_000;

export function createFindToken({
  ledger,
  now,
  records,
}: {
  readonly ledger: Pick<TokenLedger, 'find'>;
  readonly now: () => Date;
  /** Where several processes share them, guesses at all of them count. */
  readonly records?: Counting['records'] | undefined;
}): FindToken {
  const limit = { name: 'unknown tokens', max: MAX_GUESSES, windowMs: GUESS_WINDOW_MS };
  const shared = records && shareCounts({ counting: { records, now }, ...limit });
  const guesses = new LRUCache<string, number>({
    // Bounded by size, not by number: for a number it allocates its memory at once.
    maxSize: MAX_NETWORKS,
    sizeCalculation: () => 1,
    // An entry is valid through its last millisecond, and Retry-After must not end within it.
    ttl: GUESS_WINDOW_MS - 1,
    ttlResolution: 0,
    noUpdateTTL: true,
    perf: { now: () => now().getTime() },
  });

  const lookHere = (network: string) => ({
    isGranted: (guesses.get(network) ?? 0) < MAX_GUESSES,
    msLeft: guesses.getRemainingTTL(network),
  });

  function takeHere(network: string) {
    const before = lookHere(network);
    if (before.isGranted) guesses.set(network, (guesses.get(network) ?? 0) + 1);
    return before;
  }

  return async (c, id) => {
    const network = networkOf(clientAddress(c) ?? '').name;
    const left = (shared && (await shared.look(network))) ?? lookHere(network);
    // A long token that exists was not guessed: others in the guesser's network can continue to pull.
    const record = left.isGranted || isLongTokenId(id) ? await ledger.find(id) : undefined;
    if (record) return record;
    const taken = left.isGranted ? ((shared && (await shared.take(network, 1))) ?? takeHere(network)) : left;
    if (!taken.isGranted) throw tooMany(taken.msLeft);
    return undefined;
  };
}

function tooMany(waitMs: number): RegistryError {
  const reason = `more than ${MAX_GUESSES} unknown tokens were requested from this network in ${GUESS_WINDOW_MS / 1000} seconds`;
  return new RegistryError('TOOMANYREQUESTS', `${reason}: try again later`, {
    retryAfterSeconds: Math.max(1, Math.ceil(waitMs / 1000)),
  });
}
