// What is told of a build while it runs: one entry is one line of its stored log.
import { z } from 'zod';

export const logEntrySchema = z.object({
  at: z.iso.datetime(),
  /** `step`: one begins or ends. `output`: a line that a step printed. `note`: what Veneer itself has to say. */
  kind: z.enum(['step', 'output', 'note']),
  /** Normalised; absent where it is about all of them. */
  platform: z.string().optional(),
  /** The step's name, such as `[linux/arm64 2/3] RUN make`. */
  step: z.string().optional(),
  /** Of a step. */
  state: z.enum(['started', 'done', 'cached', 'failed']).optional(),
  /** One line, without its line break. */
  text: z.string().optional(),
  /** Bytes or parts done of a step that counts them. */
  progress: z.object({ current: z.number(), total: z.number().optional() }).optional(),
});

export type LogEntry = z.infer<typeof logEntrySchema>;
/** An entry before it gets its time. */
export type Told = Omit<LogEntry, 'at'>;
/** Must not throw; what it is told may hold secrets, and is redacted behind it. */
export type Tell = (told: Told) => void;
/**
 * How to tell what a builder has from its beginning, as much of it as may have been told before the service was started again: what the log has behind
 * the note of this text is left out.
 */
export type Resume = (note: string) => Promise<Tell>;
