// Requests at a rate: each gets its turn, in order, and one that would wait for too long is refused at once.
import { RegistryError } from '../oci/errors.ts';
import type { Clock } from './clock.ts';

export interface Rate {
  readonly count: number;
  readonly perMs: number;
}

export interface TurnsOptions {
  /** The upstream, for messages. */
  readonly name: string;
  readonly rate: Rate;
  readonly clock: Clock;
}

/** TOOMANYREQUESTS of our own, with its Retry-After: the upstream was not asked. */
export class OutOfTurn extends RegistryError {}

/** Waits for the next turn. Throws OutOfTurn where that is too far away, or the signal's reason. */
export type TakeTurn = (signal?: AbortSignal) => Promise<void>;

/** Clients give up on what says nothing for longer. */
const MAX_WAIT_MS = 30_000;

/** At most `count` requests in any stretch of `perMs`. */
export function createTurns({ name, rate: { count, perMs }, clock }: TurnsOptions): TakeTurn {
  /** The times of the last `count` turns, the oldest first; those of who waits are to come. */
  let turns: number[] = [];
  return async signal => {
    const now = clock.now().getTime();
    // The clock was set back: what it said before counts no more.
    if ((turns.at(-1) ?? now) > now + MAX_WAIT_MS) turns = [];
    const earliest = turns.length < count ? now : (turns[0] ?? now) + perMs;
    const waitMs = Math.max(0, earliest - now);
    if (waitMs > MAX_WAIT_MS) {
      const reason = `${count} requests in ${Math.ceil(perMs / 1000)} seconds are all that it is asked`;
      const retryAfterSeconds = Math.ceil(waitMs / 1000);
      throw new OutOfTurn('TOOMANYREQUESTS', `${name}: ${reason}`, { retryAfterSeconds });
    }
    turns.push(now + waitMs);
    if (turns.length > count) turns.shift();
    if (waitMs > 0) await clock.wait(waitMs, signal);
  };
}
