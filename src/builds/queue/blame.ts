// Whether a build is why Veneer ends again and again. That the process was killed, by whoever or for want of the machine's memory, is nobody's
// fault; that it ended by itself is that of a build only when no other ran.
import { z } from 'zod';

export const blameSchema = z.object({
  /** Whether it runs: found so after a start, it ran when the process ended. A stop of the service says that it does not. */
  isRunning: z.boolean(),
  /** Whether it ran when the process ended by itself: from then on it runs alone. */
  isSuspect: z.boolean(),
  /** How often the process ended by itself while it ran alone. */
  crashes: z.int().nonnegative(),
});

export type Blame = z.infer<typeof blameSchema>;

export const NO_BLAME: Blame = { isRunning: false, isSuspect: false, crashes: 0 };

/** What the end of the process says of all builds that it has left under way, in their order. */
export function judge(left: readonly Blame[], endedByItself: boolean): readonly Blame[] {
  const isAlone = left.filter(({ isRunning }) => isRunning).length === 1;
  return left.map(blame => {
    const wasThere = blame.isRunning && endedByItself;
    return {
      isRunning: false,
      isSuspect: blame.isSuspect || wasThere,
      crashes: blame.crashes + (wasThere && isAlone ? 1 : 0),
    };
  });
}
