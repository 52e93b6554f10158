// Admission: what a name in a path asks for, and whether the caller may. The token in a path is its credential.
import type { Context } from 'hono';
import { LRUCache } from 'lru-cache';
import { networkOf } from '../../access/address.ts';
import type { PasswordCredentials } from '../../access/authorization.ts';
import type { Right } from '../../access/right.ts';
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
   * Makes a pull of `wt/<token>/<repository>` or `[registry/]repository`; with `ns` of the repository in that registry. No name under `wt/`
   * is an upstream's: it would get to know a token.
   */
  admitPull(c: Context, name: string): Promise<Pull>;
  /** Throws UNSUPPORTED for a repository that is not hosted here, too. */
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
  /** The image that a token's build makes: waits for it. Throws RegistryError when it came to nothing, or takes longer than clients wait. */
  readonly awaitBuilt: (c: Context, buildId: string) => Promise<Digest>;
  /** Waits for the scan that a token needs. Throws RegistryError where it does not allow the image, or takes longer than clients wait. */
  readonly awaitScanned: (c: Context, scan: ScanDemand) => Promise<void>;
  /** What clients pull is what the rules make of it; a token has those of its submit, and a build of ours sees images as they are. */
  readonly withRules: WithRules;
  readonly withToken: WithToken;
  /** What the client has shown, for upstreams that get to see it. */
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

  /** A token is worth no more than the rights of the caller that it was issued to. Older versions did not record the caller. */
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
  /** Any of them will do. */
  readonly rights: readonly Right[];
}

/** What was asked of the caller at the submit: the source, or what is built, and where layers of its own are. Those of rules are for whoever pulls. */
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

// Tokens as clients name them. One that is unknown is a guess: guesses are counted by the network that they come from.

export const UNKNOWN_TOKEN =
  'this token is unknown, has expired or was revoked: submit the request again for a new one';

/** Undefined for what is no token. Throws TOOMANYREQUESTS for that, too, where a network has guessed too often. */
export type FindToken = (c: Context, id: string) => Promise<TokenRecord | undefined>;

/** Of one network. Clients ask a few times for a token that has ended. */
const MAX_GUESSES = 60;
const GUESS_WINDOW_MS = 60_000;
const MAX_NETWORKS = 10_000;

export function createFindToken({
  ledger,
  now,
}: {
  readonly ledger: Pick<TokenLedger, 'find'>;
  readonly now: () => Date;
}): FindToken {
  const guesses = new LRUCache<string, number>({
    // By size, not by number: for a number it takes its memory at once.
    maxSize: MAX_NETWORKS,
    sizeCalculation: () => 1,
    // An entry lives through its last millisecond, and Retry-After must not end within it.
    ttl: GUESS_WINDOW_MS - 1,
    ttlResolution: 0,
    noUpdateTTL: true,
    perf: { now: () => now().getTime() },
  });

  return async (c, id) => {
    const network = networkOf(clientAddress(c) ?? '').name;
    const isExhausted = (guesses.get(network) ?? 0) >= MAX_GUESSES;
    // A long one that is right was not guessed: others in the network of a guesser go on pulling.
    const record = isExhausted && !isLongTokenId(id) ? undefined : await ledger.find(id);
    if (record) return record;
    if (isExhausted) throw tooMany(guesses.getRemainingTTL(network));
    guesses.set(network, (guesses.get(network) ?? 0) + 1);
    return undefined;
  };
}

function tooMany(waitMs: number): RegistryError {
  const reason = `more than ${MAX_GUESSES} unknown tokens were requested from this network in ${GUESS_WINDOW_MS / 1000} seconds`;
  return new RegistryError('TOOMANYREQUESTS', `${reason}: try again later`, {
    retryAfterSeconds: Math.max(1, Math.ceil(waitMs / 1000)),
  });
}
