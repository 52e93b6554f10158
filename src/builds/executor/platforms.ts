// Which backend builds which platform: each is probed for its capabilities, and the answer is cached for a while.
import { distance } from 'fastest-levenshtein';
import { formatPlatform, isSamePlatform, type Platform, parsePlatform } from '../../oci/platform.ts';
import type { Backend } from '../backend.ts';
import { BackendUnavailable } from '../execution.ts';
import type { ContainerFileSpec } from '../spec.ts';

type Assigned = ReadonlyMap<Backend, readonly Platform[]>;

export interface Platforms {
  /** The platforms that each backend can currently build for, in the configured order. */
  list(): Promise<readonly Capabilities[]>;
  /**
   * The last answers, without waiting: backends are probed again in the background once theirs are old. Those that never answered are left
   * out.
   */
  listKnown(): readonly Capabilities[];
  /**
   * Assigns each platform to the first backend, in the configured order, that supports it and the spec. No backend has an empty list.
   * Throws UnsupportedPlatform unless each of the spec's platforms has a backend that is none of `without`.
   */
  assign(spec: ContainerFileSpec, without?: ReadonlySet<Backend>): Promise<Assigned>;
}

export function createPlatforms(backends: readonly Backend[], options: ProbeOptions = {}): Platforms {
  const probes = backends.map(backend => cached(() => probe(backend, options), options));
  const list = () => Promise.all(probes.map(({ ask }) => ask()));
  return {
    list,
    listKnown() {
      void list();
      return probes.map(({ last }) => last()).filter(capabilities => capabilities !== undefined);
    },
    async assign(spec, without = new Set()) {
      return assignPlatforms(
        spec,
        (await list()).filter(({ backend }) => !without.has(backend)),
      );
    },
  };
}

function assignPlatforms(spec: ContainerFileSpec, all: readonly Capabilities[]): Assigned {
  const able = all.filter(({ backend }) => backend.findUnsupportedReason(spec) === undefined);
  const assigned = new Map<Backend, Platform[]>();
  const missing: Platform[] = [];
  for (const platform of spec.platforms.map(parsePlatform)) {
    const backend = findBackend(platform, able);
    if (backend) assigned.set(backend, [...(assigned.get(backend) ?? []), platform]);
    else missing.push(platform);
  }
  if (missing.length > 0) throw new UnsupportedPlatform(missing, all, spec);
  return assigned;
}

function findBackend(platform: Platform, all: readonly Capabilities[]): Backend | undefined {
  return all.find(({ platforms }) => platforms.some(other => isSamePlatform(other, platform)))?.backend;
}

/** A backend with the platforms that it can build for: none, with the reason, if it does not answer. */
export interface Capabilities {
  readonly backend: Backend;
  readonly platforms: readonly Platform[];
  readonly fault?: string;
}

interface ProbeOptions {
  /** How long an answer is cached. */
  readonly freshMs?: number;
  /** How long a backend that did not answer is not asked again. */
  readonly retryMs?: number;
  /** How long a backend may take to answer. */
  readonly timeoutMs?: number;
  readonly now?: () => Date;
  /** Called each time that a backend does not answer. */
  readonly onUnavailable?: (name: string, reason: string) => void;
  /** Called with an unexpected error of a backend. */
  readonly onError?: (name: string, error: unknown) => void;
}

async function probe(backend: Backend, options: ProbeOptions): Promise<Capabilities> {
  const { onUnavailable, onError } = options;
  const timeoutMs = options.timeoutMs ?? backend.answerTimeoutMs ?? 10_000;
  const signal = AbortSignal.timeout(timeoutMs);
  // A backend that ignores the signal is not waited for either.
  const late = new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  try {
    return { backend, platforms: await Promise.race([backend.listPlatforms(signal), late]) };
  } catch (error) {
    const fault = faultOf(error, timeoutMs);
    if (fault === INTERNAL_ERROR) onError?.(backend.name, error);
    else onUnavailable?.(backend.name, fault);
    return { backend, platforms: [], fault };
  }
}

const INTERNAL_ERROR = 'internal error: the log of Veneer has the cause';

/** Any other error is a bug of ours, which must not affect the other backends. */
function faultOf(error: unknown, timeoutMs: number): string {
  if (error instanceof BackendUnavailable) return error.message;
  if (error instanceof DOMException && error.name === 'TimeoutError') return `no answer within ${timeoutMs} ms`;
  return INTERNAL_ERROR;
}

interface CachedProbe {
  ask(): Promise<Capabilities>;
  /** Whatever its age. */
  last(): Capabilities | undefined;
}

/** Caches the answer; a single flight at a time. */
function cached(work: () => Promise<Capabilities>, options: ProbeOptions): CachedProbe {
  const { freshMs = 60_000, retryMs = 5_000, now = () => new Date() } = options;
  let running: Promise<Capabilities> | undefined;
  let known: { readonly capabilities: Capabilities; readonly until: number } | undefined;

  async function refresh(): Promise<Capabilities> {
    const capabilities = await work();
    known = { capabilities, until: now().getTime() + (capabilities.fault === undefined ? freshMs : retryMs) };
    return capabilities;
  }

  return {
    last: () => known?.capabilities,
    async ask() {
      if (known && now().getTime() < known.until) return known.capabilities;
      running ??= refresh().finally(() => {
        running = undefined;
      });
      return running;
    },
  };
}

/** The message lists each platform that cannot be built, and those that can. */
export class UnsupportedPlatform extends Error {
  override readonly name = 'UnsupportedPlatform';
  readonly platforms: readonly Platform[];
  /** Whether a backend that might support it currently does not answer. */
  readonly isTransient: boolean;

  constructor(platforms: readonly Platform[], all: readonly Capabilities[], spec: ContainerFileSpec) {
    super([...platforms.map(describe), listAlternatives(platforms, all, spec)].join('; '));
    this.platforms = platforms;
    this.isTransient = all.some(({ fault }) => fault !== undefined);
  }
}

/** The common platforms of images, and other spellings of them. */
const KNOWN = [
  ...['linux/amd64', 'linux/arm64', 'linux/arm/v5', 'linux/arm/v6', 'linux/arm/v7', 'linux/386', 'linux/ppc64le'],
  ...[
    'linux/s390x',
    'linux/riscv64',
    'linux/loong64',
    'linux/mips64',
    'linux/mips64le',
    'windows/amd64',
    'windows/arm64',
  ],
  ...['linux/x86_64', 'linux/x86-64', 'linux/aarch64', 'linux/armhf', 'linux/armel', 'linux/i386'],
] as const;

const MAX_DISTANCE = 2;

function describe(platform: Platform): string {
  const meant = findMeant(platform);
  return `${formatPlatform(platform)} cannot be built here${meant === undefined ? '' : ` (did you mean ${meant}?)`}`;
}

/** The known platform with the closest spelling, unless none is close, or this is a known one. */
function findMeant(platform: Platform): string | undefined {
  const text = formatPlatform(platform);
  const [closest] = KNOWN.map(known => ({ known, far: distance(text, known) })).sort((a, b) => a.far - b.far);
  if (!closest || closest.far > MAX_DISTANCE) return undefined;
  const meant = parsePlatform(closest.known);
  return isSamePlatform(meant, platform) ? undefined : formatPlatform(meant);
}

function listAlternatives(missing: readonly Platform[], all: readonly Capabilities[], spec: ContainerFileSpec): string {
  if (all.length === 0) return 'no builder is configured';
  return all
    .map(capabilities => `${capabilities.backend.name} ${describeCapabilities(missing, capabilities, spec)}`)
    .join('; ');
}

function describeCapabilities(
  missing: readonly Platform[],
  { backend, platforms, fault }: Capabilities,
  spec: ContainerFileSpec,
) {
  if (fault !== undefined) return `does not answer: ${fault}`;
  const builds = `builds ${platforms.map(formatPlatform).join(', ') || 'nothing now'}`;
  const unsupported = missing.some(platform => platforms.some(other => isSamePlatform(other, platform)))
    ? backend.findUnsupportedReason(spec)
    : undefined;
  return unsupported === undefined ? builds : `${builds}, but not this: ${unsupported}`;
}
