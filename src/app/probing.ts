// Checks without a service: probes upstreams and builders for `veneer doctor`, by the same code as pulls and builds, and finds faults that
// would prevent a start.
import { existsSync } from 'node:fs';
import { pino } from 'pino';
import { AccessFault, type AccessOptions } from '../access/access.ts';
import { findGrantFaults } from '../access/granted.ts';
import { parseSigningKey } from '../access/keys.ts';
import { openUserFile } from '../access/user-file.ts';
import type { ContextOffers } from '../builds/backends/kubernetes/archive.ts';
import type { Environment } from '../builds/process.ts';
import { specSchema } from '../builds/spec.ts';
import { ConfigError, type ConfigFault } from '../config/faults.ts';
import type { Config } from '../config/schema.ts';
import { readTlsFiles, TlsFault } from '../http/middleware/tls.ts';
import { createMemory } from '../memory.ts';
import { RegistryError } from '../oci/errors.ts';
import { describeMissing } from '../rules/layers/local-layers.ts';
import { normalizeName } from '../upstream/upstreams.ts';
import { createBuilders } from './builders.ts';
import { openRecipes } from './pulling.ts';
import { findBucketProblem } from './stored-content.ts';
import { openUpstreams } from './upstreams.ts';

interface ProbedUpstream {
  readonly name: string;
  /** Undefined if there are none, or they cannot be checked. */
  readonly areCredentialsAccepted: boolean | undefined;
  /** The error of a request for a manifest that probably does not exist. */
  readonly fault: RegistryError | undefined;
}

const PATIENCE = { timeouts: { connectMs: 5_000, headersMs: 10_000, bodyMs: 10_000 }, retries: 0 };

/** Docker's own image for reading the rate limit: a HEAD does not count towards it. */
const HUB_PROBE = 'ratelimitpreview/test';

/** The configured upstreams, and the default one. */
export async function probeUpstreams(
  config: Config,
  { dockerConfigPath }: { readonly dockerConfigPath: string },
): Promise<readonly ProbedUpstream[]> {
  if (config.offline) return [];
  const observer = { onExchange() {}, onBreaker() {} };
  const deps = { config, log: pino({ level: 'silent' }), memory: createMemory(), now: () => new Date(), observer };
  const upstreams = openUpstreams({ ...deps, dockerConfigPath, patience: PATIENCE });
  const names = [...Object.keys(config.upstreams), config.defaultUpstream].map(normalizeName);
  try {
    const wanted = [...new Set(names)].filter(name => name !== 'none' && !upstreamsOffline(config, name));
    return await Promise.all(wanted.map(name => probe(name)));
  } finally {
    await upstreams.close();
  }

  async function probe(name: string): Promise<ProbedUpstream> {
    const repository = name === 'docker.io' ? HUB_PROBE : 'veneer-doctor/absent';
    try {
      const credentials = await upstreams.findCredentials(name, { isRead: true });
      const signal = AbortSignal.timeout(10_000);
      const areCredentialsAccepted = credentials && (await upstreams.checkCredentials(name, credentials, signal));
      const fault = await upstreams
        .get(name)
        .headManifest(repository, 'latest')
        .then(() => undefined, toFault);
      return { name, areCredentialsAccepted, fault };
    } catch (error) {
      return { name, areCredentialsAccepted: undefined, fault: toFault(error) };
    }
  }
}

function upstreamsOffline({ upstreams }: Config, name: string): boolean {
  return Object.entries(upstreams).some(([key, { offline }]) => offline && normalizeName(key) === name);
}

function toFault(error: unknown): RegistryError {
  if (error instanceof RegistryError) return error;
  throw error;
}

interface ProbedBuilder {
  readonly name: string;
  readonly kind: string;
  readonly fault?: string | undefined;
  /** Why it cannot execute RUN; undefined if it can, or does not respond. */
  readonly lacksRun?: string | undefined;
  readonly notes: readonly string[];
}

/** The configured builders, or the detected ones. */
export async function probeBuilders(config: Config, environment: Environment): Promise<readonly ProbedBuilder[]> {
  const unused = () => {
    throw new Error('nothing is built');
  };
  const contexts: ContextOffers = { offer: unused, open: unused };
  const builders = createBuilders({
    ...{ config, environment, contexts, log: pino({ level: 'silent' }) },
    embedded: { images: { resolve: unused, open: unused }, openDestination: unused },
  });
  // A minimal spec with a RUN, to see whether a builder supports it.
  const withRun = specSchema.parse({
    kind: 'containerfile',
    containerFile: 'FROM scratch\nRUN ["true"]\n',
    platforms: ['linux/amd64'],
    bases: {},
    target: { repository: 'local/doctor' },
  });
  try {
    return (await builders.list()).map(({ backend, fault }) => {
      const { name, kind } = backend;
      const isAsked = fault === undefined && withRun.kind === 'containerfile';
      const lacksRun = isAsked ? backend.findUnsupportedReason(withRun) : undefined;
      return { name, kind, fault, lacksRun, notes: backend.listNotes?.() ?? [] };
    });
  } finally {
    await builders.close();
  }
}

// Faults of what a valid configuration refers to, such as files and their contents. Starts nothing.

/** Empty if there are none. */
export async function findStartFaults(config: Config): Promise<readonly ConfigFault[]> {
  const { access, rules, builds, tls } = config;
  const checks = [
    () => checkBucket(config),
    ...(access ? [() => checkAccess(access), () => checkKey(access), () => checkUsers(access)] : []),
    () => void openRecipes(builds.recipes),
    ...(tls ? [() => void readTlsFiles(tls)] : []),
  ];
  const found = await Promise.all(checks.map(findFaults));
  return [...found.flat(), ...rules.flatMap(findMissingLayers)];
}

async function findFaults(check: () => Promise<void> | void): Promise<readonly ConfigFault[]> {
  try {
    await check();
    return [];
  } catch (error) {
    if (error instanceof AccessFault) return error.faults.map(message => ({ message }));
    if (error instanceof TlsFault) return [{ message: error.message }];
    if (error instanceof ConfigError) return error.details;
    throw error;
  }
}

async function checkBucket(config: Config): Promise<void> {
  const message = await findBucketProblem(config);
  if (message !== undefined) throw new ConfigError([{ key: 'content.s3', message }]);
}

function checkAccess(access: AccessOptions): void {
  const faults = findGrantFaults(access);
  if (faults.length > 0) throw new AccessFault(faults);
}

function checkKey({ signingKey }: AccessOptions): void {
  if (signingKey !== undefined) parseSigningKey(signingKey, 'access.signingKey');
}

async function checkUsers({ htpasswd }: AccessOptions): Promise<void> {
  if (htpasswd !== undefined) await openUserFile({ path: htpasswd, onFault() {} });
}

/** The service starts without them, and refuses images that need them. */
function findMissingLayers({ layers }: Config['rules'][number], at: number): readonly ConfigFault[] {
  return layers.flatMap((layer, index) => {
    const isMissing = (layer.kind === 'directory' || layer.kind === 'file') && !existsSync(layer.path);
    return isMissing ? [{ key: `rules.${at}.layers.${index}`, message: describeMissing(layer.path) }] : [];
  });
}
