// What the configured backends can build for now: asked of each, and believed for a while.
import type { Platform } from '../../oci/platform.ts';
import { type Backend, BackendUnavailable } from '../backend.ts';

/** A backend, and what it can build for; one that does not answer has no platforms, but the reason. */
export interface Offer {
  readonly backend: Backend;
  readonly platforms: readonly Platform[];
  readonly fault?: string;
}

export interface SurveyOptions {
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
  readonly onFault?: (name: string, error: unknown) => void;
}

/** In the configured order. */
type Survey = () => Promise<readonly Offer[]>;

export function createSurvey(backends: readonly Backend[], options: SurveyOptions = {}): Survey {
  const asks = backends.map(backend => remembered(() => ask(backend, options), options));
  return () => Promise.all(asks.map(offer => offer()));
}

async function ask(backend: Backend, options: SurveyOptions): Promise<Offer> {
  const { onUnavailable, onFault } = options;
  const timeoutMs = options.timeoutMs ?? backend.answerMs ?? 10_000;
  const signal = AbortSignal.timeout(timeoutMs);
  // Also one that does not heed the signal is waited for no longer.
  const late = new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  try {
    return { backend, platforms: await Promise.race([backend.listPlatforms(signal), late]) };
  } catch (error) {
    const fault = faultOf(error, timeoutMs);
    if (fault === FAULT) onFault?.(backend.name, error);
    else onUnavailable?.(backend.name, fault);
    return { backend, platforms: [], fault };
  }
}

const FAULT = 'it failed unexpectedly: the log of Veneer has the cause';

/** Anything else that it throws is a fault of ours, which is no reason to do without the others. */
function faultOf(error: unknown, timeoutMs: number): string {
  if (error instanceof BackendUnavailable) return error.message;
  if (error instanceof DOMException && error.name === 'TimeoutError') return `no answer within ${timeoutMs} ms`;
  return FAULT;
}

/** Asked once at a time. */
function remembered(work: () => Promise<Offer>, options: SurveyOptions): () => Promise<Offer> {
  const { freshMs = 60_000, retryMs = 5_000, now = () => new Date() } = options;
  let running: Promise<Offer> | undefined;
  let known: { readonly offer: Offer; readonly until: number } | undefined;

  async function renew(): Promise<Offer> {
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
