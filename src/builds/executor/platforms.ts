// Which backend builds which platform of a build: each is asked what it can build, and the answer is believed for a while.
import { distance } from 'fastest-levenshtein';
import { formatPlatform, isSamePlatform, type Platform, parsePlatform } from '../../oci/platform.ts';
import type { Backend } from '../backend.ts';
import { BackendUnavailable } from '../execution.ts';
import type { ContainerFileSpec } from '../spec.ts';

type Assigned = ReadonlyMap<Backend, readonly Platform[]>;

export interface Platforms {
  /** What can be built for now, in the configured order of the backends. */
  list(): Promise<readonly Capabilities[]>;
  /**
   * Who builds what: each platform goes to the first backend, in the configured order, that has it and can do the spec. No backend has
   * an empty list. Throws UnsupportedPlatform unless each of the spec's platforms has a backend that is none of `without`.
   */
  assign(spec: ContainerFileSpec, without?: ReadonlySet<Backend>): Promise<Assigned>;
}

export function createPlatforms(backends: readonly Backend[], options: ProbeOptions = {}): Platforms {
  const list = createCapabilityProbe(backends, options);
  return {
    list,
    async assign(spec, without = new Set()) {
      return assignOffers(
        spec,
        (await list()).filter(({ backend }) => !without.has(backend)),
      );
    },
  };
}

function assignOffers(spec: ContainerFileSpec, offers: readonly Capabilities[]): Assigned {
  const able = offers.filter(({ backend }) => backend.findUnsupportedReason(spec) === undefined);
  const assigned = new Map<Backend, Platform[]>();
  const missing: Platform[] = [];
  for (const platform of spec.platforms.map(parsePlatform)) {
    const backend = findBackend(platform, able);
    if (backend) assigned.set(backend, [...(assigned.get(backend) ?? []), platform]);
    else missing.push(platform);
  }
  if (missing.length > 0) throw new UnsupportedPlatform(missing, offers, spec);
  return assigned;
}

function findBackend(platform: Platform, offers: readonly Capabilities[]): Backend | undefined {
  return offers.find(({ platforms }) => platforms.some(other => isSamePlatform(other, platform)))?.backend;
}

/** A backend, and what it can build for; one that does not answer has no platforms, but the reason. */
export interface Capabilities {
  readonly backend: Backend;
  readonly platforms: readonly Platform[];
  readonly fault?: string;
}

interface ProbeOptions {
  /** How long an answer is believed. */
  readonly freshMs?: number;
  /** How long a backend that did not answer is left in peace. */
  readonly retryMs?: number;
  /** How long a backend may take to answer. */
  readonly timeoutMs?: number;
  readonly now?: () => Date;
  /** Hears of a backend each time that it does not answer. */
  readonly onUnavailable?: (name: string, reason: string) => void;
  /** Hears of what a backend threw that nobody has foreseen. */
  readonly onError?: (name: string, error: unknown) => void;
}

/** In the configured order. */
type Survey = () => Promise<readonly Capabilities[]>;

function createCapabilityProbe(backends: readonly Backend[], options: ProbeOptions = {}): Survey {
  const asks = backends.map(backend => remembered(() => ask(backend, options), options));
  return () => Promise.all(asks.map(offer => offer()));
}

async function ask(backend: Backend, options: ProbeOptions): Promise<Capabilities> {
  const { onUnavailable, onError } = options;
  const timeoutMs = options.timeoutMs ?? backend.answerTimeoutMs ?? 10_000;
  const signal = AbortSignal.timeout(timeoutMs);
  // Also one that does not heed the signal is waited for no longer.
  const late = new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  try {
    return { backend, platforms: await Promise.race([backend.listPlatforms(signal), late]) };
  } catch (error) {
    const fault = faultOf(error, timeoutMs);
    if (fault === FAULT) onError?.(backend.name, error);
    else onUnavailable?.(backend.name, fault);
    return { backend, platforms: [], fault };
  }
}

const FAULT = 'internal error: the log of Veneer has the cause';

/** Anything else that it throws is a fault of ours, which is no reason to do without the others. */
function faultOf(error: unknown, timeoutMs: number): string {
  if (error instanceof BackendUnavailable) return error.message;
  if (error instanceof DOMException && error.name === 'TimeoutError') return `no answer within ${timeoutMs} ms`;
  return FAULT;
}

/** Asked once at a time. */
function remembered(work: () => Promise<Capabilities>, options: ProbeOptions): () => Promise<Capabilities> {
  const { freshMs = 60_000, retryMs = 5_000, now = () => new Date() } = options;
  let running: Promise<Capabilities> | undefined;
  let known: { readonly offer: Capabilities; readonly until: number } | undefined;

  async function renew(): Promise<Capabilities> {
    const offer = await work();
    known = { offer, until: now().getTime() + (offer.fault === undefined ? freshMs : retryMs) };
    return offer;
  }

  return async () => {
    if (known && now().getTime() < known.until) return known.offer;
    running ??= renew().finally(() => {
      running = undefined;
    });
    return running;
  };
}

/** `message` is for people: each platform that cannot be built, and what can. */
export class UnsupportedPlatform extends Error {
  override readonly name = 'UnsupportedPlatform';
  readonly platforms: readonly Platform[];
  /** Whether a backend that might have done it does not answer now. */
  readonly isPassing: boolean;

  constructor(platforms: readonly Platform[], offers: readonly Capabilities[], spec: ContainerFileSpec) {
    super([...platforms.map(describe), listOffers(platforms, offers, spec)].join('; '));
    this.platforms = platforms;
    this.isPassing = offers.some(({ fault }) => fault !== undefined);
  }
}

/** What images are commonly made for, and other spellings of the same. */
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

/** The known platform whose spelling is closest, unless none is close, or it is one already. */
function findMeant(platform: Platform): string | undefined {
  const text = formatPlatform(platform);
  const [closest] = KNOWN.map(known => ({ known, far: distance(text, known) })).sort((a, b) => a.far - b.far);
  if (!closest || closest.far > MAX_DISTANCE) return undefined;
  const meant = parsePlatform(closest.known);
  return isSamePlatform(meant, platform) ? undefined : formatPlatform(meant);
}

function listOffers(missing: readonly Platform[], offers: readonly Capabilities[], spec: ContainerFileSpec): string {
  if (offers.length === 0) return 'no builder is configured';
  return offers.map(offer => `${offer.backend.name} ${describeOffer(missing, offer, spec)}`).join('; ');
}

function describeOffer(
  missing: readonly Platform[],
  { backend, platforms, fault }: Capabilities,
  spec: ContainerFileSpec,
) {
  if (fault !== undefined) return `does not answer: ${fault}`;
  const builds = `builds ${platforms.map(formatPlatform).join(', ') || 'nothing now'}`;
  const obstacle = missing.some(platform => platforms.some(other => isSamePlatform(other, platform)))
    ? backend.findUnsupportedReason(spec)
    : undefined;
  return obstacle === undefined ? builds : `${builds}, but not this: ${obstacle}`;
}
