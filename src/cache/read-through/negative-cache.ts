// Negative cache: what an upstream does not have is not asked for again for a short while, however many clients ask.
import type { Memory } from '../../memory.ts';
import { RegistryError } from '../../oci/errors.ts';

/** Runs `work`, unless it recently ended with a 404, which is then thrown again. Content pushed since is always looked up. */
export type NegativeCache = <T>(key: string, work: () => Promise<T>, isPushed?: boolean) => Promise<T>;

/** The contents of the error: the error itself may retain a response. */
interface Absence extends Pick<RegistryError, 'code' | 'message' | 'detail'> {
  readonly since: number;
}

export function createNegativeCache({
  memoryMs,
  now,
  memory,
}: {
  /** How long a 404 is cached, in milliseconds. */
  readonly memoryMs: number;
  readonly now: () => Date;
  readonly memory: Memory;
}): NegativeCache {
  const absences = memory.openCache<Absence>();

  function find(key: string): RegistryError | undefined {
    const absence = absences.get(key);
    if (!absence) return undefined;
    const { code, message, detail, since } = absence;
    const ageMs = now().getTime() - since;
    return ageMs >= 0 && ageMs < memoryMs ? new RegistryError(code, message, { status: 404, detail }) : undefined;
  }

  return async (key, work, isPushed = false) => {
    const known = isPushed ? undefined : find(key);
    if (known) throw known;
    try {
      const found = await work();
      absences.delete(key);
      return found;
    } catch (error) {
      if (error instanceof RegistryError && error.status === 404) {
        const { code, message, detail } = error;
        absences.set(key, { code, message, detail, since: now().getTime() });
      }
      throw error;
    }
  };
}
