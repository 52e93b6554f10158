// What an upstream has said that it has not: for a short while it is not asked again, however many clients ask us.
import { LRUCache } from 'lru-cache';
import { RegistryError } from '../../oci/errors.ts';

/** Does the work, unless it ended with a 404 a moment ago: then throws that again. What has been pushed since is looked for all the same. */
export type UnlessAbsent = <T>(key: string, work: () => Promise<T>, isPushed?: boolean) => Promise<T>;

export interface AbsencesOptions {
  /** How long a 404 is remembered, in milliseconds. */
  readonly memoryMs: number;
  readonly now: () => Date;
}

interface Absence {
  readonly error: RegistryError;
  readonly since: number;
}

const MAX_ABSENCES = 10_000;

export function createAbsences({ memoryMs, now }: AbsencesOptions): UnlessAbsent {
  const absences = new LRUCache<string, Absence>({ max: MAX_ABSENCES });

  function find(key: string): RegistryError | undefined {
    const { error, since = 0 } = absences.get(key) ?? {};
    const ageMs = now().getTime() - since;
    return ageMs >= 0 && ageMs < memoryMs ? error : undefined;
  }

  return async (key, work, isPushed = false) => {
    const known = isPushed ? undefined : find(key);
    if (known) throw known;
    try {
      const found = await work();
      absences.delete(key);
      return found;
    } catch (error) {
      if (error instanceof RegistryError && error.status === 404) absences.set(key, { error, since: now().getTime() });
      throw error;
    }
  };
}
